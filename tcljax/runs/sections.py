"""The sections of a config that say what there is: images, the network, its simulation, the test.

Their fields, defaults, and the checks of each by itself. An error names the field of the section;
`tcljax.runs.config.named` puts the section before it. `tcljax.runs.training_sections` has those of
training.
"""

import dataclasses

from tcljax.checks import check_choice, check_count, check_widths
from tcljax.maths.spikes import Neuron
from tcljax.simulation.settings import SpikingConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """The images; see `tcljax.data.load_dataset`.

  Attributes:
    name: "digits", "event_digits" or "event_digits/8" of 8 frames, or the name of a TFDS set.
    data_dir: where TFDS sets lie; None for $TFDS_DATA_DIR.
    train_split: in TFDS notation.
    test_split: in TFDS notation.
    validation: number of training images set aside, for choices.
    image_size: side of the images; 0 for their own size.
    stream: whether images are read from disk while they are used; always above 8 GiB.
    workers: processes that decode what is streamed; 0 for none, -1 for one a core.
  """

  name: str = "digits"
  data_dir: str | None = None
  train_split: str = "train"
  test_split: str = "test"
  validation: int = 0
  image_size: int = 0
  stream: bool = False
  workers: int = -1


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The network; None keeps the model's own value.

  Attributes:
    name: one of `tcljax.models.MODELS`.
    stages: widths of a VGG's convolutions, by stage.
    dense: widths of a VGG's hidden dense layers.
    batch_norm: whether a VGG has BatchNorm.
    pooling: average, before or gate.
    stem: of ResNets, cifar or imagenet.
    shortcut: of ResNets, pad or projection.
    dtype: what layers compute in, float32 or bfloat16.
  """

  name: str = "cnn"
  stages: tuple | None = None
  dense: tuple | None = None
  batch_norm: bool | None = None
  pooling: str | None = None
  stem: str | None = None
  shortcut: str | None = None
  dtype: str = "float32"

  def __post_init__(self) -> None:
    if self.stages is not None:
      check_widths("stages", self.stages, self.stages, "stages of widths, such as ((32,), (64,))")
    if self.dense is not None:
      check_widths("dense", self.dense, (self.dense,), "widths, such as (512, 512)")


@dataclasses.dataclass(frozen=True)
class SnnConfig:
  """The spiking network: the fields of `tcljax.SpikingConfig` and `tcljax.Neuron`, and one more.

  Attributes:
    time_steps: T that the thresholds are tuned for.
    chunk: K; 0 for an automatic one.
    reset: soft or hard.
    surrogate: shape of the surrogate gradient.
    width: its width in units of the threshold.
    burst: the most spikes of a neuron in a step; 1 is binary.
    signed: whether neurons take back what they have sent.
    phase: steps of a period in which their spikes halve; 1 for none.
    delay: time steps at the start that the readout leaves out; -1: 0, or after "delivered", whose
      layers wait, as many as `tcljax.choose_delay` finds.
    encoding: constant or poisson; frames for sets of events.
    readout: membrane, or rate, where the outputs are spiking neurons too.
  """

  time_steps: int = SpikingConfig.time_steps
  chunk: int = SpikingConfig.chunk
  reset: str = Neuron.reset
  surrogate: str = Neuron.surrogate
  width: float = Neuron.width
  burst: int = Neuron.burst
  signed: bool = Neuron.signed
  phase: int = Neuron.phase
  delay: int = -1
  encoding: str = SpikingConfig.encoding
  readout: str = "membrane"

  def __post_init__(self) -> None:
    check_choice("readout", self.readout, ("membrane", "rate"))
    self.spiking()

  def spiking(self) -> SpikingConfig:
    """How the network is simulated."""
    neuron = Neuron(self.reset, self.surrogate, self.width, self.burst, self.signed, self.phase)
    delay = 0 if self.delay == -1 else self.delay
    return SpikingConfig(self.time_steps, self.chunk, neuron, delay, self.encoding)


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """The reported numbers.

  Attributes:
    time_steps: largest T reported.
    batch_size: images at a time, over all hosts.
  """

  time_steps: int = 64
  batch_size: int = 128

  def __post_init__(self) -> None:
    check_count("time_steps", self.time_steps, 1)
    check_count("batch_size", self.batch_size, 1)
