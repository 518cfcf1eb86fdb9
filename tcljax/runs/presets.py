"""What configs for one kind of images share, and the variants that any config takes as argument.

Variants are separated by commas: `--config=configs/vgg16.py:cifar100,joint`.
"""

from typing import Any

from ml_collections import ConfigDict

from tcljax.checks import check_choice
from tcljax.runs.config_forms import base_config


def cifar_config(name: str) -> ConfigDict:
  """A config for CIFAR-10: 60 epochs for the weights, 10 for the thresholds."""
  config: Any = base_config()  # ConfigDict declares no types of its fields
  config.name = name
  config.data.name = "cifar10"
  config.preprocessing.mean = (0.4914, 0.4822, 0.4465)
  config.preprocessing.std = (0.2470, 0.2435, 0.2616)
  config.preprocessing.shift = 4
  config.preprocessing.flip = True
  config.train.steps = 60 * 50_000 // 128
  config.train.label_smoothing = 0.1
  config.train.optimizer.warmup_steps = 400
  config.tune.steps = 10 * 50_000 // 128
  config.tune.batch_size = 128
  return config


def long_cifar_config(name: str) -> ConfigDict:
  """`cifar_config` with 200 epochs for the weights, Cutout and RandAugment: for large networks."""
  config: Any = cifar_config(name)
  config.preprocessing.cutout = 8
  config.preprocessing.randaugment = 2
  config.train.steps = 200 * 50_000 // 128
  config.train.optimizer.warmup_steps = 2000
  return config


def imagenet_config(name: str) -> ConfigDict:
  """A config for ImageNet: 90 epochs for the weights, half of one for the thresholds."""
  config: Any = base_config()  # ConfigDict declares no types of its fields
  config.name = name
  config.data.name = "imagenet2012"
  config.data.test_split = "validation"  # the split "test" has no labels
  config.data.image_size = 224
  config.data.stream = True
  config.preprocessing.mean = (0.485, 0.456, 0.406)
  config.preprocessing.std = (0.229, 0.224, 0.225)
  config.preprocessing.flip = True
  config.train.batch_size = 256
  config.train.steps = 90 * 1_281_167 // 256
  config.train.label_smoothing = 0.1
  config.train.optimizer.weight_decay = 1e-4
  config.train.optimizer.warmup_steps = 5 * 1_281_167 // 256
  config.snn.time_steps = 32
  config.snn.delay = 1
  config.tune.at = (8, 16, 32)
  config.tune.steps = 10_000
  config.tune.batch_size = 64
  config.tune.images = 2048
  config.log_every = 100
  return config


def with_variants(config: ConfigDict, variants: str) -> ConfigDict:
  """Applies variants to a config in place, and adds their names to its own.

  Args:
    config: what the variants start from.
    variants: names of `VARIANTS`, separated by commas; empty for none.

  Raises:
    ValueError: on an unknown variant, or one for other data.
  """
  for variant in filter(None, variants.split(",")):
    check_choice("variant of the config", variant, tuple(VARIANTS))
    VARIANTS[variant](config)
    config.name = f"{config.name}-{variant}"
  return config


def _cifar100(config: Any) -> None:
  if config.data.name != "cifar10":
    raise ValueError(
      f"the variant 'cifar100' is for configs on cifar10, {config.name!r} is on {config.data.name}"
    )
  config.data.name = "cifar100"
  config.preprocessing.mean = (0.5071, 0.4865, 0.4409)
  config.preprocessing.std = (0.2673, 0.2564, 0.2762)


def _joint(config: Any) -> None:
  """The fewest steps: from the tuned thresholds on, all is trained through the SNN of T = 4."""
  _fine_tuned(config, "snn", 4)
  config.joint.optimizer.warmup_steps = 100
  config.joint.threshold_optimizer.learning_rate = 3e-3
  config.log_every = 20


def _quantized(config: Any) -> None:
  """All is trained through what T = 8 steps can express; the cost of a batch does not grow with T.

  Then thresholds are tuned through the SNN.
  """
  _fine_tuned(config, "quantized", 8)
  config.joint.optimizer.name = "sgd"
  config.joint.optimizer.learning_rate = 0.02


def _fine_tuned(config: Any, through: str, time_steps: int) -> None:
  config.snn.time_steps = config.tune.instalments = time_steps
  config.tune.at = ()
  config.tune.steps = 500
  config.tune.batch_size = 32
  config.joint.through = through
  config.joint.objective = "distillation"
  config.joint.steps = 1500
  config.joint.batch_size = 64


def _scratch(config: Any) -> None:
  """The paper's own way: thresholds are trained with the weights from the start, by a clip.

  They begin at 2, with a pull of their own towards small ones, and are tuned afterwards.
  """
  config.joint.through = "clip"
  config.joint.start = "scratch"
  config.joint.threshold_decay = 1e-4
  for field in ("steps", "batch_size", "label_smoothing"):
    config.joint[field] = config.train[field]
  config.joint.optimizer.update(config.train.optimizer.to_dict())


VARIANTS = {"cifar100": _cifar100, "joint": _joint, "quantized": _quantized, "scratch": _scratch}
