"""A whole config: its sections side by side, checked.

A config file makes a `ConfigDict` of these fields (`config_forms.base_config`) and overrides what
differs; commands read it once into a `RunConfig`.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, TypeVar

from tcljax.checks import check_count, check_seed
from tcljax.data import Preprocessing
from tcljax.runs.sections import DataConfig, EvalConfig, ModelConfig, SnnConfig
from tcljax.runs.training_sections import JointConfig, TrainConfig, TuneConfig
from tcljax.training.objectives import check_at

_Made = TypeVar("_Made")


class ConfigError(ValueError):
  """A value of the config that cannot be; the message begins with the dotted name of its field."""


def named(section: str, make: Callable[..., _Made], *args: Any, **fields: Any) -> _Made:
  """Calls `make` so that its errors name the section of the config that the values come from.

  Args:
    section: such as "tune.optimizer."; empty for the whole config.
    make: its ValueErrors begin with the name of its own argument, `steps=0 must be ...`.
    *args: for `make`.
    **fields: for `make`.

  Raises:
    ConfigError: in place of any other ValueError.
  """
  try:
    return make(*args, **fields)
  except ConfigError:
    raise
  except ValueError as error:
    if section and not re.match(r"[\w.]+=", str(error)):  # an error that names no field
      section = f"{section.rstrip('.')}: "
    raise ConfigError(f"{section}{error}") from error


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """A whole config, checked.

  Attributes:
    name: names the default workdir, runs/<name>.
    seed: of everything random.
    data: the images.
    preprocessing: normalisation and augmentation.
    model: the network.
    snn: the spiking network.
    pretrained: what takes the place of phase 1: a checkpoint, or the workdir of an earlier run to
      go on from.
    train: phase 1.
    joint: weights and thresholds together.
    tune: calibration and phase 2.
    eval: the reported numbers.
    log_every: optimizer steps between two records.
    checkpoint_every: optimizer steps between two checkpoints; 0: as many as take two minutes.
    checkpoints_kept: the newest so many of each phase; with one, a damaged one leaves none.

  Raises:
    ValueError: naming the dotted field, its value and the remedy.
  """

  name: str = "base"
  seed: int = 0
  data: DataConfig = DataConfig()
  preprocessing: Preprocessing = Preprocessing()
  model: ModelConfig = ModelConfig()
  snn: SnnConfig = SnnConfig()
  pretrained: str | None = None
  train: TrainConfig = TrainConfig()
  joint: JointConfig = JointConfig()
  tune: TuneConfig = TuneConfig()
  eval: EvalConfig = EvalConfig()
  log_every: int = 50
  checkpoint_every: int = 0
  checkpoints_kept: int = 2

  @property
  def phases(self) -> list[str]:
    """The sections of the phases that train anything."""
    runs = {
      "train": not (self.pretrained or self.joint.from_scratch),
      "joint": bool(self.joint.through),
      "tune": self.tune.runs,
    }
    return [phase for phase, does in runs.items() if does]

  def __post_init__(self) -> None:
    check_seed("seed", self.seed)
    check_count("log_every", self.log_every, 1)
    check_count("checkpoint_every", self.checkpoint_every, 0)
    check_count("checkpoints_kept", self.checkpoints_kept, 1)
    if self.snn.chunk and self.eval.time_steps % self.snn.chunk:
      raise ValueError(
        f"snn.chunk={self.snn.chunk} does not divide eval.time_steps={self.eval.time_steps}: "
        "choose a divisor of both, or 0 for an automatic one"
      )
    if self.eval.time_steps % self.snn.phase:
      raise ValueError(
        f"snn.phase={self.snn.phase} does not divide eval.time_steps={self.eval.time_steps}: "
        "choose a multiple of it there"
      )
    if self.train.best and not self.data.validation:
      raise ValueError("train.best=True chooses by images set aside: set data.validation above 0")
    if self.train.best and not self.checkpoint_every:
      raise ValueError(
        "train.best=True chooses among checkpoints at fixed steps: set checkpoint_every above 0"
      )
    if self.joint.from_scratch and self.pretrained:
      raise ValueError(
        f"pretrained={self.pretrained} would not be used with joint.start='scratch': choose 'ann', "
        "or leave it out"
      )
    named("tune.", check_at, self.tune.at, self.snn.time_steps, self.snn.phase)
