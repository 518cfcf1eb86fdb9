"""The activations a network can be given: `ReLU`, `TCL` and `IF`, and `Quantized` for comparison.

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
numbers do: `self.act(name="act1", max_pool=tcljax.MaxPool(2))(x)`.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.maths import clipping, max_pooling, neurons
from tcljax.maths.max_pooling import MaxPool
from tcljax.maths.neurons import Neuron


def with_activation(model: nn.Module, act: Callable[..., nn.Module]) -> nn.Module:
  """The same network with another activation; every swap goes through here.

  Raises:
    ValueError: if the model has no field `act`.
  """
  if "act" not in {field.name for field in dataclasses.fields(model)}:
    raise ValueError(
      f"{type(model).__name__} has no field 'act': give it `act: Callable = "
      "tcljax.ReLU` and apply self.act(name=...)(x) after each layer"
    )
  return model.clone(act=act)


class Activation(nn.Module):
  """What the three share: a name of its own, and maximum pooling after it.

  Shapes: [B, ...] to [B, ...]; with `max_pool` [B, H, W, C] to [B, H', W', C].

  Attributes:
    max_pool: windows of which only the largest activation is passed on; None passes on all.

  Raises:
    ValueError: when called without a name.
  """

  max_pool: MaxPool | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Activations of pre-activations, [B, ...], pooled."""
    return self.pooled(self.activate(x))

  def activate(self, x: jax.Array) -> jax.Array:
    """Activations of pre-activations, in their shape."""
    raise NotImplementedError

  def pooled(self, x: jax.Array) -> jax.Array:
    """The maximum of each window, or `x` where nothing is to be pooled."""
    return x if self.max_pool is None else max_pooling.max_pool(x, self.max_pool)

  def check_name(self) -> None:
    """Raises ValueError unless the activation was given a name."""
    # Linen would name ReLU_0, TCL_0 and IF_0 apart, and the thresholds would not be found again.
    if self.name is None or re.fullmatch(rf"{type(self).__name__}_\d+", self.name):
      raise ValueError(
        f"activation {self.name!r} has no name of its own: write self.act(name='act1')(x), "
        "so that ReLU, TCL and IF share one threshold"
      )

  def check_first_use(self, collection: str, variable: str) -> None:
    """Raises ValueError if this call already left `variable` in `collection`."""
    if self.has_variable(collection, variable):
      raise ValueError(
        f"activation {'/'.join(self.path)!r} is used twice: give each use a name of its own"
      )


class ReLU(Activation):
  """max(x, 0); the activation of phase 1."""

  def activate(self, x: jax.Array) -> jax.Array:
    """Activations of pre-activations, in their shape."""
    self.check_name()
    return nn.relu(x)


def activation_paths(model: nn.Module, variables: Any, x: Any) -> list[tuple[str, ...]]:
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
    v_init: initial membrane potential of a fresh `init`, as a fraction of tau.
    instalments: in how many parts a fresh `init` has it delivered, see `clipping.instalments`.
  """

  per_channel: bool = False
  threshold: float = 1.0
  v_init: float = 0.5
  instalments: int = 1

  def thresholds(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """tau, a scalar or [C], and the instalments of v_init, [S] or [S, C].

    The variables are made on `init` and read ever after.
    """
    self.check_name()
    if not self.is_initializing() and not self.has_variable("clipping", "raw_threshold"):
      raise ValueError(
        f"no threshold for activation {'/'.join(self.path)!r} in the collection 'clipping': "
        "run tcljax.calibrate on this model first"
      )
    shape = x.shape[-1:] if self.per_channel else ()
    raw = self.variable(
      "clipping",
      "raw_threshold",
      lambda: jnp.full(shape, clipping.raw_from_threshold(self.threshold), jnp.float32),
    )
    parts = (self.instalments,) if self.instalments > 1 else ()
    v_init = self.variable(
      "clipping", "v_init", lambda: jnp.full(parts + shape, self.v_init, jnp.float32)
    )
    per_step = v_init.value.ndim > raw.value.ndim
    for found in (raw.value.shape, v_init.value.shape[1 if per_step else 0 :]):
      if found not in ((), x.shape[-1:]):
        raise ValueError(
          f"activation {'/'.join(self.path)!r} has {x.shape[-1]} channels, but its thresholds "
          f"have shape {found}: calibrate this model anew"
        )
    return (clipping.threshold_from_raw(raw.value), clipping.instalments(v_init.value, raw.value))


class TCL(Clipped):
  """min(max(x, 0), tau) with trained tau (Ho & Chang, DAC 2021)."""

  def activate(self, x: jax.Array) -> jax.Array:
    """Clipped activations of pre-activations, in their shape."""
    threshold, _ = self.thresholds(x)
    return clipping.clip(x, threshold)


class Quantized(Clipped):
  """What `IF` makes of a constant current in T steps: the reference without uneven spikes.

  Computes `tcljax.quantized_clip`.

  Attributes:
    time_steps: T.
    shift: initial potential as a fraction of tau; None for what the neurons' own add up to.
  """

  time_steps: int = 8
  shift: float | None = None

  def activate(self, x: jax.Array) -> jax.Array:
    """Quantized activations of pre-activations, in their shape."""
    threshold, v_init = self.thresholds(x)
    shift = v_init[: self.time_steps].sum(axis=0) if self.shift is None else self.shift
    return clipping.quantized_clip(x, threshold, self.time_steps, shift)


class IF(Clipped):
  """Integrate-and-fire neurons over `chunk` time steps folded into the batch.

  Takes input currents [K*B, ...], step-major, and gives spikes of height tau in the same shape.
  The potentials [B, ...] are carried in the collection `membrane`. A call that finds none there
  only creates them, at v_init * tau, and runs no step; so the first call sets the state up and
  every later one continues from it (`tcljax.simulate` does both). Where v_init comes in
  instalments, the first is the initial potential and each later one is added in its step.

  With `max_pool` the neurons gate: `tcljax.maths.max_pooling.gate` passes on [K*B, H', W', C], and
  the spikes that each neuron has fired are carried as `counts` beside the potentials. What
  observers see are the spikes of all neurons, whether they pass or not.

  If the collection `spikes` is mutable, the spikes of each step and example, summed over the
  neurons, are left there as `count`, [K, B]. If the collection `totals` is mutable, the currents
  and spikes of each neuron are added up there over all calls, as `current` and `spikes`, [B, ...].

  Attributes:
    chunk: K.
    neuron: its reset and surrogate gradient.
  """

  chunk: int = 1
  neuron: Neuron = Neuron()

  @nn.compact
  def __call__(self, currents: jax.Array) -> jax.Array:
    """Spikes of height tau from input currents, both [K*B, ...], those that pass the gate."""
    threshold, v_init = self.thresholds(currents)
    charges = jax.vmap(lambda part: part * threshold)(v_init)
    charges = charges.reshape(len(v_init), *[1] * (currents.ndim - 1), -1)  # [S, 1, ..., 1, C]
    threshold = clipping.per_channel_view(threshold, currents.ndim)
    # Potentials stay in float32 whatever the precision of the layers: they are long sums.
    unfolded = currents.astype(jnp.float32).reshape(self.chunk, -1, *currents.shape[1:])
    running = self.has_variable("membrane", "v")
    v = self.variable("membrane", "v", lambda: jnp.zeros_like(unfolded[0]) + charges[0])
    step = self.variable("membrane", "step", lambda: jnp.zeros((), jnp.int32))
    if self.max_pool is not None:
      counts = self.variable("membrane", "counts", jnp.zeros_like, v.value)
    totals = {}
    if self.is_mutable_collection("totals"):
      totals = {
        name: self.variable("totals", name, jnp.zeros_like, v.value)
        for name in ("current", "spikes")
      }
    if not running:
      return self.pooled(currents)
    spikes, v.value = neurons.integrate(
      self._with_charges(unfolded, charges, step.value),
      v.value,
      threshold,
      self.neuron,
    )
    step.value = step.value + self.chunk
    for name, total in totals.items():
      total.value = total.value + {"current": unfolded, "spikes": spikes}[name].sum(axis=0)
    self.check_first_use("spikes", "count")
    self.sow(
      "spikes",
      "count",
      spikes.sum(axis=range(2, spikes.ndim)),
      init_fn=lambda: None,
      reduce_fn=lambda _, new: new,
    )
    if self.max_pool is not None:
      spikes, counts.value = max_pooling.gate(spikes, counts.value, self.max_pool)
    return (spikes.reshape(-1, *spikes.shape[2:]) * threshold).astype(currents.dtype)

  def _with_charges(self, currents, charges, step):
    """Currents [K, B, ...] from `step` on, with the instalments that fall into these steps."""
    if len(charges) == 1:
      return currents
    none = jnp.zeros_like(charges[:1])
    padded = jnp.concatenate([none, charges[1:], *[none] * self.chunk])
    return currents + jax.lax.dynamic_slice_in_dim(
      padded, jnp.minimum(step, len(charges)), self.chunk
    )
