"""Checks of a config's fields beside one another; what one object holds, it checks itself."""

import functools

from ml_collections import ConfigDict

from tcljax.checks import check_choice, check_least
from tcljax.training.objectives import OBJECTIVES

JOINT_THROUGH = ("clip", "quantized", "snn")


def check_numbers(config: ConfigDict) -> None:
  """Raises ValueError where a number is out of its range, naming the field."""
  for field in (
    "train.steps",
    "joint.steps",
    "eval.time_steps",
    "train.batch_size",
    "joint.batch_size",
    "tune.batch_size",
    "eval.batch_size",
    "tune.images",
    "log_every",
    "checkpoint_every",
  ):
    check_least(field, functools.reduce(lambda at, part: at[part], field.split("."), config), 1)
  check_least("tune.steps", config.tune.steps, 0 if config.joint.through else 1)
  for field, value in (
    ("seed", config.seed),
    ("tune.minutes", config.tune.minutes),
    ("joint.threshold_decay", config.joint.threshold_decay),
    ("joint.cycles", config.joint.cycles),
  ):
    check_least(field, value, 0)
  for phase in ("train", "joint"):
    smoothing = config[phase].label_smoothing
    if not 0 <= smoothing < 1:
      raise ValueError(f"{phase}.label_smoothing={smoothing} must be in [0, 1)")


def check_joint(config: ConfigDict) -> None:
  """Raises ValueError where the fields of joint training contradict one another."""
  joint = config.joint
  if joint.through is None:
    return
  check_choice("joint.through", joint.through, JOINT_THROUGH)
  check_choice("joint.start", joint.start, ("ann", "scratch"))
  check_choice("joint.objective", joint.objective, OBJECTIVES)
  if not joint.threshold > 0:
    raise ValueError(f"joint.threshold={joint.threshold} must be above 0")
  for field in ("optimizer", "threshold_optimizer"):
    rate = joint[field].learning_rate
    if rate == 0:
      frozen = "weights" if field == "optimizer" else "thresholds"
      raise ValueError(
        f"joint.{field}.learning_rate={rate} freezes the {frozen}, which joint "
        "training trains: set it above 0; to train thresholds alone leave "
        "joint.through out"
      )
  if joint.cycles:
    if joint.steps < joint.cycles:
      raise ValueError(
        f"joint.cycles={joint.cycles} is more than joint.steps={joint.steps}: a "
        "cycle takes at least one step"
      )
    for field, value in (("start", "scratch"), ("through", "snn")):
      if joint[field] == value:
        raise ValueError(
          f"joint.cycles={joint.cycles} averages over trained networks with "
          f"statistics of their own, which joint.{field}={value!r} has not: set "
          "cycles to 0"
        )
  if joint.start == "scratch":
    if config.pretrained:
      raise ValueError(
        f"pretrained={config.pretrained} would not be used with "
        "joint.start='scratch': choose 'ann', or leave it out"
      )
    if joint.objective == "distillation":
      raise ValueError(
        "joint.objective='distillation' has no ANN to learn from with "
        "joint.start='scratch': choose cross_entropy"
      )
    if joint.through == "snn":
      raise ValueError(
        "joint.through='snn' runs BatchNorm on running statistics, which "
        "joint.start='scratch' lacks: choose joint.start='ann', or another way"
      )
