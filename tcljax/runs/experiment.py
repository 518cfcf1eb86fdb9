"""What a config describes, made and checked: the start of every command."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.checks import check_count
from tcljax.data import Dataset, Preprocessing, load_dataset
from tcljax.data.batches import check_enough
from tcljax.distributed import fsdp, parallel
from tcljax.graph import Fate
from tcljax.layers.activations import TCL, ReLU, with_activation
from tcljax.layers.collections import CLIPPING, Variables, has_clipping, teacher_of, without
from tcljax.maths.encoding import constant_input
from tcljax.models import check_image_size, create_model
from tcljax.runs.config import ConfigError, RunConfig, named
from tcljax.runs.sections import EvalConfig, ModelConfig, SnnConfig
from tcljax.runs.training_sections import JointConfig, TrainConfig, TuneConfig
from tcljax.simulation.settings import SpikingConfig
from tcljax.training.calibration import usual_instalments

_Described = TypeVar("_Described", "Experiment", RunConfig)


@dataclasses.dataclass(frozen=True)  # equal ones share what is compiled of them
class _MeanFrame:
  """The mean of what sequences, [B, T, ...], are preprocessed to: [B, ...]."""

  preprocess: Preprocessing

  def __call__(self, images: Any, key: jax.Array | None = None) -> jax.Array:
    return constant_input(self.preprocess(images, key), "frames")


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Images and a network, and how to train, tune and measure it.

  Attributes:
    name: of the config.
    seed: of everything random.
    dataset: loaded.
    ann: the network of phase 1.
    preprocess: from stored to network images; augments where it is given a key.
    snn: how the network spikes while it is tuned.
    train: phase 1.
    joint: weights and thresholds together.
    tune: calibration and phase 2.
    eval: the reported numbers.
    log_every: optimizer steps between two records.
    checkpoint_every: optimizer steps between two checkpoints; 0: as many as take two minutes.
    checkpoints_kept: the newest so many of each phase.
    operations: of a network from a user's own file, what became of each of its operations.
  """

  name: str
  seed: int
  dataset: Dataset
  ann: nn.Module
  preprocess: Preprocessing
  snn: SnnConfig
  train: TrainConfig
  joint: JointConfig
  tune: TuneConfig
  eval: EvalConfig
  log_every: int
  checkpoint_every: int
  checkpoints_kept: int
  operations: tuple[Fate, ...] = ()

  @property
  def leaves_delay_open(self) -> bool:
    """Whether the delay of the readout is left to calibration, and not found yet."""
    return self.snn.delay == -1

  def with_delay(self, delay: int) -> "Experiment":
    """The experiment with a readout that leaves out these steps."""
    return dataclasses.replace(self, snn=dataclasses.replace(self.snn, delay=delay))

  def described_by(self, config: RunConfig) -> "Experiment":
    """Another config on the same images and network."""
    return experiment_of(config, self.dataset, self.ann)

  def with_time_steps(self, time_steps: int) -> "Experiment":
    """The experiment for another T; see the function `with_time_steps`."""
    return with_time_steps(self, time_steps)

  @property
  def model(self) -> nn.Module:
    """The network that is converted; it differs from `ann` by the spiking readout."""
    return self.ann.clone(spiking_readout=True) if self.snn.readout == "rate" else self.ann

  @property
  def spiking(self) -> SpikingConfig:
    """Simulation while tuning."""
    return self.snn.spiking()

  @property
  def reported(self) -> SpikingConfig:
    """Simulation of the reported numbers."""
    spiking = self.spiking.with_time_steps(self.eval.time_steps)
    return dataclasses.replace(spiking, chunk=self.snn.chunk)

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of one image, or one frame of a sequence, [H, W, C]."""
    return self.dataset.test.image_shape[-3:]

  @property
  def preprocess_for_ann(self) -> Callable[..., jax.Array]:
    """`preprocess` to what networks without time see: of sequences the mean of the frames."""
    frames = self.snn.encoding == "frames"
    return _MeanFrame(self.preprocess) if frames else self.preprocess

  def initial_variables(self) -> Variables:
    """Freshly initialised `params` and `batch_stats`."""
    key = jax.random.key(self.seed)
    return dict(jax.jit(self.ann.init)(key, jnp.zeros((1, *self.input_shape), jnp.float32)))

  def initial_clipping(self, threshold: float) -> dict[str, Any]:
    """The collection `clipping` before anything is known: every threshold is this one."""
    act = functools.partial(
      TCL,
      per_channel=self.tune.per_channel,
      threshold=threshold,
      v_init=self.tune.v_init,
      instalments=instalments_of(self.tune, self.snn.time_steps),
    )
    network = with_activation(self.model, act)
    x = jnp.zeros((1, *self.input_shape), jnp.float32)
    return jax.jit(lambda key: network.init(key, x)[CLIPPING])(jax.random.key(0))

  def reference(self, variables: Variables) -> tuple[nn.Module, Variables]:
    """The ANN that a spiking network is compared with and, by distillation, learns from.

    Returns:
      The network and its variables: the collection `teacher`, clipped where that holds thresholds,
      or else the weights of `variables` with ReLU.
    """
    own = teacher_of(variables) or without(variables, CLIPPING)
    return with_activation(self.ann, TCL if has_clipping(own) else ReLU), own


def instalments_of(tune: TuneConfig, time_steps: int) -> int:
  """In how many parts initial potentials come where thresholds are for T steps."""
  return tune.instalments or usual_instalments(tune.calibration, time_steps)


def with_time_steps(described: _Described, time_steps: int) -> _Described:
  """The experiment, or its config, with thresholds tuned for this T alone, and measured up to it.

  Tuning takes about as long for each T: half the training steps for twice the T. The fewer steps
  a network has in time, the more of training it needs. A set that serves several T, as `tune.at`
  has it, takes as long as sets for each of them would. Initial potentials come in no more than T
  instalments. A delay of T steps or more is none, see `SpikingConfig.with_time_steps`.

  Raises:
    ValueError: if K does not go with this T, or the frames of examples are not as many.
  """
  if described.snn.encoding == "frames" and time_steps != described.snn.time_steps:
    raise ValueError(
      f"time_steps={time_steps}: with snn.encoding='frames' there are as many as frames, "
      f"{described.snn.time_steps}; change it together with data.name in a config of its own"
    )
  given, shared = described.tune, max(1, len(described.tune.at))
  tune = dataclasses.replace(
    given,
    steps=max(1, given.steps * described.snn.time_steps // (time_steps * shared)),
    instalments=min(instalments_of(given, time_steps), time_steps),
    at=(),
  )
  # One that is left to calibration, -1, stays so.
  delay = min(described.snn.delay, described.snn.spiking().with_time_steps(time_steps).delay)
  snn = dataclasses.replace(described.snn, time_steps=time_steps, delay=delay)
  reported = dataclasses.replace(described.eval, time_steps=time_steps)
  return dataclasses.replace(described, snn=snn, tune=tune, eval=reported)


def make_experiment(config: RunConfig, load: Callable[..., Dataset] = load_dataset) -> Experiment:
  """Loads and makes what a config describes.

  What can be checked without the images is checked first. No device is used before everything else
  was checked.

  Args:
    config: what to make.
    load: gives the data set, called with the fields of `config.data`.

  Raises:
    ConfigError: naming the field, its value and the remedy.
  """
  named("model.", create_model, num_classes=1, **dataclasses.asdict(config.model))
  if not config.joint.through:
    named("tune.", check_count, "steps", config.tune.steps, 1)
  dataset = load_images(config, load)
  ann = _make_model(config.model, dataset)
  check_batches(config, dataset, ("train", "joint", "tune"))
  return experiment_of(config, dataset, ann)


def load_images(config: RunConfig, load: Callable[..., Dataset] = load_dataset) -> Dataset:
  """The data set of a config, which goes with its preprocessing and encoding, by `load`.

  Raises:
    ConfigError: naming the field, its value and the remedy.
  """
  dataset = named("data.", load, **dataclasses.asdict(config.data))
  _check_frames(config, dataset)
  channels = dataset.test.image_shape[-1]
  for field in ("mean", "std"):
    values = getattr(config.preprocessing, field)
    if len(values) not in (1, channels):
      raise ConfigError(
        f"preprocessing.{field}={values} has {len(values)} values for {channels} channels"
      )
  return dataset


def check_batches(config: RunConfig, dataset: Dataset, phases: Sequence[str]) -> None:
  """Raises ConfigError unless batches of these phases go with the images and the devices."""
  sections = {phase: getattr(config, phase) for phase in phases}
  for phase in filter(sections.__contains__, config.phases):
    size = sections[phase].batch_size
    named(f"{phase}.", check_enough, "batch_size", size, len(dataset.train))
  for phase, section in sections.items():
    size, parts = section.batch_size, section.accumulate
    named(f"{phase}.", parallel.check_batch_size, "batch_size", size, parts)
    if isinstance(section, (TrainConfig, JointConfig)):
      named(f"{phase}.", fsdp.check_devices, "fsdp", section.fsdp)


def _check_frames(config: RunConfig, dataset: Dataset) -> None:
  """Raises ConfigError unless sequences are simulated as such, a frame in each step."""
  encoding, frames = config.snn.encoding, dataset.frames
  if (encoding == "frames") != bool(frames):
    holds = f"{frames} frames" if frames else "one image"
    remedy = "set it to 'frames'" if frames else "choose constant or poisson"
    raise ConfigError(
      f"snn.encoding={encoding!r}: an example of {dataset.name!r} is {holds}, {remedy}"
    )
  if not frames:
    return
  for field, time_steps in (
    ("snn.time_steps", config.snn.time_steps),
    ("eval.time_steps", config.eval.time_steps),
  ):
    if time_steps != frames:
      raise ConfigError(
        f"{field}={time_steps} must be the number of frames of {dataset.name!r}, {frames}: set "
        "both to it, or name another number, event_digits/8"
      )
  if config.preprocessing.randaugment:
    raise ConfigError(
      f"preprocessing.randaugment={config.preprocessing.randaugment} is for images of colors and "
      f"not for the events of {dataset.name!r}: leave it 0"
    )


def experiment_of(config: RunConfig, dataset: Dataset, ann: nn.Module) -> Experiment:
  """The experiment on images, with a network, that were made and checked before."""
  return Experiment(
    name=config.name,
    seed=config.seed,
    dataset=dataset,
    ann=ann,
    preprocess=config.preprocessing,
    snn=config.snn,
    train=config.train,
    joint=config.joint,
    tune=config.tune,
    eval=config.eval,
    log_every=config.log_every,
    checkpoint_every=config.checkpoint_every,
    checkpoints_kept=config.checkpoints_kept,
  )


def _make_model(config: ModelConfig, dataset: Dataset) -> nn.Module:
  """The ANN, after a trial at shapes alone, so that sizes that make no network are told at once."""
  fields = dataclasses.asdict(config)
  ann = named("model.", create_model, num_classes=dataset.num_classes, **fields)
  shape = dataset.test.image_shape[-3:]
  try:
    check_image_size(ann, shape[:2])
    jax.eval_shape(
      lambda x: ann.init(jax.random.key(0), x), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    )
  except (TypeError, ValueError, ZeroDivisionError) as error:
    given = ", ".join(f"{k}={v!r}" for k, v in fields.items() if v is not None)
    raise ConfigError(f"model ({given}): {str(error).partition(chr(10))[0]}") from error
  return ann
