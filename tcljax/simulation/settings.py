"""How a spiking network is simulated: the settings, checked."""

import dataclasses
import operator
from collections.abc import Mapping

from tcljax.checks import check_choice, check_count, must_be
from tcljax.maths.clipping import levels_of
from tcljax.maths.encoding import ENCODINGS
from tcljax.maths.spikes import Neuron, check_neuron

_MOST_STEPS = 2**24  # up to here float32 holds each whole number of spikes


@dataclasses.dataclass(frozen=True)
class ChunkConfig:
  """How one chunk of K time steps is simulated, whatever T.

  Attributes:
    chunk: K, at least 1.
    neuron: as in `SpikingConfig`.
    delay: as in `SpikingConfig`.
    encoding: as in `SpikingConfig`.

  Raises:
    ValueError: if K is not chosen.
  """

  chunk: int
  neuron: Neuron
  delay: int
  encoding: str

  def __post_init__(self) -> None:
    check_count("chunk", self.chunk, 1)


@dataclasses.dataclass(frozen=True)
class SpikingConfig:
  """How a spiking network is simulated.

  Attributes:
    time_steps: T, the number of time steps; of neurons with phases a multiple of these.
    chunk: K, the steps folded into one batch; it divides T. 1 takes the least memory, T makes the
      largest matrix products; 0 chooses, see `simulate`. It does not change results.
    neuron: what neurons can send, their reset and surrogate gradient, a `Neuron` or a dictionary of
      its fields.
    delay: steps at the start that the readout leaves out: after t > delay steps the answer is the
      mean output of steps delay + 1 to t, before that the mean of all. Every step counts in T; what
      is left out are outputs from before the last layers had their input.
    encoding: "constant" feeds the image as a constant current; "poisson" as spikes of either sign
      and of the height of the image's largest magnitude, with the image as their mean; whoever
      simulates then gives a random key for each example. "frames" feeds a sequence of T frames,
      one in each step: what is simulated, called or calibrated on is [T, B, ...], and in arrays of
      examples (`tune`, `evaluate`, `diagnose`) examples come first, [N, T, ...]. The answer after
      t < T steps has seen t frames. ANNs see the mean of the frames, the mean current.

  Raises:
    ValueError: naming the field, its value and the remedy.

  Examples:
    >>> import tcljax
    >>> tcljax.SpikingConfig(time_steps=32, neuron={"reset": "hard"}).neuron.reset
    'hard'
    >>> tcljax.SpikingConfig(time_steps=8, chunk=3)
    Traceback (most recent call last):
    ValueError: chunk=3 does not divide time_steps=8: choose a divisor, or 0 for an automatic one
  """

  time_steps: int = 8
  chunk: int = 0
  neuron: Neuron = Neuron()
  delay: int = 0
  encoding: str = "constant"

  def __post_init__(self) -> None:
    for field in ("time_steps", "chunk", "delay"):
      try:  # NumPy's integers become Python's, which JSON can hold
        object.__setattr__(self, field, operator.index(getattr(self, field)))
      except TypeError:
        raise ValueError(must_be(field, getattr(self, field), "an integer")) from None
    if self.time_steps < 1:
      raise ValueError(f"time_steps={self.time_steps}: a simulation takes at least 1 step")
    if self.time_steps > _MOST_STEPS:
      raise ValueError(
        f"time_steps={self.time_steps}: a neuron's spikes are counted in float32, which holds "
        f"whole numbers up to {_MOST_STEPS}"
      )
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
    check_choice("encoding", self.encoding, ENCODINGS)
    if isinstance(self.neuron, Mapping):  # as JSON has it
      fields = {field.name for field in dataclasses.fields(Neuron)}
      if unknown := sorted(set(self.neuron) - fields):
        raise ValueError(f"neuron has no field {unknown[0]!r}, only {', '.join(sorted(fields))}")
      object.__setattr__(self, "neuron", Neuron(**self.neuron))
    check_neuron(self.neuron)
    levels_of(self.time_steps, phase=self.neuron.phase)
    if self.delay % self.neuron.phase:
      raise ValueError(
        f"delay={self.delay} is no multiple of phase={self.neuron.phase}: leave out whole periods, "
        "as what is read out would begin within one"
      )

  def with_time_steps(self, time_steps: int) -> "SpikingConfig":
    """The same network for T steps; of another T than its own with K left open.

    Within `delay` nothing is left out: the answer after so few steps is the mean of all.

    Raises:
      ValueError: if T is no number of steps, or of neurons with phases no multiple of these.
    """
    if time_steps == self.time_steps:
      return self
    whole = dataclasses.replace(self, time_steps=time_steps, chunk=0, delay=0)
    kept = self.delay if self.delay < whole.time_steps else 0
    return dataclasses.replace(whole, delay=kept)

  def time_steps_per_chunk(self, largest: int) -> int:
    """K: the largest divisor of T up to `largest`."""
    return max(k for k in range(1, min(self.time_steps, largest) + 1) if self.time_steps % k == 0)

  @property
  def levels(self) -> int:
    """The most spikes of a neuron in T steps; of phases how many of the smallest they are worth."""
    return levels_of(self.time_steps, self.neuron.burst, self.neuron.phase)

  @property
  def one_chunk(self) -> ChunkConfig:
    """What a chunk needs to know, once K is set; see `chunks.with_chunk`."""
    return ChunkConfig(self.chunk, self.neuron, self.delay, self.encoding)


def check_spiking(spiking: SpikingConfig) -> None:
  """Raises ValueError if this is not a `SpikingConfig`."""
  if not isinstance(spiking, SpikingConfig):
    wanted = "a tcljax.SpikingConfig, such as SpikingConfig(time_steps=8)"
    raise ValueError(must_be("spiking", spiking, wanted))
