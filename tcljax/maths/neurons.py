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
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from tcljax.checks import check_choice, must_be
from tcljax.maths.inputs import as_numbers
from tcljax.maths.shapes import check_axes, check_broadcasts, check_shape
from tcljax.maths.surrogates import (
  check_surrogate,
  differentiable_spike,
  surrogate_derivative,
)
from tcljax.maths.values import check_threshold, check_v_init, floating_type, widened

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
    raise ValueError(must_be("neuron", neuron, "a tcljax.Neuron, such as Neuron(reset='hard')"))


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
) -> tuple[jax.Array, jax.Array]:
  """One time step: integrate, fire, reset.

  Args:
    v: membrane potential before the step, [B, ...], in activation units.
    current: input current of the step, [B, ...].
    threshold: firing threshold > 0, broadcastable to `v`.
    neuron: its reset, and the surrogate gradient of its spikes.

  Returns:
    The potential after the step, float32 at least, and the spikes (0 or 1) in the dtype of
    `current` (float32 for integers), both [B, ...].

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
  check_threshold(threshold)
  v, spikes = _step(neuron, *widened(v, current, threshold))
  return v, spikes.astype(floating_type(current))


def _step(neuron, v, current, threshold):
  v = v + current
  spikes = differentiable_spike(v, threshold, neuron.surrogate, neuron.width)
  return v - spikes * threshold if neuron.reset == "soft" else v * (1.0 - spikes), spikes


def integrate(
  currents: ArrayLike,
  v: ArrayLike,
  threshold: ArrayLike,
  neuron: Neuron = Neuron(),
) -> tuple[jax.Array, jax.Array]:
  """Runs neurons from a given potential over all steps of `currents`.

  It can be differentiated in reverse mode only, unlike `if_step`.

  Args:
    currents: input currents, [T, B, ...], in activation units.
    v: potential before the first step, broadcastable to [B, ...], in activation units.
    threshold: firing threshold > 0, broadcastable to [B, ...].
    neuron: as in `if_step`.

  Returns:
    Spikes [T, B, ...] of 0 and 1, and the potential after the last step [B, ...], typed as those of
    `if_step`. Running T1 and then T2 steps from the potential left behind equals T1 + T2 steps.

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
  for name, value in (("v", v), ("threshold", threshold)):
    check_broadcasts(name, value, jnp.shape(currents)[1:], "one step of currents")
  check_threshold(threshold)
  wide, *others = widened(currents, v, threshold)
  fired: Any = _integrate(wide, *(jnp.broadcast_to(a, wide.shape[1:]) for a in others), neuron)
  return fired[0].astype(floating_type(currents)), fired[1]


def _compared(currents, v, threshold, neuron):
  """The potentials that are compared with the threshold, in each step, and the last potential."""

  def step(v, current):
    return _step(neuron, v, current, threshold)[0], v + current

  v, compared = jax.lax.scan(step, v, currents, unroll=len(currents) <= _STEPS_IN_ONE_PASS)
  return compared, v


def _fired(compared, threshold):
  return (compared >= threshold[None]).astype(compared.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _integrate(currents, v, threshold, neuron):
  compared, v = _compared(currents, v, threshold, neuron)
  return _fired(compared, threshold), v


def _integrate_forward(currents, v, threshold, neuron):
  compared, v = _compared(currents, v, threshold, neuron)
  # Kept as it is. The compiler would keep the currents, and spikes and potentials beside them.
  compared = jax.lax.optimization_barrier(compared)
  return (_fired(compared, threshold), v), (compared, threshold)


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
    What `integrate` returns. With soft reset and `currents` constant in time at x, the spikes add
    up to clip(floor(T * x / threshold + v_init), 0, T).

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
