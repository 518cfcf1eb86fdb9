"""What a neuron can send in a step: its settings, and the number of spikes that a potential makes.

A neuron is *binary*, with no spike or one; sends *bursts* of several spikes in a step; or is
*signed* and also sends negative ones, with which it takes back what it has sent. It may do both.
A potential v then makes

    #{k: v >= k * threshold} - #{k: v < (1 - k) * threshold and k <= sent},  k = 1, ..., burst,

spikes, where `sent` is the number that the neuron has sent so far, less those taken back; the
second term is that of signed neurons alone. Each k is a spike with an edge of its own, a multiple
of the threshold, and a surrogate gradient around it.
"""

import dataclasses
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_choice, must_be
from tcljax.maths.surrogates import check_surrogate, differentiable_spike, surrogate_derivative

RESETS = ("soft", "hard")
LARGEST_BURST = 16  # each spike of a burst is a comparison and a surrogate gradient


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
  """

  reset: str = "soft"
  surrogate: str = "triangle"
  width: float = 1.0
  burst: int = 1
  signed: bool = False

  def __post_init__(self) -> None:
    check_choice("reset", self.reset, RESETS)
    check_surrogate(self.surrogate, self.width)
    # NumPy's numbers become Python's, which JSON can hold.
    object.__setattr__(self, "width", float(self.width))
    object.__setattr__(self, "burst", _burst(self.burst))
    if not isinstance(self.signed, (bool, np.bool_)):
      raise ValueError(must_be("signed", self.signed, "True or False"))
    object.__setattr__(self, "signed", bool(self.signed))
    if self.reset == "hard" and not self.is_binary:
      raise ValueError(
        f"reset='hard' forgets what is left of a potential, with burst={self.burst} and "
        f"signed={self.signed}: take reset='soft'"
      )

  @property
  def is_binary(self) -> bool:
    """Whether the neuron sends no spike or one."""
    return self.burst == 1 and not self.signed

  @property
  def alphabet(self) -> str:
    """What it can send in a step, by name: "binary", "burst-4", "signed", "signed burst-4"."""
    burst = f"burst-{self.burst}" if self.burst > 1 else ""
    return " ".join(filter(None, ["signed" if self.signed else "", burst])) or "binary"


def _burst(burst):
  try:
    number = 0 if isinstance(burst, bool) else operator.index(burst)
  except TypeError:
    number = 0
  if not 1 <= number <= LARGEST_BURST:
    wanted = f"a whole number of spikes from 1, a binary neuron, to {LARGEST_BURST}"
    raise ValueError(must_be("burst", burst, wanted))
  return number


def check_neuron(neuron: Neuron) -> None:
  """Raises ValueError if this is not a `Neuron`."""
  if not isinstance(neuron, Neuron):
    raise ValueError(must_be("neuron", neuron, "a tcljax.Neuron, such as Neuron(reset='hard')"))


def spikes_of(
  v: jax.Array, threshold: jax.Array, sent: jax.Array | None, neuron: Neuron
) -> jax.Array:
  """Spikes of one step, without a gradient, in the shape and type of `v`.

  Args:
    v: potential with the current of the step, [B, ...].
    threshold: V_th > 0, in a shape that broadcasts to that of `v` and in its type.
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
