"""The fields of a config, their defaults, and the comparison of two configs.

A file under `configs/` calls `base_config()` and overrides what differs. Every field can be set on
the command line, `--config.tune.steps=500`; a field that is not here is an error.
"""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict, config_dict


def base_config() -> ConfigDict:
  """All fields with their defaults."""
  config = ConfigDict()
  config.name = "base"  # names the default workdir, runs/<name>
  config.seed = 0

  config.data = ConfigDict()
  config.data.name = "digits"  # or a TFDS set, see tcljax.data.load_dataset
  config.data.data_dir = config_dict.placeholder(str)  # default: $TFDS_DATA_DIR
  config.data.train_split = "train"
  config.data.test_split = "test"
  config.data.validation = 0  # training images set aside, for choices
  config.data.image_size = 0  # 0: the images' own size
  config.data.stream = False  # read from disk while used; always so above 8 GiB
  config.data.workers = -1  # processes that decode what is streamed; 0: none, -1: one a core

  config.preprocessing = ConfigDict()  # see tcljax.data.Preprocessing
  config.preprocessing.mean = (0.0,)
  config.preprocessing.std = (1.0,)
  config.preprocessing.shift = 0
  config.preprocessing.flip = False
  config.preprocessing.cutout = 0
  config.preprocessing.randaugment = 0
  config.preprocessing.magnitude = 9.0

  config.model = ConfigDict()
  config.model.name = "cnn"  # see tcljax.models.MODELS
  config.model.stages = config_dict.placeholder(tuple)  # None: the model's own
  config.model.dense = config_dict.placeholder(tuple)
  config.model.batch_norm = config_dict.placeholder(bool)
  config.model.pooling = config_dict.placeholder(str)  # average, before, gate
  config.model.stem = config_dict.placeholder(str)  # ResNets: cifar, imagenet
  config.model.shortcut = config_dict.placeholder(str)  # ResNets: pad, projection
  config.model.dtype = "float32"  # or bfloat16: what layers compute in

  config.snn = ConfigDict()  # see tcljax.SpikingConfig
  config.snn.time_steps = 8  # T that the thresholds are tuned for
  config.snn.chunk = 0  # K, 0: automatic
  config.snn.reset = "soft"
  config.snn.surrogate = "triangle"
  config.snn.width = 1.0
  config.snn.delay = 0  # steps at the start that the readout leaves out
  config.snn.encoding = "constant"  # or poisson
  config.snn.readout = "membrane"  # or rate: the outputs are spiking neurons too

  # What takes the place of phase 1: a checkpoint, or the workdir of an earlier run to go on from.
  config.pretrained = config_dict.placeholder(str)

  config.train = ConfigDict()  # phase 1: the ANN
  config.train.steps = 1000
  config.train.batch_size = 128
  config.train.label_smoothing = 0.0
  config.train.optimizer = _optimizer("sgd", learning_rate=0.1, weight_decay=5e-4)

  config.joint = ConfigDict()  # weights and thresholds together, see tcljax.runs.joint
  config.joint.through = config_dict.placeholder(str)  # clip, quantized, snn; None: no such phase
  config.joint.start = "ann"  # phase 1 or `pretrained`; or scratch
  config.joint.threshold = 2.0  # every threshold to begin with from scratch
  config.joint.threshold_decay = 0.0  # coefficient of the thresholds' squares in the loss
  config.joint.steps = 2000
  # In so many parts, each with the learning rate's whole schedule; the result is the mean of where
  # training started and where each of them ended. 0: no mean, the result is where it ends.
  config.joint.cycles = 0
  config.joint.batch_size = 128
  config.joint.objective = "cross_entropy"  # or distillation from the ANN it starts from
  config.joint.label_smoothing = 0.0
  config.joint.optimizer = _optimizer("sgd", learning_rate=0.02, weight_decay=1e-4)
  config.joint.threshold_optimizer = _optimizer("adamw", learning_rate=0.01, weight_decay=0.0)

  config.tune = ConfigDict()  # phase 2: the thresholds
  config.tune.calibration = "least_squares"  # or percentile, maximum
  config.tune.percentile = 99.9
  config.tune.per_channel = True
  config.tune.images = 1024  # number of training images to calibrate on
  config.tune.v_init = 0.25  # initial potentials to begin with, as fractions of the threshold
  config.tune.instalments = 8  # in so many parts, one before each of the first steps
  config.tune.steps = 500  # 0, after joint training: thresholds stay as trained there
  config.tune.minutes = 0.0  # if positive, as many steps as fit into this time, not tune.steps
  config.tune.batch_size = 32
  config.tune.augment = False  # whether tuning sees augmented images, as phase 1 does
  config.tune.objective = "distillation"  # or cross_entropy
  config.tune.at = ()  # steps whose answers are to be good, also in joint training through the SNN;
  # empty: snn.time_steps alone
  config.tune.optimizer = _optimizer("adamw", learning_rate=0.02, weight_decay=0.0)

  config.eval = ConfigDict()
  config.eval.time_steps = 64  # largest T reported
  config.eval.batch_size = 128

  config.log_every = 50
  config.checkpoint_every = 500
  return config.lock()


def _optimizer(name: str, learning_rate: float, weight_decay: float) -> ConfigDict:
  """The fields of `tcljax.OptimizerConfig`."""
  return ConfigDict(
    {
      "name": name,
      "learning_rate": learning_rate,
      "warmup_steps": 0,
      "momentum": 0.9,
      "weight_decay": weight_decay,
      "clip_norm": 0.0,
    }
  )


def to_json(config: ConfigDict) -> str:
  """The config as it is stored in a workdir."""
  return json.dumps(config.to_dict(), indent=2, default=list) + "\n"


def from_json(path: pathlib.Path) -> ConfigDict:
  """Reads what `to_json` wrote.

  Raises:
    ValueError: if it is not there, not JSON, or its fields are not those of a config.
  """
  try:
    stored = json.loads(path.read_text())
  except FileNotFoundError:
    raise ValueError(f"{path} does not exist: is {path.parent} a workdir of train.py?") from None
  except (OSError, ValueError) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error
  config = base_config()
  try:
    with config.ignore_type():
      config.update(_with_tuples(stored))
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path} does not hold the fields of this version: {error}") from error
  return config


def _with_tuples(value: Any) -> Any:
  """JSON knows no tuples; configs know nothing else."""
  if isinstance(value, dict):
    return {key: _with_tuples(v) for key, v in value.items()}
  return tuple(_with_tuples(v) for v in value) if isinstance(value, list) else value


def differences(stored: ConfigDict, given: ConfigDict) -> list[str]:
  """One text for each field in which two configs differ: `field: stored -> given`."""
  old, new = (_flatten(json.loads(to_json(config))) for config in (stored, given))
  return [
    f"{field}: {old.get(field)!r} -> {new.get(field)!r}"
    for field in sorted({*old, *new})
    if old.get(field) != new.get(field)
  ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
  return flat
