"""The activations a network can be given: `ReLU`, `TCL`, and `Quantized` for comparison.

The fourth, `IF`, has a module of its own.

A network takes the activation as a field and names each use of it:

    class Net(nn.Module):
      act: Callable[..., nn.Module] = tcljax.ReLU

      @nn.compact
      def __call__(self, x):
        x = self.act(name="act1")(nn.Dense(32)(x))
        return nn.Dense(10)(x)

`net.clone(act=tcljax.TCL)` is then the same network with clipping, and one set of variables serves
all three. The name is what ties a layer to its threshold, so leaving it out is an error.

Where maximum pooling follows the activation, it is given to it, as spikes take it otherwise than
numbers do: `self.act(name="act1", max_pool=tcljax.MaxPool(2))(x)`. Maximum pooling before the
activation is the same network, and is given to it too. So is an upper limit: ReLU6 is
`self.act(name="act1", bound=6.0)(x)`.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.checks import must_be
from tcljax.layers.collections import Path, Variables, new_thresholds, thresholds_of
from tcljax.maths import clipping, max_pooling
from tcljax.maths.max_pooling import CURRENTS, SPIKES, MaxPool
from tcljax.maths.values import check_bound


def check_module(field: str, model: Any) -> None:
  """Raises ValueError unless this is an instance of a Flax module, whatever its fields."""
  if not isinstance(model, nn.Module):
    within = isinstance(getattr(model, "model", None), nn.Module)
    converted = f": of a {type(model).__name__} give network.model, and network.variables with it"
    wanted = "an instance of a Flax Linen module, such as CNN(num_classes=10)"
    raise ValueError(must_be(field, model, wanted + (converted if within else "")))


def check_model(model: Any) -> None:
  """Raises ValueError unless this is an instance of a Flax module with a field `act`."""
  check_module("model", model)
  if "act" not in {field.name for field in dataclasses.fields(model)}:
    raise ValueError(
      f"{type(model).__name__} has no field 'act': give it `act: Callable = "
      "tcljax.ReLU` and apply self.act(name=...)(x) after each layer"
    )


def with_activation(model: nn.Module, act: Callable[..., nn.Module]) -> nn.Module:
  """The same network with another activation; every swap goes through here.

  Raises:
    ValueError: if the model is no instance of a Flax module, or has no field `act`.
  """
  check_model(model)
  return model.clone(act=act)


# A colon is for nodes of a graph, a slash for paths.
NAME = re.compile(r"[^/:\x00-\x1f\x7f\ud800-\udfff]{1,256}")


class Activation(nn.Module):
  """What all activations share: a name of their own, maximum pooling, and an upper limit.

  Shapes: [B, ...] to [B, ...]; with `max_pool` [B, H, W, C] to [B, H', W', C].

  Attributes:
    max_pool: windows of which only the largest activation is passed on; None passes on all. It also
      says whether the neurons come before the pooling or after it, which `IF` alone tells apart.
    bound: the activation's own upper limit, in activation units, such as 6 of ReLU6; None for none.
      Of neurons the smaller of tau and `bound` is the threshold.

  Raises:
    ValueError: when called without a name, or made of what is no `MaxPool`, such as its input, or
      with a bound that is not finite and above 0.
  """

  max_pool: MaxPool | None = None
  bound: float | None = None

  def __post_init__(self) -> None:
    super().__post_init__()
    if not isinstance(self.max_pool, MaxPool | None):
      raise ValueError(
        f"max_pool is of type {type(self.max_pool).__name__} and must be a MaxPool: name the "
        "activation first, then apply it, self.act(name='act1')(x)"
      )
    if self.bound is not None:
      check_bound(self.bound)
      object.__setattr__(self, "bound", float(self.bound))

  def pools(self, what: str) -> bool:
    """Whether the spiking network pools these, see `MaxPool.of`."""
    return self.max_pool is not None and self.max_pool.of == what

  def pooled(self, x: jax.Array, what: str | None = None) -> jax.Array:
    """The maximum of each window; `x` where nothing is to be pooled, or something else than this.

    Args:
      x: [B, ...].
      what: one of `max_pooling.POOLED`; None for both.
    """
    if self.max_pool is None or what not in (None, self.max_pool.of):
      return x
    return max_pooling.max_pool(x, self.max_pool)

  def activate(self, x: jax.Array) -> jax.Array:
    """min(max(x, 0), bound), without pooling: what neurons stand for."""
    return nn.relu(x) if self.bound is None else clipping.clip(x, self.bound)

  def check_name(self) -> None:
    """Raises ValueError unless the activation was given a name."""
    # Linen would name ReLU_0, TCL_0 and IF_0 apart, and the thresholds would not be found again.
    if self.name is None or re.fullmatch(rf"{type(self).__name__}_\d+", self.name):
      raise ValueError(
        f"activation {self.name!r} has no name of its own: write self.act(name='act1')(x), "
        "so that ReLU, TCL and IF share one threshold"
      )
    if not NAME.fullmatch(self.name):
      raise ValueError(
        f"activation {self.name!r} has a name that no network can hold: use up to 256 letters, "
        "without ':' and '/'"
      )

  def check_first_use(self, collection: str, variable: str) -> None:
    """Raises ValueError if this call already left `variable` in `collection`."""
    if self.has_variable(collection, variable):
      raise ValueError(
        f"activation {'/'.join(self.path)!r} is used twice: give each use a name of its own"
      )


class ReLU(Activation):
  """max(x, 0), or min(max(x, 0), bound); the activation of phase 1.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> tcljax.ReLU(name="act1").apply({}, jnp.array([[-1.0, 0.5, 3.0]])).tolist()
    [[0.0, 0.5, 3.0]]
    >>> tcljax.ReLU(name="act1", bound=2.0).apply({}, jnp.array([[-1.0, 0.5, 3.0]])).tolist()
    [[0.0, 0.5, 2.0]]
  """

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Activations of pre-activations, [B, ...], pooled."""
    self.check_name()
    return self.pooled(self.activate(self.pooled(x, CURRENTS)), SPIKES)


def activation_paths(model: nn.Module, variables: Variables, x: Any) -> list[Path]:
  """The paths of a model's activations in the order in which it applies them.

  Args:
    model: a network with a field `act`.
    variables: its variables; `clipping` is not needed.
    x: inputs [B, ...], or their shape and type; nothing is computed.
  """
  paths = []

  def remember(call, args, kwargs, context):
    if isinstance(context.module, ReLU) and context.method_name == "__call__":
      paths.append(context.module.path)
    return call(*args, **kwargs)

  def run(variables, x):
    with nn.intercept_methods(remember):
      return with_activation(model, ReLU).apply(variables, x)

  jax.eval_shape(run, variables, x)
  return paths


class Clipped(Activation):
  """Base of the activations with a threshold, which lives in the collection `clipping`.

  Attributes:
    per_channel: whether a fresh `init` makes one threshold a channel (the last axis) or a layer.
    threshold: tau of a fresh `init`, in activation units.
    v_init: initial membrane potential of a fresh `init`, as a fraction of V_th: of tau, or of
      tau / burst.
    instalments: in how many parts a fresh `init` has it delivered, see `clipping.instalments`.
  """

  per_channel: bool = False
  threshold: float = 1.0
  v_init: float = 0.5
  instalments: int = 1

  def thresholds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The threshold, a scalar or [C], and the instalments of v_init, [S] or [S, C].

    The threshold is tau, or `bound` where that is smaller. The variables are made on `init` and
    read ever after.
    """
    self.check_name()

    def fresh():
      raw = clipping.raw_from_threshold(self.threshold)
      shape = x.shape[-1:] if self.per_channel else ()
      return new_thresholds(jnp.full(shape, raw, jnp.float32), self.v_init, self.instalments)

    held = thresholds_of(self, fresh)
    tau, parts = clipping.bounded(held.tau, self.bound), held.instalments
    for found in (tau.shape, parts.shape[1:]):
      if found not in ((), x.shape[-1:]):
        raise ValueError(
          f"activation {'/'.join(self.path)!r} has {x.shape[-1]} channels, but its thresholds "
          f"have shape {found}: calibrate this model anew"
        )
    return tau, parts


class TCL(Clipped):
  """min(max(x, 0), tau) with trained tau (Ho & Chang, DAC 2021).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> x = jnp.array([[-1.0, 0.5, 3.0]])
    >>> act = tcljax.TCL(name="act1", threshold=2.0)
    >>> variables = act.init(jax.random.key(0), x)  # the collection `clipping`
    >>> act.apply(variables, x).round(4).tolist()
    [[0.0, 0.5, 2.0]]
  """

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Clipped activations of pre-activations, [B, ...], pooled."""
    threshold, _ = self.thresholds(x)
    return self.pooled(clipping.clip(x, threshold))


class Quantized(Clipped):
  """What `IF` makes of a constant current in T steps: the reference without uneven spikes.

  Computes `tcljax.quantized_clip`.

  Attributes:
    time_steps: T.
    burst: the most spikes of a step, see `tcljax.Neuron`.
    phase: the steps of a period, see there.
    shift: initial potential as a fraction of V_th; None for what the neurons' own add up to.
  """

  time_steps: int = 8
  burst: int = 1
  phase: int = 1
  shift: float | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Quantized activations of pre-activations, [B, ...], pooled."""
    threshold, v_init = self.thresholds(x)
    shift = v_init[: self.time_steps].sum(axis=0) if self.shift is None else self.shift
    count = self.time_steps, shift, self.burst, self.phase
    return self.pooled(clipping.quantized_clip(x, threshold, *count))
