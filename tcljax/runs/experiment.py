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

from tcljax.checks import check_choice
from tcljax.data import Dataset, Examples, Preprocessing, load_dataset
from tcljax.distributed import parallel
from tcljax.files import write_text
from tcljax.layers.activations import TCL, Quantized, ReLU, with_activation
from tcljax.models import MODELS, check_image_size, create_model
from tcljax.runs import config as configs
from tcljax.runs.config_checks import check_joint, check_numbers
from tcljax.simulation.settings import SpikingConfig
from tcljax.training import calibration
from tcljax.training.objectives import OBJECTIVES, check_at
from tcljax.training.optimizers import OptimizerConfig


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
    joint_optimizers: of joint training, by collection.
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
  joint_optimizers: dict[str, OptimizerConfig]
  tune_optimizer: OptimizerConfig

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of one image, [H, W, C]."""
    return self.dataset.test.image_shape

  def initial_variables(self) -> dict[str, Any]:
    """Freshly initialised `params` and `batch_stats`."""
    key = jax.random.key(self.config.seed)
    return dict(jax.jit(self.ann.init)(key, jnp.zeros((1, *self.input_shape), jnp.float32)))

  def initial_clipping(self) -> dict[str, Any]:
    """The collection `clipping` before anything is known: all thresholds `joint.threshold`."""
    tune = self.config.tune
    network = with_activation(
      self.model,
      functools.partial(
        TCL,
        per_channel=tune.per_channel,
        threshold=self.config.joint.threshold,
        v_init=tune.v_init,
        instalments=tune.instalments,
      ),
    )
    x = jnp.zeros((1, *self.input_shape), jnp.float32)
    return jax.jit(lambda key: network.init(key, x)["clipping"])(jax.random.key(0))

  def abstract_clipping(self) -> dict[str, Any]:
    """Shapes of the collection `clipping`."""
    return jax.eval_shape(self.initial_clipping)

  @property
  def from_scratch(self) -> bool:
    """Whether weights and thresholds are trained together from the start, with no ANN before."""
    return bool(self.config.joint.through) and self.config.joint.start == "scratch"

  @property
  def tunes(self) -> bool:
    """Whether there is a phase 2; joint training can do without."""
    return bool(self.config.tune.steps or self.config.tune.minutes)

  @property
  def ann_with_activation(self) -> nn.Module:
    """The network that is trained before its thresholds are tuned, as joint training has it.

    T-aware training goes through the activation that T steps can express, with the half step that
    rounds to nearest (Bu et al., ICLR 2022).
    """
    act = {
      "clip": TCL,
      "quantized": functools.partial(Quantized, time_steps=self.spiking.time_steps, shift=0.5),
    }.get(self.config.joint.through, ReLU)
    return with_activation(self.ann, act)

  @property
  def makes_its_teacher(self) -> bool:
    """Whether joint training makes, from labels, the network that tuning then learns from."""
    joint = self.config.joint
    return joint.through in ("clip", "quantized") and joint.objective == "cross_entropy"

  def with_own_teacher(self, variables: dict[str, Any]) -> dict[str, Any]:
    """Variables after joint training, with `teacher` where they are their own."""
    if "teacher" in variables or not self.makes_its_teacher:
      return variables
    return {**variables, "teacher": dict(variables)}

  def reference(self, variables: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """The ANN that a spiking network is compared with and, by distillation, learns from.

    Returns:
      The network and its variables: the collection `teacher`, clipped where that holds thresholds,
      or else the weights of `variables` with ReLU.
    """
    own = variables.get("teacher") or {
      name: tree for name, tree in variables.items() if name != "clipping"
    }
    return with_activation(self.ann, TCL if "clipping" in own else ReLU), own


def make_experiment(config: ConfigDict) -> Experiment:
  """Checks a config and makes what it describes.

  No device is used before everything else was checked.

  Raises:
    ValueError: naming the field, its value and the remedy.
  """
  check_numbers(config)
  snn = config.snn.to_dict()
  check_choice("snn.readout", snn["readout"], ("membrane", "rate"))
  spiking_readout = snn.pop("readout") == "rate"
  spiking = _named("snn.", SpikingConfig, **snn)
  if spiking.chunk and config.eval.time_steps % spiking.chunk:
    raise ValueError(
      f"snn.chunk={spiking.chunk} does not divide eval.time_steps={config.eval.time_steps}: "
      "choose a divisor of both, or 0 for an automatic one"
    )
  evaluation = _named("snn.", dataclasses.replace, spiking, time_steps=config.eval.time_steps)
  preprocess = _named("preprocessing.", Preprocessing, **config.preprocessing.to_dict())
  check_choice("tune.objective", config.tune.objective, OBJECTIVES)
  check_joint(config)
  _named("tune.", check_at, config.tune.at, spiking.time_steps)
  _named(
    "tune.",
    calibration.check_calibration,
    config.tune.calibration,
    config.tune.percentile,
    spiking.time_steps,
    config.tune.v_init,
    config.tune.instalments,
  )
  train_optimizer, joint_optimizer, threshold_optimizer, tune_optimizer = (
    _named(f"{phase}.", OptimizerConfig, **config[phase][field].to_dict())
    for phase, field in (
      ("train", "optimizer"),
      ("joint", "optimizer"),
      ("joint", "threshold_optimizer"),
      ("tune", "optimizer"),
    )
  )
  dataset = load_dataset(**config.data.to_dict())
  channels = dataset.test.image_shape[-1]
  for field in ("mean", "std"):
    if len(config.preprocessing[field]) not in (1, channels):
      raise ValueError(
        f"preprocessing.{field}={config.preprocessing[field]} has "
        f"{len(config.preprocessing[field])} values for {channels} channels"
      )
  ann = _make_model(config, dataset)
  for phase in ("train", "joint", "tune"):
    parallel.check_batch_size(f"{phase}.batch_size", config[phase].batch_size)
  return Experiment(
    config=config,
    dataset=dataset,
    preprocess=preprocess,
    ann=ann,
    model=ann.clone(spiking_readout=spiking_readout),
    spiking=spiking,
    evaluation=evaluation,
    train_optimizer=train_optimizer,
    joint_optimizers={"params": joint_optimizer, "clipping": threshold_optimizer},
    tune_optimizer=tune_optimizer,
  )


def _named(section, make, *args, **fields):
  """Calls `make` so that its errors begin with the section of the config."""
  try:
    return make(*args, **fields)
  except ValueError as error:
    raise ValueError(f"{section}{error}") from None


def _make_model(config, dataset):
  """The ANN, after a trial at shapes alone, so that sizes that make no network are told now."""
  fields = config.model.to_dict()
  check_choice("model.name", fields["name"], MODELS)
  try:
    ann = create_model(num_classes=dataset.num_classes, **fields)
    height, width = dataset.test.image_shape[:2]
    check_image_size(ann, (height, width))
    _abstract_init(ann, dataset.test.image_shape)
  except (TypeError, ValueError, ZeroDivisionError) as error:
    given = ", ".join(f"{k}={v!r}" for k, v in fields.items() if v is not None)
    raise ValueError(f"model ({given}): {str(error).partition(chr(10))[0]}") from error
  return ann


def _abstract_init(model, input_shape):
  """Shapes of a model's variables; no device is used."""
  return jax.eval_shape(
    lambda x: model.init(jax.random.key(0), x), jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  )


def prepare_workdir(workdir: str | os.PathLike, config: ConfigDict) -> pathlib.Path:
  """Makes the workdir, or checks that it belongs to this config.

  Raises:
    ValueError: if it cannot be written, or holds another config; what is there stays as it is.
  """
  path = pathlib.Path(workdir).absolute()
  stored = path / "config.json"
  # Looked at once: another host of the same run may write its config at any moment.
  names = {found.name for found in path.iterdir()} if path.is_dir() else set()
  if stored.name in names:
    changed = configs.differences(configs.from_json(stored), config)
    if changed:
      raise ValueError(
        f"workdir {path} holds another config ({'; '.join(changed)}): choose "
        "another --workdir, or set these fields back"
      )
  elif names - {"config.json.partial"}:
    raise ValueError(
      f"workdir {path} is not empty and holds no config.json: choose another --workdir"
    )
  try:
    path.mkdir(parents=True, exist_ok=True)
    if parallel.is_main_host():
      write_text(stored, configs.to_json(config))
    parallel.wait_for_hosts("prepare_workdir")
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  return path


def calibration_images(dataset: Dataset, count: int, seed: int) -> Examples:
  """Training images to calibrate on, drawn without replacement; all of them if there are fewer."""
  order = np.random.default_rng(seed).permutation(len(dataset.train))
  return dataset.train.take(np.sort(order[:count]))
