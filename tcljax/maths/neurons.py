"""Integrate-and-fire (IF) neurons: pure functions on arrays, unrolled through time with `lax.scan`.

A neuron adds its input current to its membrane potential `v`, fires when `v >= threshold` and is
then reset: *soft* (the threshold is subtracted, the surplus is kept) or *hard* (back to zero).

With soft reset the number of spikes obeys the identity that all of ANN-to-SNN conversion rests on
(Rueckauer et al., Front. Neurosci. 2017, eq. 4; Ho & Chang, DAC 2021, eq. 6):

    spikes = (v[0] - v[T] + sum of currents) / threshold

so that at a constant current x, started at v_init * threshold with v_init from 0 to 1, the count is
floor(T * x / threshold + v_init), between 0 and T, or T * burst of neurons that send bursts. Of
neurons with phases each spike has the height of its step: what stands for spikes * threshold is the
sum of the heights. What neurons can send is in `maths.spikes`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from tcljax.checks import check_count
from tcljax.maths.inputs import as_numbers
from tcljax.maths.shapes import check_axes, check_broadcasts, check_shape
from tcljax.maths.spikes import (
  Neuron,
  check_neuron,
  derivative_of,
  differentiable_spikes_of,
  scales_of,
  spikes_of,
)
from tcljax.maths.surrogates import check_surrogate, differentiable_spike
from tcljax.maths.values import check_threshold, check_v_init, floating_type, widened

# So few steps are one pass over the neurons where the loop is unrolled. Of more XLA for CPUs makes
# passes that are slower than a loop of single steps.
_STEPS_IN_ONE_PASS = 8


def spike(
  v: ArrayLike, threshold: ArrayLike, surrogate: str = "triangle", width: float = 1.0
) -> jax.Array:
  """1 where `v >= threshold`, else 0, with a surrogate gradient to both.

  Args:
    v: membrane potential, any shape, in activation units.
    threshold: firing threshold > 0, broadcastable to `v`, in activation units.
    surrogate: see `surrogate_derivative`; its argument is u = v / threshold - 1.
    width: width of the surrogate in units of the threshold.

  Returns:
    Spikes in the shape and dtype of `v` (float32 for integers). The gradients are h(u) / threshold
    to `v` and -h(u) v / threshold^2 to `threshold`.

  Raises:
    ValueError: on an unknown surrogate, a width or threshold that is not positive, or a threshold
      that does not broadcast to `v`.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> float(tcljax.spike(0.75, 1.0)), float(jax.grad(tcljax.spike)(0.75, 1.0))
    (0.0, 0.75)
  """
  check_surrogate(surrogate, width)
  v = as_numbers("v", v)
  check_broadcasts("threshold", threshold, jnp.shape(v), "v")
  check_threshold(threshold)
  return differentiable_spike(*widened(v, threshold), surrogate, width).astype(floating_type(v))


def if_step(
  v: jax.Array,
  current: jax.Array,
  threshold: ArrayLike,
  neuron: Neuron = Neuron(),
  sent: ArrayLike = 0.0,
  step: ArrayLike = 0,
) -> tuple[jax.Array, jax.Array]:
  """One time step: integrate, fire, reset.

  Args:
    v: membrane potential before the step, [B, ...], in activation units.
    current: input current of the step, [B, ...].
    threshold: firing threshold > 0, broadcastable to `v`; the height of one spike, of phases its
      mean over a period, see `Neuron.heights`.
    neuron: what it can send, its reset, and the surrogate gradient of its spikes.
    sent: of a signed neuron the spikes that it has sent before this step, less those it has taken
      back, broadcastable to `v`; others do not look at it.
    step: how many steps were run before this one, which says in which step of a period it is; only
      neurons with phases look at it.

  Returns:
    The potential after the step, float32 at least, and the spikes (0 or 1; of bursts up to their
    number, of signed neurons below zero too) in the dtype of `current` (float32 for integers), both
    [B, ...].

  Raises:
    ValueError: if `neuron` is not a `Neuron`, shapes do not fit, or a threshold is not positive.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> v, spikes = tcljax.if_step(jnp.array([0.5]), jnp.array([0.75]), threshold=1.0)
    >>> v.tolist(), spikes.tolist()
    ([0.25], [1.0])
  """
  check_neuron(neuron)
  v, current = as_numbers("v", v), as_numbers("current", current)
  check_shape("current", current, jnp.shape(v), "v")
  check_broadcasts("threshold", threshold, jnp.shape(v), "v")
  check_broadcasts("sent", sent, jnp.shape(v), "v")
  check_threshold(threshold)
  threshold, scales = _of_phases(neuron, threshold, step, (1,))
  wide, *others = widened(v, current, threshold, sent)
  v, spikes = _step(neuron, wide, *others, scale=None if scales is None else scales[0])
  return v, spikes.astype(floating_type(current))


def _of_phases(neuron, threshold, step, shape):
  """The height of the smallest spike, and how many of it the spikes of each step are worth."""
  if neuron.phase == 1:
    return threshold, None
  if not isinstance(step, jax.Array):
    check_count("step", step, 0)
  return widened(threshold)[0] * neuron.grain, scales_of(neuron, step, shape)


def _step(neuron, v, current, threshold, sent, scale):
  v, threshold = v + current, _height(threshold, scale)
  spikes = differentiable_spikes_of(v, threshold, sent, neuron)
  return v - spikes * threshold if neuron.reset == "soft" else v * (1.0 - spikes), spikes


def _height(threshold, scale):
  """The threshold of a step, or of several, from that of the smallest spike."""
  return threshold if scale is None else threshold * scale


def integrate(
  currents: ArrayLike,
  v: ArrayLike,
  threshold: ArrayLike,
  neuron: Neuron = Neuron(),
  sent: ArrayLike = 0.0,
  step: ArrayLike = 0,
) -> tuple[jax.Array, jax.Array]:
  """Runs neurons from a given potential over all steps of `currents`.

  It can be differentiated in reverse mode only, unlike `if_step`.

  Args:
    currents: input currents, [T, B, ...], in activation units.
    v: potential before the first step, broadcastable to [B, ...], in activation units.
    threshold: firing threshold > 0, broadcastable to [B, ...].
    neuron: as in `if_step`.
    sent: as in `if_step`, before the first step; broadcastable to [B, ...].
    step: as in `if_step`, of the first step.

  Returns:
    Spikes [T, B, ...], and the potential after the last step [B, ...], as those of `if_step`.
    Running T1 and then T2 steps from the potential left behind, of signed neurons also with the
    spikes of the T1 added to `sent`, of phases with T1 added to `step`, equals T1 + T2 steps.

  Raises:
    ValueError: as `if_step` does.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> spikes, v = tcljax.integrate(jnp.full((3, 1), 0.75), jnp.zeros(1), threshold=1.0)
    >>> spikes[:, 0].tolist(), v.tolist()  # 3 * 0.75 is two spikes, and a quarter stays
    ([0.0, 1.0, 1.0], [0.25])
  """
  check_neuron(neuron)
  currents, v = as_numbers("currents", currents), as_numbers("v", v)
  check_axes("currents", currents, 1, "[T, B, ...]")
  for name, value in (("v", v), ("threshold", threshold), ("sent", sent)):
    check_broadcasts(name, value, jnp.shape(currents)[1:], "one step of currents")
  check_threshold(threshold)
  threshold, scales = _of_phases(neuron, threshold, step, jnp.shape(currents))
  wide, *others = widened(currents, v, threshold, sent)
  v, threshold, sent = (jnp.broadcast_to(a, wide.shape[1:]) for a in others)
  fired: Any = _integrate(wide, v, threshold, sent if neuron.signed else None, scales, neuron)
  return fired[0].astype(floating_type(currents)), fired[1]


def _compared(currents, v, threshold, sent, scales, neuron):
  """In each step the potentials that make spikes and what was sent before, and the last potential.

  What was sent is None of neurons that are not signed, and scales of those without phases.
  """

  def step(carry, at):
    (v, sent), (current, scale) = carry, at
    after, spikes = _step(neuron, v, current, threshold, sent, scale)
    return (after, sent if sent is None else sent + spikes), (v + current, sent)

  unroll = len(currents) <= _STEPS_IN_ONE_PASS
  (v, _), (compared, sent) = jax.lax.scan(step, (v, sent), (currents, scales), unroll=unroll)
  return compared, sent, v


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _through_time(currents, v, threshold, sent, scales, neuron):
  compared, sent, v = _compared(currents, v, threshold, sent, scales, neuron)
  return spikes_of(compared, _height(threshold[None], scales), sent, neuron), v


def _forward(currents, v, threshold, sent, scales, neuron):
  compared, sent, v = _compared(currents, v, threshold, sent, scales, neuron)
  # Kept as it is. The compiler would keep the currents, and spikes and potentials beside them.
  compared, sent = jax.lax.optimization_barrier((compared, sent))
  spikes = spikes_of(compared, _height(threshold[None], scales), sent, neuron)
  return (spikes, v), (compared, sent, threshold, scales)


def _backward(neuron, residuals, cotangents):
  """The gradient of the scan of `if_step`, with one array a step kept in place of six.

  Two of signed neurons. What that saves is memory traffic, which is what neurons cost: the gradient
  of a ResNet-20 through 8 steps takes a quarter less time on a CPU. Tests hold it against the
  scan's own gradient.
  """
  compared, sent, threshold, scales = residuals
  from_spikes, from_last = cotangents
  per_threshold = 1.0 / threshold  # a division for each step would cost more than all the rest
  soft = neuron.reset == "soft"

  def step(carry, at):
    to_v, to_threshold = carry  # gradient to the potential after this step
    v, sent, to_spikes, scale = at
    height = _height(threshold, scale)
    per_height = per_threshold if scale is None else per_threshold / scale
    spikes, ratio = spikes_of(v, height, sent, neuron), v * per_height
    # The spikes act on the output and on the potential they reset.
    to_spikes = to_spikes - to_v * (height if soft else v)
    slope = to_spikes * derivative_of(ratio, sent, neuron) * per_height
    to_threshold = to_threshold - _height(slope * ratio, scale)
    if soft:
      to_threshold = to_threshold - _height(spikes * to_v, scale)
      to_v = to_v + slope
    else:
      to_v = jnp.where(spikes > 0, 0.0, to_v) + slope
    return (to_v, to_threshold), to_v

  # Not unrolled: each step's gradient is used three times, so that no pass takes several of them.
  carried, given = (from_last, jnp.zeros_like(threshold)), (compared, sent, from_spikes, scales)
  (to_v, to_threshold), to_currents = jax.lax.scan(step, carried, given, reverse=True)
  to_sent = None if sent is None else jnp.zeros_like(threshold)  # it is counted, and none moves it
  return to_currents, to_v, to_threshold, to_sent, None if scales is None else 0 * scales


_through_time.defvjp(_forward, _backward)
# JAX traces and differentiates one of the layers that have the same shapes.
_integrate = jax.jit(_through_time, static_argnums=5)


def integrate_and_fire(
  currents: ArrayLike,
  threshold: ArrayLike,
  v_init: ArrayLike = 0.5,
  neuron: Neuron = Neuron(),
) -> tuple[jax.Array, jax.Array]:
  """Runs IF neurons over `currents` from a fresh start.

  Args:
    currents: input currents, [T, B, ...], in activation units.
    threshold: firing threshold > 0, broadcastable to [B, ...].
    v_init: potential before the first step as a fraction of the threshold, from 0 to 1,
      broadcastable to [B, ...]. One half turns the rate's rounding down into rounding to nearest.
    neuron: as in `if_step`.

  Returns:
    What `integrate` returns. With soft reset and `currents` constant in time at x, the spikes add
    up to clip(floor(T * x / threshold + v_init), 0, T * burst), if all steps are alike.

  Raises:
    ValueError: as `if_step` does, or if v_init is not finite.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> spikes, _ = tcljax.integrate_and_fire(jnp.full((16, 1), 0.3), threshold=1.0, v_init=0.5)
    >>> int(spikes.sum())  # floor(16 * 0.3 + 0.5)
    5
  """
  currents = as_numbers("currents", currents)
  check_axes("currents", currents, 1, "[T, B, ...]")
  for name, value in (("threshold", threshold), ("v_init", v_init)):
    check_broadcasts(name, value, jnp.shape(currents)[1:], "one step of currents")
  check_threshold(threshold)
  check_v_init(v_init)
  _, fraction, tau = widened(currents, v_init, threshold)
  return integrate(currents, fraction * tau, threshold, neuron)
