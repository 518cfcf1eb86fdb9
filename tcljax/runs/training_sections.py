"""The sections of a config that say how weights and thresholds are trained: see `sections`."""

import dataclasses

from tcljax.checks import check_choice, check_count, check_finite, check_least
from tcljax.training.calibration import METHODS, check_calibration
from tcljax.training.objectives import OBJECTIVES
from tcljax.training.optimizers import OptimizerConfig, check_from_scratch, check_of_thresholds


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """Phase 1: the ANN.

  Attributes:
    steps: optimizer steps.
    batch_size: over all hosts.
    accumulate: parts of a batch that are taken one after the other, to need less memory.
    fsdp: devices over which weights and optimizer state are split; 1: each has all.
    best: whether the ANN is the best of its checkpoints on the images of `data.validation`, and not
      the last one.
    label_smoothing: from 0 to below 1.
    optimizer: of the weights.
  """

  steps: int = 1000
  batch_size: int = 128
  accumulate: int = 1
  fsdp: int = 1
  best: bool = False
  label_smoothing: float = 0.0
  optimizer: OptimizerConfig = OptimizerConfig("sgd", learning_rate=0.1, weight_decay=5e-4)

  def __post_init__(self) -> None:
    for field in ("steps", "batch_size", "accumulate", "fsdp"):
      check_count(field, getattr(self, field), 1)
    _check_smoothing(self.label_smoothing)
    check_from_scratch("optimizer", self.optimizer)


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
    accumulate: parts of a batch that are taken one after the other, to need less memory.
    fsdp: devices over which weights and optimizer state are split; 1: each has all.
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
  accumulate: int = 1
  fsdp: int = 1
  objective: str = "cross_entropy"
  label_smoothing: float = 0.0
  optimizer: OptimizerConfig = OptimizerConfig("lamb", learning_rate=1e-3, weight_decay=1e-4)
  threshold_optimizer: OptimizerConfig = OptimizerConfig("adamw", learning_rate=0.01)

  def __post_init__(self) -> None:
    for field in ("steps", "batch_size", "accumulate", "fsdp"):
      check_count(field, getattr(self, field), 1)
    check_least("threshold_decay", self.threshold_decay, 0)
    check_count("cycles", self.cycles, 0)
    _check_smoothing(self.label_smoothing)
    if self.through:
      check_choice("through", self.through, ("clip", "quantized", "snn"))
    check_choice("start", self.start, ("ann", "scratch"))
    check_choice("objective", self.objective, OBJECTIVES)
    check_of_thresholds("threshold_optimizer", self.threshold_optimizer)
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
      check_from_scratch("optimizer", self.optimizer)


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
    accumulate: parts of a batch that are taken one after the other, to need less memory.
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
  accumulate: int = 1
  augment: bool = False
  objective: str = "distillation"
  at: tuple = ()
  optimizer: OptimizerConfig = OptimizerConfig("adamw", learning_rate=0.02)

  def __post_init__(self) -> None:
    for field in ("batch_size", "accumulate", "images"):
      check_count(field, getattr(self, field), 1)
    check_count("steps", self.steps, 0)
    check_finite("minutes", self.minutes)
    check_choice("objective", self.objective, OBJECTIVES)
    check_of_thresholds("optimizer", self.optimizer)
    check_choice("calibration", self.calibration, METHODS)
    check_calibration(self.calibration, self.percentile, self.v_init, self.instalments)

  @property
  def runs(self) -> bool:
    """Whether there is a phase 2; joint training can do without."""
    return bool(self.steps or self.minutes)
