"""Optimizers, and which collections of variables they train."""

import dataclasses
from collections.abc import Mapping

import jax
import optax

from tcljax.checks import check_choice, check_count, check_finite
from tcljax.layers.collections import COLLECTIONS, RAW_THRESHOLD, Thresholds, Variables
from tcljax.maths import clipping

OPTIMIZERS = ("sgd", "adamw", "lamb")
_ABSOLUTE = ("sgd", "adamw")  # whose steps are not shares of what they move


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An optimizer with its schedule: linear warm-up, then a cosine down to zero.

  Attributes:
    name: "sgd" (with momentum), "adamw", or "lamb" (You et al., ICLR 2020), which is AdamW with
      steps that are shares of the norm of each array. It is for weights that are trained already.
      BatchNorm divides by the scale of a kernel, so networks that do the same have kernels of any
      scale, and steps of one size suit some of them and destroy others.
    learning_rate: at the peak; of thresholds a share of them, as log(tau) is moved.
    warmup_steps: steps of linear warm-up from zero.
    momentum: of SGD, Nesterov's.
    weight_decay: added to the gradient by SGD, decoupled in AdamW and LAMB; spares vectors and
      scalars, that is biases and norms, and all thresholds and initial potentials.
    clip_norm: largest norm of the gradient, of thresholds that to log(tau); 0 for no limit.

  Raises:
    ValueError: naming the field, its value and the remedy.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> config = tcljax.OptimizerConfig("sgd", learning_rate=0.1, momentum=0.0)
    >>> optimizer = config.transformation(steps=10)  # of optax
    >>> weight, gradient = jnp.ones(1), jnp.full(1, 2.0)
    >>> update, _ = optimizer.update(gradient, optimizer.init(weight), weight)
    >>> round(float(update[0]), 4)  # -0.1 * 2
    -0.2
  """

  name: str = "sgd"
  learning_rate: float = 0.1
  warmup_steps: int = 0
  momentum: float = 0.9
  weight_decay: float = 0.0
  clip_norm: float = 0.0

  def __post_init__(self) -> None:
    check_choice("name", self.name, OPTIMIZERS)
    check_count("warmup_steps", self.warmup_steps, 0)
    for field in ("learning_rate", "momentum", "weight_decay", "clip_norm"):
      check_finite(field, getattr(self, field))

  def transformation(self, steps: int) -> optax.GradientTransformation:
    """The optimizer for a run of `steps` steps."""
    schedule = optax.warmup_cosine_decay_schedule(
      init_value=0.0 if self.warmup_steps else self.learning_rate,
      peak_value=self.learning_rate,
      warmup_steps=self.warmup_steps,
      decay_steps=max(steps, self.warmup_steps + 1),
    )
    if self.name == "adamw":
      update = optax.adamw(schedule, weight_decay=self.weight_decay, mask=_decayed)
    elif self.name == "lamb":
      update = optax.lamb(schedule, weight_decay=self.weight_decay, mask=_decayed)
    else:
      update = optax.chain(
        optax.add_decayed_weights(self.weight_decay, mask=_decayed),
        optax.sgd(schedule, self.momentum, nesterov=True),
      )
    limit = optax.clip_by_global_norm(self.clip_norm) if self.clip_norm else optax.identity()
    return optax.chain(limit, update)


def check_of_thresholds(name: str, config: OptimizerConfig) -> None:
  """Raises ValueError, with the name of the field, on an optimizer that is for weights alone."""
  _check_no_shares(
    name, config, "the learning rate of thresholds is a share of them with any optimizer"
  )


def check_from_scratch(name: str, config: OptimizerConfig) -> None:
  """Raises ValueError, with the name of the field, on an optimizer that wants trained weights."""
  _check_no_shares(name, config, "arrays that begin at zero, as biases do, would stay there")


def _check_no_shares(name, config, why):
  if config.name not in _ABSOLUTE:
    raise ValueError(
      f"{name}.name={config.name!r} is for trained weights: {why}; choose one of "
      f"{', '.join(_ABSOLUTE)}"
    )


def _decayed(tree):
  """Which arrays weight decay draws towards zero."""

  def decays(path, a):
    # Initial potentials that come in instalments have two axes, as weights do.
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return a.ndim > 1 and name not in Thresholds._fields

  return jax.tree_util.tree_map_with_path(decays, tree)


def on_logarithms(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
  """An optimizer that moves log(tau) where it would move the number that stands for tau.

  It is given the gradients to log(tau), and what it adds is added to log(tau), to first order. So a
  learning rate is a share of the threshold, and a network whose activations reach 3,000 is tuned
  like one whose activations reach 3. Initial potentials are shares of V_th as they are.
  """

  def scaled(path, a, held):
    """A gradient or a step times d raw_threshold / d log(tau)."""
    if path[-1].key != RAW_THRESHOLD:
      return a
    return (a * clipping.threshold_from_raw(held) / jax.nn.sigmoid(held)).astype(a.dtype)

  def update(updates, state, params=None):
    gradients = jax.tree_util.tree_map_with_path(scaled, updates, params)
    updates, state = transformation.update(gradients, state, params)
    return jax.tree_util.tree_map_with_path(scaled, updates, params), state

  return optax.GradientTransformation(transformation.init, update)


def train_only(trained: Mapping[str, optax.GradientTransformation]) -> optax.GradientTransformation:
  """An optimizer over a dictionary of collections that moves only some of them.

  The others get no update and no optimizer state.

  Args:
    trained: for each collection that is trained, by its name, its optimizer.

  Raises:
    ValueError: by `init` and `update`, on a collection that no rule covers.
  """

  def labels(variables: Variables) -> dict[str, str]:
    unknown = sorted(set(variables) - set(COLLECTIONS))
    if unknown:
      raise ValueError(
        f"collection {unknown[0]!r} is neither trained nor frozen: the rules cover "
        f"{', '.join(COLLECTIONS)}"
      )
    return {c: c if c in trained else "freeze" for c in variables}

  return optax.partition({**trained, "freeze": optax.set_to_zero()}, labels)
