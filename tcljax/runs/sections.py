"""The sections of a config: their fields, defaults, and the checks of each by itself.

An error names the field of the section; `tcljax.runs.config.named` puts the section before it.
"""

import dataclasses

from tcljax.checks import check_choice, check_count, check_finite, check_least, check_widths
from tcljax.maths.spikes import Neuron
from tcljax.simulation.settings import SpikingConfig
from tcljax.training.calibration import METHODS, check_calibration
from tcljax.training.objectives import OBJECTIVES
from tcljax.training.optimizers import OptimizerConfig


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
class TrainConfig:
  """Phase 1: the ANN.

  Attributes:
    steps: optimizer steps.
    batch_size: over all hosts.
    label_smoothing: from 0 to below 1.
    optimizer: of the weights.
  """

  steps: int = 1000
  batch_size: int = 128
  label_smoothing: float = 0.0
  optimizer: OptimizerConfig = OptimizerConfig("sgd", learning_rate=0.1, weight_decay=5e-4)

  def __post_init__(self) -> None:
    check_count("steps", self.steps, 1)
    check_count("batch_size", self.batch_size, 1)
    _check_smoothing(self.label_smoothing)


def _check_smoothing(smoothing: float) -> None:
  if not 0 <= smoothing < 1:
    raise ValueError(f"label_smoothing={smoothing} must be in [0, 1)")


@dataclasses.dataclass(frozen=True)
class JointConfig:
  """Weights and thresholds together; see `tcljax.runs.joint`.

  Attributes:
    through: clip, quantized or snn; None or empty for no such phase.
    start: ann, for phase 1 or `pretrained`; or scratch.
    threshold: every threshold to begin with from scratch.
    threshold_decay: coefficient of the thresholds' squares in the loss.
    steps: optimizer steps.
    cycles: in so many parts, each with the learning rate's whole schedule; the result is the mean
      of where training started and where each of them ended. 0: the result is where it ends.
    batch_size: over all hosts.
    objective: cross_entropy, or distillation or squared_error from the ANN at the start.
    label_smoothing: from 0 to below 1, for cross_entropy.
    optimizer: of the weights.
    threshold_optimizer: of the thresholds.
  """

  through: str | None = None
  start: str = "ann"
  threshold: float = 2.0
  threshold_decay: float = 0.0
  steps: int = 2000
  cycles: int = 0
  batch_size: int = 128
  objective: str = "cross_entropy"
  label_smoothing: float = 0.0
  optimizer: OptimizerConfig = OptimizerConfig("sgd", learning_rate=0.02, weight_decay=1e-4)
  threshold_optimizer: OptimizerConfig = OptimizerConfig("adamw", learning_rate=0.01)

  def __post_init__(self) -> None:
    check_count("steps", self.steps, 1)
    check_count("batch_size", self.batch_size, 1)
    check_least("threshold_decay", self.threshold_decay, 0)
    check_count("cycles", self.cycles, 0)
    _check_smoothing(self.label_smoothing)
    if self.through:
      check_choice("through", self.through, ("clip", "quantized", "snn"))
    check_choice("start", self.start, ("ann", "scratch"))
    check_choice("objective", self.objective, OBJECTIVES)
    if not self.threshold > 0:
      raise ValueError(f"threshold={self.threshold} must be above 0")
    self._check_together()

  @property
  def before_tuning(self) -> bool:
    """Whether this phase comes before phase 2, through a clip."""
    return self.through in ("clip", "quantized")

  @property
  def from_scratch(self) -> bool:
    """Whether weights and thresholds are trained together from the start, with no ANN before."""
    return bool(self.through) and self.start == "scratch"

  @property
  def makes_its_teacher(self) -> bool:
    """Whether this phase makes, from labels, the network that tuning then learns from."""
    return self.before_tuning and self.objective == "cross_entropy"

  def _check_together(self) -> None:
    if not self.through:
      return
    for field, frozen in (("optimizer", "weights"), ("threshold_optimizer", "thresholds")):
      rate = getattr(self, field).learning_rate
      if rate == 0:
        raise ValueError(
          f"{field}.learning_rate={rate} freezes the {frozen}, which joint training trains: set it "
          "above 0; to train thresholds alone leave joint.through out"
        )
    if self.cycles:
      if self.steps < self.cycles:
        raise ValueError(
          f"cycles={self.cycles} is more than joint.steps={self.steps}: a cycle takes at least one "
          "step"
        )
      for field, value in (("start", "scratch"), ("through", "snn")):
        if getattr(self, field) == value:
          raise ValueError(
            f"cycles={self.cycles} averages over trained networks with statistics of their own, "
            f"which joint.{field}={value!r} has not: set cycles to 0"
          )
    if self.start == "scratch":
      if self.objective == "distillation":
        raise ValueError(
          "objective='distillation' has no ANN to learn from with joint.start='scratch': choose "
          "cross_entropy"
        )
      if self.through == "snn":
        raise ValueError(
          "through='snn' runs BatchNorm on running statistics, which joint.start='scratch' lacks: "
          "choose joint.start='ann', or another way"
        )


@dataclasses.dataclass(frozen=True)
class TuneConfig:
  """Calibration, and phase 2: the thresholds.

  Attributes:
    calibration: least_squares, delivered, percentile or maximum.
    percentile: of the activations, for that method.
    per_channel: one threshold a channel, else one a layer.
    images: number of training images to calibrate on.
    v_init: initial potentials to begin with, as fractions of the threshold.
    instalments: in so many parts, one before each of the first steps; None for the usual number.
    steps: optimizer steps; 0, after joint training, leaves thresholds as they were trained there.
    minutes: if positive, as many steps as fit into this time take the place of `steps`.
    batch_size: over all hosts.
    augment: whether tuning sees augmented images, as phase 1 does.
    objective: distillation, cross_entropy or squared_error.
    at: time steps whose answers are to be good, also in joint training through the SNN; empty for
      `snn.time_steps` alone.
    optimizer: of the thresholds.
  """

  calibration: str = "least_squares"
  percentile: float = 99.9
  per_channel: bool = True
  images: int = 1024
  v_init: float = 0.25
  instalments: int | None = None
  steps: int = 500
  minutes: float = 0.0
  batch_size: int = 32
  augment: bool = False
  objective: str = "distillation"
  at: tuple = ()
  optimizer: OptimizerConfig = OptimizerConfig("adamw", learning_rate=0.02)

  def __post_init__(self) -> None:
    for field in ("batch_size", "images"):
      check_count(field, getattr(self, field), 1)
    check_count("steps", self.steps, 0)
    check_finite("minutes", self.minutes)
    check_choice("objective", self.objective, OBJECTIVES)
    check_choice("calibration", self.calibration, METHODS)
    check_calibration(self.calibration, self.percentile, self.v_init, self.instalments)

  @property
  def runs(self) -> bool:
    """Whether there is a phase 2; joint training can do without."""
    return bool(self.steps or self.minutes)


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
