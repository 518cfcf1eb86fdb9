"""Losses: functions of outputs, and of what they are to be, to a number."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from tcljax.simulation.outputs import class_logits

NEGLIGIBLE = 1e-6  # a loss, in nats, that is not worth making smaller


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Mean cross-entropy of logits [B, ..., C] with class numbers [B, ...], smoothed to uniform.

  Of logits [B, ..., 1] the binary cross-entropy of their sigmoid.
  """
  logits = class_logits(logits)
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(logits, targets).mean()


def distillation(logits: jax.Array, teacher: jax.Array) -> jax.Array:
  """Mean Kullback-Leibler divergence of softmax(logits) from softmax(teacher), both [B, ..., C].

  Over all examples and positions. Hinton et al. (2015) at temperature 1; zero where the two agree.
  Of [B, ..., 1] the divergence of Bernoulli distributions with the sigmoids as their means.
  """
  logits, teacher = class_logits(logits), class_logits(jax.lax.stop_gradient(teacher))
  return optax.kl_divergence(jax.nn.log_softmax(logits), jax.nn.softmax(teacher)).mean()


def squared_error(outputs: jax.Array, teacher: jax.Array) -> jax.Array:
  """Mean square of outputs - teacher, both [B, ...]: for outputs that are quantities, not logits.

  A softmax or sigmoid of such outputs may be sure whatever their errors.
  """
  return jnp.mean(jnp.square(outputs - jax.lax.stop_gradient(teacher)))


def relative_error(outputs: jax.Array, teacher: jax.Array) -> jax.Array:
  """`squared_error` as a share of the teacher's mean square.

  So it has no unit, and goes into a sum with the losses of other outputs.
  """
  scale = jnp.mean(jnp.square(jax.lax.stop_gradient(teacher)))
  return squared_error(outputs, teacher) / jnp.maximum(scale, jnp.finfo(scale.dtype).tiny)


def negligible(kinds: str | Sequence[str], outputs: Any) -> ArrayLike:
  """What a loss in these answers is not worth making smaller than, in its own unit.

  Args:
    kinds: of the loss, as `snn_objective` takes them.
    outputs: what the answers are to be, in a tree where there are several.
  """
  first, *others = jax.tree.leaves(outputs)
  if others or "squared_error" not in ([kinds] if isinstance(kinds, str) else kinds):
    return NEGLIGIBLE
  square = jnp.mean(jnp.square(jax.lax.stop_gradient(first).astype(jnp.float32)))
  return jnp.maximum(NEGLIGIBLE * square, jnp.finfo(jnp.float32).tiny)


def geometric_mean(
  losses: jax.Array, least: ArrayLike = NEGLIGIBLE, weights: ArrayLike | None = None
) -> jax.Array:
  """Of losses at several numbers of steps, or of several kinds, [N].

  What counts is by which factor each of them falls. At T = 4 a loss may be ten times that at
  T = 16, and would be nearly all of their sum. One that has come down to `least`, a number for all
  or [N], has no gradient any more. `weights`, [N] with the sum 1, are even by default.
  """
  if len(losses) == 1:  # to the bit, and with no limit to how small it may become
    return losses[0]
  logarithms = jnp.log(jnp.maximum(losses, least))
  mean = jnp.mean(logarithms) if weights is None else jnp.sum(weights * logarithms)
  return jnp.exp(mean)
