"""What a neuron can send in a step: its settings, and the number of spikes that a potential makes.

A neuron is *binary*, with no spike or one; sends *bursts* of several spikes in a step; is *signed*
and also sends negative ones, with which it takes back what it has sent; or has *phases*. It may be
signed and send bursts. A potential v then makes

    #{k: v >= k * threshold} - #{k: v < (1 - k) * threshold and k <= sent},  k = 1, ..., burst,

spikes, where `sent` is the number that the neuron has sent so far, less those taken back; the
second term is that of signed neurons alone. Each k is a spike with an edge of its own, a multiple
of the threshold, and a surrogate gradient around it.

A neuron with phases is binary, and its threshold, the height of its spike, halves from step to step
over a period of P steps: V_th * P * 2^(P-1-p) / (2^P - 1) in step p = 0, ..., P-1 of each period,
which is V_th on the mean. So a period says a number of P bits, the highest bit first (phase coding:
Kim et al., "Deep neural networks with weighted spikes", Neurocomputing 2018).
"""

import dataclasses
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tcljax.checks import check_choice, must_be
from tcljax.maths.surrogates import check_surrogate, differentiable_spike, surrogate_derivative

RESETS = ("soft", "hard")
LARGEST_BURST = 16  # each spike of a burst is a comparison and a surrogate gradient
LARGEST_PHASE = 8  # 255 levels in a period: the bits of a pixel


@dataclasses.dataclass(frozen=True)
class Neuron:
  """What a neuron sends, how it is reset, and what stands in for the derivative of its spikes.

  Attributes:
    reset: "soft" subtracts the threshold for each spike, "hard" sets a neuron that fired to zero.
    surrogate: shape of the surrogate gradient, see `surrogate_derivative`.
    width: its width in units of the threshold.
    burst: how many spikes a neuron can send in one step; 1 is a binary neuron. In a network the
      clip tau stays what it is, and is what a neuron sends that sends all it can: V_th = tau /
      burst is its threshold and the height of one spike.
    signed: whether a neuron also sends negative spikes: where its potential is below zero, and no
      more than it has sent. What it sends over time is never below zero.
    phase: P, the steps of a period in which thresholds and heights of spikes halve from step to
      step; 1 is a neuron whose steps are alike. V_th is their mean over a period, so that tau stays
      what a neuron sends that sends all it can, and T is a multiple of P.

  Raises:
    ValueError: naming the field, its value and the remedy.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> hard = tcljax.Neuron(reset="hard")
    >>> spikes, _ = tcljax.integrate_and_fire(jnp.full((8, 1), 0.75), 1.0, 0.0, hard)
    >>> int(spikes.sum())  # soft reset keeps what is above the threshold and fires 6 times
    4
    >>> currents = jnp.array([[2.5], [-3.5]])
    >>> for fields in ({}, {"burst": 4}, {"signed": True}, {"burst": 4, "signed": True}):
    ...   spikes, v = tcljax.integrate_and_fire(currents, 1.0, 0.5, tcljax.Neuron(**fields))
    ...   print(spikes[:, 0].tolist(), v.tolist())
    [1.0, 0.0] [-1.5]
    [3.0, 0.0] [-3.5]
    [1.0, -1.0] [-0.5]
    [3.0, -3.0] [-0.5]
    >>> phases = tcljax.Neuron(phase=4)
    >>> [round(height, 2) for height in phases.heights]  # in units of V_th; their mean is 1
    [2.13, 1.07, 0.53, 0.27]
    >>> currents = jnp.array([[11 * 4.0], [0.0], [0.0], [0.0]])  # 11 of the smallest spikes
    >>> spikes, _ = tcljax.integrate_and_fire(currents, 15.0, 0.0, phases)
    >>> spikes[:, 0].tolist()  # in binary
    [1.0, 0.0, 1.0, 1.0]
  """

  reset: str = "soft"
  surrogate: str = "triangle"
  width: float = 1.0
  burst: int = 1
  signed: bool = False
  phase: int = 1

  def __post_init__(self) -> None:
    check_choice("reset", self.reset, RESETS)
    check_surrogate(self.surrogate, self.width)
    # NumPy's numbers become Python's, which JSON can hold.
    object.__setattr__(self, "width", float(self.width))
    burst = "a whole number of spikes from 1, a binary neuron, to {}"
    object.__setattr__(self, "burst", _whole("burst", self.burst, LARGEST_BURST, burst))
    phase = "a whole number of steps from 1, all alike, to {}"
    object.__setattr__(self, "phase", _whole("phase", self.phase, LARGEST_PHASE, phase))
    if not isinstance(self.signed, (bool, np.bool_)):
      raise ValueError(must_be("signed", self.signed, "True or False"))
    object.__setattr__(self, "signed", bool(self.signed))
    if self.phase > 1 and (self.burst > 1 or self.signed):
      raise ValueError(
        f"phase={self.phase} goes with one spike of one height in a step, which burst={self.burst} "
        f"and signed={self.signed} are not: take burst=1 and signed=False, or phase=1"
      )
    if self.reset == "hard" and not self.is_binary:
      fields = f"burst={self.burst} and signed={self.signed}"
      raise ValueError(
        "reset='hard' forgets what is left of a potential, with "
        f"{fields if self.phase == 1 else f'phase={self.phase}'}: take reset='soft'"
      )

  @property
  def is_binary(self) -> bool:
    """Whether the neuron sends no spike or one, and all steps are alike."""
    return self.burst == 1 and not self.signed and self.phase == 1

  @property
  def alphabet(self) -> str:
    """By name what it can send: "binary", "burst-4", "signed", "signed burst-4", "phase-4"."""
    burst = f"burst-{self.burst}" if self.burst > 1 else ""
    phase = f"phase-{self.phase}" if self.phase > 1 else ""
    return " ".join(filter(None, ["signed" if self.signed else "", burst, phase])) or "binary"

  @property
  def grain(self) -> float:
    """The height of its smallest spike, that of the last step of a period, in units of V_th."""
    return self.phase / (2**self.phase - 1)

  @property
  def heights(self) -> tuple[float, ...]:
    """The height of a spike in each step of a period, in units of V_th; 1 on the mean."""
    return tuple(self.grain * 2**p for p in reversed(range(self.phase)))

  @property
  def most(self) -> float:
    """What it sends in a step if it sends all it can, in its smallest spikes, over a period."""
    return self.burst / self.grain


def _whole(field, value, largest, wanted):
  """A field as an integer of Python, from 1 to `largest`."""
  try:
    number = 0 if isinstance(value, bool) else operator.index(value)
  except TypeError:
    number = 0
  if not 1 <= number <= largest:
    raise ValueError(must_be(field, value, wanted.format(largest)))
  return number


def check_neuron(neuron: Neuron) -> None:
  """Raises ValueError if this is not a `Neuron`."""
  if not isinstance(neuron, Neuron):
    raise ValueError(must_be("neuron", neuron, "a tcljax.Neuron, such as Neuron(reset='hard')"))


def scales_of(neuron: Neuron, first: ArrayLike, shape: tuple[int, ...]) -> jax.Array | None:
  """How many of its smallest spikes a spike is worth in each of the next steps: 8, 4, 2, 1.

  Args:
    neuron: what it can send.
    first: how many steps were run before; may be traced.
    shape: of what these steps hold, [K, ...].

  Returns:
    Powers of two, float32, [K, 1, ...]; None where all spikes are alike, and nothing is to be done.
  """
  if neuron.phase == 1:
    return None
  period = jnp.asarray(2.0 ** np.arange(neuron.phase - 1, -1, -1), jnp.float32)
  scales = period[(jnp.asarray(first) + jnp.arange(shape[0])) % neuron.phase]
  return scales.reshape(-1, *[1] * (len(shape) - 1))


def worth_of(spikes: jax.Array, neuron: Neuron, first: ArrayLike = 0) -> jax.Array:
  """Spikes [K, B, ...] in units of the smallest one: as they are, unless there are phases.

  Args:
    spikes: numbers of spikes in K steps.
    neuron: what sent them.
    first: how many steps were run before.
  """
  scales = scales_of(neuron, first, spikes.shape)
  return spikes if scales is None else spikes * scales


def spikes_of(
  v: jax.Array, threshold: jax.Array, sent: jax.Array | None, neuron: Neuron
) -> jax.Array:
  """Spikes of one step, without a gradient, in the shape and type of `v`.

  Args:
    v: potential with the current of the step, [B, ...].
    threshold: that of the step > 0, in a shape that broadcasts to that of `v` and in its type.
    sent: spikes sent before the step less those taken back, as `v`; None of neurons not signed.
    neuron: what it can send.
  """
  return _counted(neuron, sent, lambda edge: (v >= edge * threshold).astype(v.dtype))


def differentiable_spikes_of(
  v: jax.Array, threshold: jax.Array, sent: jax.Array | None, neuron: Neuron
) -> jax.Array:
  """`spikes_of` with the surrogate gradients of all spikes to `v` and `threshold`."""
  spike = lambda edge: differentiable_spike(v, threshold, neuron.surrogate, neuron.width, edge)
  return _counted(neuron, sent, spike)


def derivative_of(ratio: jax.Array, sent: jax.Array | None, neuron: Neuron) -> jax.Array:
  """What stands in for the derivative of `spikes_of` by v / threshold.

  Args:
    ratio: v / threshold.
    sent: as in `spikes_of`.
    neuron: what it can send, and its surrogate.
  """
  slope = lambda edge: surrogate_derivative(ratio - edge, neuron.surrogate, neuron.width)
  derivative = sum(map(slope, _up(neuron)[1:]), slope(1.0))
  for may, edge in _down(neuron, sent):
    derivative = derivative + jnp.where(may, slope(edge), 0.0)
  return derivative


def _counted(neuron: Neuron, sent: jax.Array | None, reached: Callable[[float], jax.Array]):
  """Spikes of a step, where `reached` is 1 if v has come to so many thresholds, and else 0."""
  count = sum(map(reached, _up(neuron)[1:]), reached(1.0))
  for may, edge in _down(neuron, sent):
    count = count - jnp.where(may, 1.0 - reached(edge), 0.0)
  return count


def _up(neuron):
  """From which multiples of the threshold on each spike is sent."""
  return [float(k) for k in range(1, neuron.burst + 1)]


def _down(neuron, sent):
  """Of each negative spike, where there is one to take back, and below which multiple it comes."""
  if sent is None or not neuron.signed:
    return []
  return [(sent >= k, 1.0 - k) for k in range(1, neuron.burst + 1)]
