"""What a config describes, made and checked: the start of every command."""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from tcljax import calibration, parallel
from tcljax import config as configs
from tcljax.activations import TCL, with_activation
from tcljax.checks import check_choice, check_least
from tcljax.data import Dataset, Preprocessing, load_dataset
from tcljax.files import write_text
from tcljax.models import MODELS, check_image_size, create_model
from tcljax.objectives import OBJECTIVES, check_at
from tcljax.optim import OptimizerConfig
from tcljax.pretrained import load_pretrained
from tcljax.simulation import SpikingConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A checked config with the objects it describes.

  Attributes:
    config: the config itself.
    dataset: loaded.
    preprocess: from stored to network images; augments where it is given a key.
    ann: the network of phase 1.
    model: the network that is converted; it differs from `ann` by the spiking readout.
    spiking: simulation while tuning.
    evaluation: simulation of the reported numbers.
    train_optimizer: of phase 1.
    tune_optimizer: of phase 2.
  """

  config: ConfigDict
  dataset: Dataset
  preprocess: Preprocessing
  ann: nn.Module
  model: nn.Module
  spiking: SpikingConfig
  evaluation: SpikingConfig
  train_optimizer: OptimizerConfig
  tune_optimizer: OptimizerConfig

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of one image, [H, W, C]."""
    return self.dataset.test.images.shape[1:]

  def initial_variables(self) -> dict[str, Any]:
    """Freshly initialised `params` and `batch_stats`."""
    key = jax.random.key(self.config.seed)
    return dict(jax.jit(self.ann.init)(key, jnp.zeros((1, *self.input_shape), jnp.float32)))

  def abstract_clipping(self) -> dict[str, Any]:
    """Shapes of the collection `clipping`."""
    tune = self.config.tune
    act = functools.partial(TCL, per_channel=tune.per_channel, instalments=tune.instalments)
    return _abstract_init(with_activation(self.model, act), self.input_shape)["clipping"]


def make_experiment(config: ConfigDict) -> Experiment:
  """Checks a config and makes what it describes.

  No device is used before everything else was checked.

  Raises:
    ValueError: naming the field, its value and the remedy.
  """
  _check_numbers(config)
  snn = config.snn.to_dict()
  check_choice("snn.readout", snn["readout"], ("membrane", "rate"))
  spiking_readout = snn.pop("readout") == "rate"
  spiking = _named("snn.", SpikingConfig, **snn)
  if spiking.chunk and config.eval.steps % spiking.chunk:
    raise ValueError(f"snn.chunk={spiking.chunk} does not divide eval.steps={config.eval.steps}: "
                     "choose a divisor of both, or 0 for an automatic one")
  evaluation = _named("snn.", dataclasses.replace, spiking, steps=config.eval.steps)
  preprocess = _named("preprocessing.", Preprocessing, **config.preprocessing.to_dict())
  check_choice("tune.objective", config.tune.objective, OBJECTIVES)
  _named("tune.", check_at, config.tune.at, spiking.steps)
  _named("tune.", calibration.check_calibration, config.tune.calibration, config.tune.percentile,
         spiking.steps, config.tune.v_init, config.tune.instalments)
  optimizers = [_named(f"{phase}.", OptimizerConfig, **config[phase].optimizer.to_dict())
                for phase in ("train", "tune")]
  dataset = load_dataset(**config.data.to_dict())
  channels = dataset.test.images.shape[-1]
  for field in ("mean", "std"):
    if len(config.preprocessing[field]) not in (1, channels):
      raise ValueError(f"preprocessing.{field}={config.preprocessing[field]} has "
                       f"{len(config.preprocessing[field])} values for {channels} channels")
  ann = _make_model(config, dataset)
  for phase in ("train", "tune"):
    parallel.check_batch_size(f"{phase}.batch_size", config[phase].batch_size)
  return Experiment(
      config=config, dataset=dataset, preprocess=preprocess,
      ann=ann, model=ann.clone(spiking_readout=spiking_readout),
      spiking=spiking, evaluation=evaluation,
      train_optimizer=optimizers[0], tune_optimizer=optimizers[1])


def read_pretrained(experiment: Experiment) -> dict[str, Any] | None:
  """The imported `params` and `batch_stats`; None where the config names no checkpoint.

  Raises:
    ValueError: if the checkpoint cannot be read or does not fit the model.
  """
  path = experiment.config.pretrained
  if not path:
    return None
  return _named("pretrained: ", load_pretrained, path, experiment.ann, experiment.input_shape)


def _named(section, make, *args, **fields):
  """Calls `make` so that its errors begin with the section of the config."""
  try:
    return make(*args, **fields)
  except ValueError as error:
    raise ValueError(f"{section}{error}") from None


def _check_numbers(config):
  for field in ("train.steps", "tune.steps", "eval.steps", "train.batch_size", "tune.batch_size",
                "eval.batch_size", "tune.images", "log_every", "checkpoint_every"):
    check_least(field, functools.reduce(lambda at, part: at[part], field.split("."), config), 1)
  check_least("seed", config.seed, 0)
  check_least("tune.minutes", config.tune.minutes, 0)
  if not 0 <= config.train.label_smoothing < 1:
    raise ValueError(f"train.label_smoothing={config.train.label_smoothing} must be in [0, 1)")


def _make_model(config, dataset):
  """The ANN, after a trial at shapes alone, so that sizes that make no network are told now."""
  fields = config.model.to_dict()
  check_choice("model.name", fields["name"], MODELS)
  try:
    ann = create_model(num_classes=dataset.num_classes, **fields)
    height, width = dataset.test.images.shape[1:3]
    check_image_size(ann, (height, width))
    _abstract_init(ann, dataset.test.images.shape[1:])
  except (TypeError, ValueError, ZeroDivisionError) as error:
    given = ", ".join(f"{k}={v!r}" for k, v in fields.items() if v is not None)
    raise ValueError(f"model ({given}): {str(error).partition(chr(10))[0]}") from error
  return ann


def _abstract_init(model, input_shape):
  """Shapes of a model's variables; no device is used."""
  return jax.eval_shape(
      lambda x: model.init(jax.random.key(0), x),
      jax.ShapeDtypeStruct((1, *input_shape), jnp.float32))


def prepare_workdir(workdir: str | os.PathLike, config: ConfigDict) -> pathlib.Path:
  """Makes the workdir, or checks that it belongs to this config.

  Raises:
    ValueError: if it cannot be written, or holds another config; what is there stays as it is.
  """
  path = pathlib.Path(workdir).absolute()
  stored = path / "config.json"
  if stored.exists():
    changed = configs.differences(configs.from_json(stored), config)
    if changed:
      raise ValueError(f"workdir {path} holds another config ({'; '.join(changed)}): choose "
                       "another --workdir, or set these fields back")
  elif path.is_dir() and any(f.name != "config.json.partial" for f in path.iterdir()):
    raise ValueError(f"workdir {path} is not empty and holds no config.json: choose another "
                     "--workdir")
  try:
    path.mkdir(parents=True, exist_ok=True)
    if parallel.is_main_host():
      write_text(stored, configs.to_json(config))
    parallel.wait_for_hosts("prepare_workdir")
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  return path


def calibration_images(dataset: Dataset, count: int, seed: int) -> np.ndarray:
  """Training images to calibrate on, drawn without replacement; all of them if there are fewer."""
  order = np.random.default_rng(seed).permutation(len(dataset.train.labels))
  return dataset.train.images[np.sort(order[:count])]
