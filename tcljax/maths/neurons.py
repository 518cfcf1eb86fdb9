"""Integrate-and-fire (IF) neurons: pure functions on arrays, unrolled through time with `lax.scan`.

A neuron adds its input current to its membrane potential `v`, fires when `v >= threshold` and is
then reset: *soft* (the threshold is subtracted, the surplus is kept) or *hard* (back to zero).

With soft reset the number of spikes obeys the identity that all of ANN-to-SNN conversion rests on
(Rueckauer et al., Front. Neurosci. 2017, eq. 4; Ho & Chang, DAC 2021, eq. 6):

    spikes = (v[0] - v[T] + sum of currents) / threshold

so that at a constant current x, started at v_init * threshold with v_init from 0 to 1, the count is
floor(T * x / threshold + v_init), between 0 and T.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from tcljax.checks import check_choice
from tcljax.maths.shapes import check_axes, check_broadcasts, check_shape
from tcljax.maths.surrogates import check_surrogate, surrogate_derivative

RESETS = ("soft", "hard")
# So few steps are one pass over the neurons where the loop is unrolled. Of more XLA for CPUs makes
# passes that are slower than a loop of single steps.
_STEPS_IN_ONE_PASS = 8


@dataclasses.dataclass(frozen=True)
class Neuron:
  """How a neuron is reset, and what stands in for the derivative of its spike.

  Attributes:
    reset: "soft" subtracts the threshold from a neuron that fired, "hard" sets it to zero.
    surrogate: shape of the surrogate gradient, see `surrogate_derivative`.
    width: its width in units of the threshold.

  Raises:
    ValueError: naming the field, its value and the remedy.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> hard = tcljax.Neuron(reset="hard")
    >>> spikes, _ = tcljax.integrate_and_fire(jnp.full((8, 1), 0.75), 1.0, 0.0, hard)
    >>> int(spikes.sum())  # soft reset keeps what is above the threshold and fires 6 times
    4
  """

  reset: str = "soft"
  surrogate: str = "triangle"
  width: float = 1.0

  def __post_init__(self) -> None:
    check_choice("reset", self.reset, RESETS)
    check_surrogate(self.surrogate, self.width)
    # NumPy's numbers become Python's, which JSON can hold.
    object.__setattr__(self, "width", float(self.width))


def check_neuron(neuron: Neuron) -> None:
  """Raises ValueError if this is not a `Neuron`."""
  if not isinstance(neuron, Neuron):
    raise ValueError(f"neuron={neuron!r} must be a tcljax.Neuron, such as Neuron(reset='hard')")


def _inexact(x: ArrayLike) -> jax.Array:
  """The array in floating point; integers would lose fractions of a threshold."""
  x = jnp.asarray(x)
  return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


def fires(v: jax.Array, threshold: jax.Array) -> jax.Array:
  """1 where `v >= threshold`, else 0, in the type of `v`; NaN where `v` is not finite.

  So what is not finite in an image or a weight reaches the answer, as it does in the ANN. A neuron
  of NaN that never fired would end in an answer like any other.
  """
  return jnp.where(jnp.isfinite(v), (v >= threshold).astype(v.dtype), jnp.nan)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _spike(v, threshold, surrogate, width):
  del surrogate, width  # they shape the derivative alone
  return fires(v, threshold)


@_spike.defjvp
def _spike_jvp(surrogate, width, primals, tangents):
  v, threshold = primals
  v_dot, threshold_dot = tangents
  spikes = _spike(v, threshold, surrogate, width)
  # The spike depends on v / threshold alone; differentiating that ratio keeps the surrogate exact
  # under a change of units: scaling v and the threshold together leaves the spike where it is.
  ratio_dot = v_dot / threshold - threshold_dot * v / jnp.square(threshold)
  slope = surrogate_derivative(v / threshold - 1.0, surrogate, width)
  return spikes, (slope * ratio_dot).astype(spikes.dtype)


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
    ValueError: on an unknown surrogate, a width that is not positive, or a threshold that does not
      broadcast to `v`.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> float(tcljax.spike(0.75, 1.0)), float(jax.grad(tcljax.spike)(0.75, 1.0))
    (0.0, 0.75)
  """
  check_surrogate(surrogate, width)
  check_broadcasts("threshold", threshold, jnp.shape(v), "v")
  return _spike(_inexact(v), _inexact(threshold), surrogate, width)


def if_step(
  v: jax.Array,
  current: jax.Array,
  threshold: ArrayLike,
  neuron: Neuron = Neuron(),
) -> tuple[jax.Array, jax.Array]:
  """One time step: integrate, fire, reset.

  Args:
    v: membrane potential before the step, [B, ...], in activation units.
    current: input current of the step, [B, ...].
    threshold: firing threshold > 0, broadcastable to `v`.
    neuron: its reset, and the surrogate gradient of its spikes.

  Returns:
    The potential after the step and the spikes (0 or 1), both [B, ...].

  Raises:
    ValueError: if `neuron` is not a `Neuron`, or shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> v, spikes = tcljax.if_step(jnp.array([0.5]), jnp.array([0.75]), threshold=1.0)
    >>> v.tolist(), spikes.tolist()
    ([0.25], [1.0])
  """
  check_neuron(neuron)
  check_shape("current", current, jnp.shape(v), "v")
  v = v + current
  spikes = spike(v, threshold, neuron.surrogate, neuron.width)
  v = v - spikes * threshold if neuron.reset == "soft" else v * (1.0 - spikes)
  return v, spikes


def integrate(
  currents: jax.Array,
  v: jax.Array,
  threshold: ArrayLike,
  neuron: Neuron = Neuron(),
) -> tuple[jax.Array, jax.Array]:
  """Runs neurons from a given potential over all steps of `currents`.

  Args:
    currents: input currents, [T, B, ...], in activation units.
    v: potential before the first step, broadcastable to [B, ...], in activation units.
    threshold: firing threshold > 0, broadcastable to [B, ...].
    neuron: as in `if_step`.

  Returns:
    Spikes [T, B, ...] of 0 and 1, and the potential after the last step [B, ...]. Running T1 and
    then T2 steps from the potential left behind equals running T1 + T2 steps.

  Raises:
    ValueError: if `neuron` is not a `Neuron`, or shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> spikes, v = tcljax.integrate(jnp.full((3, 1), 0.75), jnp.zeros(1), threshold=1.0)
    >>> spikes[:, 0].tolist(), v.tolist()  # 3 * 0.75 is two spikes, and a quarter stays
    ([0.0, 1.0, 1.0], [0.25])
  """
  check_neuron(neuron)
  check_axes("currents", currents, 1, "[T, B, ...]")
  for name, value in (("v", v), ("threshold", threshold)):
    check_broadcasts(name, value, jnp.shape(currents)[1:], "one step of currents")
  # In the widest of their types; a carry cannot change its own on the way.
  dtype = jnp.result_type(_inexact(v), _inexact(currents), _inexact(threshold))
  currents = jnp.asarray(currents, dtype)
  v, threshold = (
    jnp.broadcast_to(jnp.asarray(a, dtype), currents.shape[1:]) for a in (v, threshold)
  )
  return _integrate(currents, v, threshold, neuron)


def _compared(currents, v, threshold, neuron):
  """The potentials that are compared with the threshold, in each step, and the last potential."""

  def step(v, current):
    return if_step(v, current, threshold, neuron)[0], v + current

  v, compared = jax.lax.scan(step, v, currents, unroll=len(currents) <= _STEPS_IN_ONE_PASS)
  return compared, v


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _integrate(currents, v, threshold, neuron):
  compared, v = _compared(currents, v, threshold, neuron)
  return fires(compared, threshold[None]), v


def _integrate_forward(currents, v, threshold, neuron):
  compared, v = _compared(currents, v, threshold, neuron)
  # Kept as it is. The compiler would keep the currents, and spikes and potentials beside them.
  compared = jax.lax.optimization_barrier(compared)
  return (fires(compared, threshold[None]), v), (compared, threshold)


def _integrate_backward(neuron, residuals, cotangents):
  """The gradient of the scan of `if_step`, with one array a step kept in place of six.

  What that saves is memory traffic, which is what neurons cost: the gradient of a ResNet-20 through
  8 steps takes a quarter less time on a CPU. Tests hold it against the scan's own gradient.
  """
  compared, threshold = residuals
  from_spikes, from_last = cotangents
  per_threshold = 1.0 / threshold  # a division for each step would cost more than all the rest

  def step(carry, at):
    to_v, to_threshold = carry  # gradient to the potential after this step
    v, to_spike = at
    fired = v >= threshold
    ratio = v * per_threshold
    # The spike acts on the output and on the potential it resets.
    to_spike = to_spike - to_v * (threshold if neuron.reset == "soft" else v)
    derivative = surrogate_derivative(ratio - 1.0, neuron.surrogate, neuron.width)
    slope = to_spike * derivative * per_threshold
    to_threshold = to_threshold - slope * ratio
    if neuron.reset == "soft":
      to_threshold = to_threshold - jnp.where(fired, to_v, 0.0)
      to_v = to_v + slope
    else:
      to_v = jnp.where(fired, 0.0, to_v) + slope
    return (to_v, to_threshold), to_v

  # Not unrolled: each step's gradient is used three times, so that no pass takes several of them.
  (to_v, to_threshold), to_currents = jax.lax.scan(
    step, (from_last, jnp.zeros_like(threshold)), (compared, from_spikes), reverse=True
  )
  return to_currents, to_v, to_threshold


_integrate.defvjp(_integrate_forward, _integrate_backward)


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
    Spikes [T, B, ...] of 0 and 1, and the final potential [B, ...]. With soft reset and
    `currents` constant in time at x, the spikes add up to
    clip(floor(T * x / threshold + v_init), 0, T).

  Raises:
    ValueError: if `neuron` is not a `Neuron`, or shapes do not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> spikes, _ = tcljax.integrate_and_fire(jnp.full((16, 1), 0.3), threshold=1.0, v_init=0.5)
    >>> int(spikes.sum())  # floor(16 * 0.3 + 0.5)
    5
  """
  currents = _inexact(currents)
  check_axes("currents", currents, 1, "[T, B, ...]")
  for name, value in (("threshold", threshold), ("v_init", v_init)):
    check_broadcasts(name, value, currents.shape[1:], "one step of currents")
  v = jnp.broadcast_to(jnp.asarray(v_init, currents.dtype) * threshold, currents.shape[1:])
  return integrate(currents, v, threshold, neuron)
