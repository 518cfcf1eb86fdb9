"""How a spiking network is simulated: the settings, checked."""

import dataclasses
import operator

from tcljax.checks import check_choice
from tcljax.maths import neurons
from tcljax.maths.encoding import ENCODINGS
from tcljax.maths.surrogates import check_surrogate


@dataclasses.dataclass(frozen=True)
class SpikingConfig:
  """How a spiking network is simulated.

  Attributes:
    time_steps: T, the number of time steps.
    chunk: K, the steps folded into one batch; it divides T. 1 takes the least memory, T makes the
      largest matrix products; 0 chooses, see `simulate`. It does not change results.
    reset: "soft" or "hard", see `tcljax.if_step`.
    surrogate: shape of the surrogate gradient, see `tcljax.spike`.
    width: its width in units of the threshold.
    delay: steps at the start that the readout leaves out: after t > delay steps the answer is the
      mean output of steps delay + 1 to t, before that the mean of all. Every step counts in T; what
      is left out are outputs from before the last layers had their input.
    encoding: "constant" feeds the image as a constant current; "poisson" as spikes of either sign
      and of the height of the image's largest magnitude, with the image as their mean; whoever
      simulates then gives a random key for each example.

  Raises:
    ValueError: naming the field, its value and the remedy.
  """

  time_steps: int = 8
  chunk: int = 0
  reset: str = "soft"
  surrogate: str = "triangle"
  width: float = 1.0
  delay: int = 0
  encoding: str = "constant"

  def __post_init__(self):
    for field in ("time_steps", "chunk", "delay"):
      try:  # NumPy's integers become Python's, which JSON can hold
        object.__setattr__(self, field, operator.index(getattr(self, field)))
      except TypeError:
        raise ValueError(f"{field}={getattr(self, field)!r} must be an integer") from None
    if self.time_steps < 1:
      raise ValueError(f"time_steps={self.time_steps}: a simulation takes at least 1 step")
    if self.chunk < 0 or (self.chunk and self.time_steps % self.chunk):
      raise ValueError(
        f"chunk={self.chunk} does not divide time_steps={self.time_steps}: choose a divisor, or 0 "
        "for an automatic one"
      )
    if not 0 <= self.delay < self.time_steps:
      raise ValueError(
        f"delay={self.delay} must be at least 0 and below time_steps={self.time_steps}, so "
        "that something is read out"
      )
    check_choice("reset", self.reset, neurons.RESETS)
    check_choice("encoding", self.encoding, ENCODINGS)
    check_surrogate(self.surrogate, self.width)

  def steps_per_chunk(self, largest: int) -> int:
    """K: the largest divisor of T up to `largest`."""
    return max(k for k in range(1, min(self.time_steps, largest) + 1) if self.time_steps % k == 0)

  def without_time_steps(self) -> "SpikingConfig":
    """The same with a T that stands for every T, where K is set: the least that they allow."""
    return dataclasses.replace(self, time_steps=self.chunk * (self.delay // self.chunk + 1))


def check_spiking(spiking: SpikingConfig) -> None:
  """Raises ValueError if this is not a `SpikingConfig`."""
  if not isinstance(spiking, SpikingConfig):
    raise ValueError(
      f"spiking={spiking!r} must be a tcljax.SpikingConfig, such as SpikingConfig(time_steps=8)"
    )
