"""Clipping thresholds: their parametrisation, the clip, and what T steps make of it.

Thresholds are scalars (one a layer) or [C] (one a channel, the last axis of an activation).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from tcljax.checks import check_count
from tcljax.maths.inputs import as_numbers
from tcljax.maths.shapes import check_per_channel, check_shape
from tcljax.maths.values import check_threshold, check_v_init, floating_type, widened


def threshold_from_raw(raw: ArrayLike) -> jax.Array:
  """softplus(raw) = log(1 + exp(raw)): the threshold tau > 0 that a free parameter stands for.

  Args:
    raw: any shape.

  Returns:
    tau, in the same shape, in activation units.

  Raises:
    ValueError: if these are no real numbers.

  Examples:
    >>> import tcljax
    >>> round(float(tcljax.threshold_from_raw(0.0)), 4)  # log(2)
    0.6931
  """
  return jax.nn.softplus(jnp.asarray(as_numbers("raw", raw)))


def raw_from_threshold(threshold: ArrayLike) -> jax.Array:
  """Inverse of `threshold_from_raw`, stable for small and for large thresholds.

  Args:
    threshold: positive, any shape, in activation units.

  Returns:
    log(exp(threshold) - 1), written so that neither term overflows.

  Raises:
    ValueError: if a threshold is not finite and above 0.

  Examples:
    >>> import tcljax
    >>> raw = tcljax.raw_from_threshold(2.5)
    >>> round(float(tcljax.threshold_from_raw(raw)), 4)
    2.5
  """
  check_threshold(threshold)
  threshold = jnp.asarray(threshold)
  return threshold + jnp.log(-jnp.expm1(-threshold))


def bounded(threshold: ArrayLike, bound: float | None) -> jax.Array:
  """min(threshold, bound): of an activation that has an upper limit of its own, such as ReLU6.

  Args:
    threshold: tau, any shape.
    bound: None where there is none.

  Returns:
    The threshold that holds, in the shape of `threshold`. The gradient to it passes as if there
    were no bound: a threshold that was trained beyond its bound could never come back otherwise.
  """
  threshold = jnp.asarray(threshold)
  if bound is None:
    return threshold
  at_bound = bound + (threshold - jax.lax.stop_gradient(threshold))
  return jnp.where(threshold > bound, at_bound, threshold)


def per_channel_view(threshold: ArrayLike, ndim: int) -> jax.Array:
  """A scalar as it is, and a [C] threshold as [1, ..., 1, C] with `ndim` axes.

  Raises:
    ValueError: if the threshold is neither a scalar nor [C].
  """
  threshold = jnp.asarray(threshold)
  check_per_channel("threshold", threshold, threshold)
  return threshold.reshape((1,) * (ndim - 1) + (-1,)) if threshold.ndim else threshold


def instalments(v_init: ArrayLike, threshold: ArrayLike) -> jax.Array:
  """The parts in which neurons receive their initial potential, as fractions of V_th.

  Args:
    v_init: in the shape of `threshold`: all of it before the first step; or with one axis more in
      front, [S, ...]: v_init[0] before the first step, v_init[s] / S before each later step s + 1.
      The divisor lets all later parts together weigh, and train, as much as the first.
    threshold: tau, a scalar or [C].

  Returns:
    [S] or [S, C]; what they add up to is the v_init of `quantized_clip`.

  Raises:
    ValueError: if v_init, or one of its parts, has another shape than `threshold`.
  """
  v_init = jnp.asarray(v_init)
  shape = jnp.shape(threshold)
  if v_init.ndim <= len(shape):
    check_shape("v_init", v_init, shape, "threshold")
    return v_init[None]
  check_shape("v_init", v_init, (len(v_init), *shape), "threshold after its first axis")
  return v_init.at[1:].divide(len(v_init))


def clip(x: jax.Array, threshold: ArrayLike) -> jax.Array:
  """min(max(x, 0), threshold): the trainable clipping layer (Ho & Chang, DAC 2021, eq. 8).

  Args:
    x: pre-activations, [..., C], in activation units.
    threshold: tau > 0, a scalar or [C], in the same units.

  Returns:
    Clipped activations in the shape of `x`. The gradient to `x` is 1 where 0 < x < tau and 0
    elsewhere; the gradient to tau is 1 where x >= tau (eq. 9), summed over what shares it.

  Raises:
    ValueError: if the threshold is neither a scalar nor [C], or not positive.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> x = jnp.array([-1.0, 0.5, 3.0, 4.0])
    >>> tcljax.clip(x, 2.0).tolist()
    [0.0, 0.5, 2.0, 2.0]
    >>> float(jax.grad(lambda tau: tcljax.clip(x, tau).sum())(2.0))  # from the two that are clipped
    2.0
  """
  x = jnp.asarray(as_numbers("x", x))
  check_per_channel("threshold", threshold, x)
  check_threshold(threshold)
  x = x.astype(floating_type(x))
  tau = per_channel_view(threshold, x.ndim).astype(x.dtype)
  # `where` instead of `minimum`, whose gradient at x = tau would be split between the two.
  return jnp.where(x >= tau, tau, jax.nn.relu(x))


def levels_of(time_steps: int, burst: int = 1, phase: int = 1) -> int:
  """How many of its smallest spikes a neuron can send in T steps: T, or T * burst.

  Of phases 2^phase - 1 in each period.

  Raises:
    ValueError: if T or `burst` is below 1, or T no multiple of `phase`.
  """
  check_count("time_steps", time_steps, 1)
  check_count("burst", burst, 1)
  check_count("phase", phase, 1)
  if time_steps % phase:
    raise ValueError(
      f"time_steps={time_steps} is no multiple of phase={phase}: choose one, as what a neuron says "
      "is whole after a whole period alone"
    )
  return time_steps // phase * (2**phase - 1) * burst


def quantized_clip(
  x: jax.Array,
  threshold: ArrayLike,
  time_steps: int,
  v_init: ArrayLike = 0.5,
  burst: int = 1,
  phase: int = 1,
) -> jax.Array:
  """What IF neurons make of a constant current x in T steps: the clipped, quantized activation.

  Args:
    x: pre-activations, [..., C].
    threshold: tau > 0, the clip, a scalar or [C].
    time_steps: T.
    v_init: initial potential as a fraction of V_th, a scalar or [C].
    burst: the most spikes of a step, see `tcljax.Neuron`; V_th = tau / burst is the height of one.
    phase: the steps of a period, see `tcljax.Neuron`; T is a multiple of them.

  Returns:
    tau / L * floor(clip(L x / tau + v_init, 0, L)), with L = T * burst spikes at most, in the shape
    of `x`, computed in float32 at least. That is also what signed neurons make of it. With phases
    of P steps L = T / P * (2^P - 1), and v_init is multiplied by (2^P - 1) / P. Neurons come to
    that if all current of a period is there in its first step, and are else behind it. The gradient
    takes `floor` for the identity (as Bu et al., ICLR 2022, train): to `x` 1 between the bounds of
    the clip and 0 elsewhere; to tau 1 above them and, between, what rounding added to x / tau.

  Raises:
    ValueError: if the threshold or v_init is neither a scalar nor [C], a threshold is not positive,
      v_init is not finite, T or `burst` is below 1, or T no multiple of `phase`.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> x = jnp.array([-1.0, 0.3, 5.0])
    >>> tcljax.quantized_clip(x, 1.0, time_steps=16).tolist()  # 0, 5 and 16 of 16 spikes
    [0.0, 0.3125, 1.0]
  """
  x = jnp.asarray(as_numbers("x", x))
  levels = levels_of(time_steps, burst, phase)
  check_per_channel("threshold", threshold, x)
  check_per_channel("v_init", v_init, x)
  check_threshold(threshold)
  check_v_init(v_init)
  views = [per_channel_view(a, x.ndim) for a in (threshold, v_init)]
  dtype = floating_type(x, *views)
  x, threshold, v_init = widened(x, *views)
  if phase > 1:
    v_init = v_init * (levels / (time_steps * burst))  # in units of the smallest spike
  count = jnp.clip(levels * x / threshold + v_init, 0, levels)
  count = jnp.floor(count) + (count - jax.lax.stop_gradient(count))
  return (threshold * count / levels).astype(dtype)
