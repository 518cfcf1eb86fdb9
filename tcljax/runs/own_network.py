"""A user's own network on the images that a config describes, with thresholds, converted.

It was trained elsewhere: thresholds are all that is found here.
"""

import dataclasses
import glob
import hashlib
import math
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.data import Dataset
from tcljax.distributed import parallel
from tcljax.evaluation.accuracy import accuracy
from tcljax.graph import GraphNetwork, Traced, folded, read_model
from tcljax.layers.collections import PARAMS, Variables, new_thresholds, with_thresholds
from tcljax.maths.clipping import raw_from_threshold
from tcljax.maths.trees import is_shape, shape_text, stand_in
from tcljax.reporting.progress import say
from tcljax.runs import calibration, stages, workdir
from tcljax.runs.config import ConfigError, RunConfig
from tcljax.runs.config_forms import to_json
from tcljax.runs.conversion_run import convert_and_verify
from tcljax.runs.experiment import (
  Experiment,
  check_batches,
  experiment_of,
  instalments_of,
  load_images,
)
from tcljax.runs.training_sections import JointConfig
from tcljax.runs.user_file import Place, place_of, traced_from

_DIGITS = 12  # of the name of a folder with checkpoints


def check(config: RunConfig, network: str) -> Place:
  """Checks all that takes neither images nor the user's code.

  Args:
    config: of which `pretrained` and the sections model, train and joint are not used.
    network: path of a Python file and, after a colon, the name of a function in it.

  Raises:
    ConfigError: if the config asks for what needs a model of ours.
    ValueError: if there is no such file.
  """
  place = place_of(network)
  if config.snn.readout == "rate":
    raise ConfigError(
      f"snn.readout={config.snn.readout!r} is for the config's model: choose 'membrane'"
    )
  return place


def make_own_experiment(config: RunConfig, place: Place) -> tuple[Experiment, Variables]:
  """What a config describes but for its model, with a network of the user's own in its place.

  Args:
    config: see `check`.
    place: from `check`; its function takes nothing, and gives a `Traced` or a function of a batch
      of images, which is traced.

  Returns:
    The experiment, and the network's variables, without thresholds.

  Raises:
    ConfigError: if the config cannot be.
    ValueError: if there is no such function, it raises an error or gives something else, or if the
      network does not go with the images.
  """
  dataset = load_images(config)
  check_batches(config, dataset, ("tune",) if config.tune.runs else ())
  traced = traced_from(place, stand_in(dataset.test.image_shape[-3:], 1))
  traced = taking_images(traced, dataset)
  _check_outputs(traced, dataset)
  experiment = dataclasses.replace(
    experiment_of(config, dataset, traced.model),
    name=str(place),
    joint=JointConfig(),
    operations=traced.operations,
  )
  return experiment, traced.variables


class _OfImages(GraphNetwork):
  """A graph that takes images channels last, in whatever shape it takes them by itself.

  Attributes:
    shape: of an image as the graph takes it: channels first; or, of images of one channel, any.
  """

  shape: tuple[int, ...] = ()

  def __call__(self, x: jax.Array) -> Any:
    return super().__call__(jnp.moveaxis(x, -1, -3).reshape(len(x), *self.shape))


def taking_images(traced: Traced, dataset: Dataset) -> Traced:
  """The network for images as the data set has them; its own transposition is then undone.

  Raises:
    ValueError: if it does not take such images in any order of their axes.
  """
  height, width, channels = image = dataset.test.image_shape[-3:]
  shape = traced.input_shape
  if not is_shape(shape):
    raise ValueError(
      f"network: it takes {len(jax.tree.leaves(shape, is_leaf=is_shape))} inputs, and the images "
      f"of {dataset.name!r} are one: convert it in Python, see docs/your-own-network.md"
    )
  if shape == image:
    return traced
  if shape != (channels, height, width) and (channels > 1 or math.prod(shape) != height * width):
    raise ValueError(
      f"network: it takes inputs of shape {shape}, and the images of {dataset.name!r} are {image}: "
      "choose other data, or let the network take these"
    )
  model = _OfImages(traced.model.graph, shape=shape)
  read = read_model(model, traced.variables, image)
  graph, arrays, _ = folded(read.graph, read.arrays)
  variables = {PARAMS: jax.tree.map(jnp.asarray, arrays)}
  return dataclasses.replace(
    traced, model=GraphNetwork(graph), variables=variables, input_shape=image
  )


def _check_outputs(traced: Traced, dataset: Dataset) -> None:
  """Raises ValueError unless the network tells apart the classes of the data."""
  example = stand_in(traced.input_shape, 2)
  answer: Any = jax.eval_shape(traced.model.apply, traced.variables, example)
  classes = dataset.num_classes
  fits = [(classes,), (1,)] if classes == 2 else [(classes,)]
  if len(jax.tree.leaves(answer)) != 1 or tuple(jax.tree.leaves(answer)[0].shape[1:]) not in fits:
    raise ValueError(
      f"network: its output for a batch has shape {shape_text(answer, 'batch')}, and "
      f"{dataset.name!r} has {classes} classes, which take (batch, {classes})"
    )


def trial_thresholds(experiment: Experiment, variables: Variables) -> Variables:
  """The variables with thresholds of 1: what can be written is known before they are found."""
  network = experiment.ann
  populations = network.graph.populations() if isinstance(network, GraphNetwork) else []
  tune = experiment.tune
  parts = instalments_of(tune, experiment.snn.time_steps)
  one = new_thresholds(raw_from_threshold(jnp.ones(())), tune.v_init, parts)
  return with_thresholds(variables, {(name,): one for name in populations})


def convert_own(
  experiment: Experiment,
  variables: Variables,
  config: RunConfig,
  output: pathlib.Path,
  early_exit: float | None = None,
  nir: pathlib.Path | None = None,
  report: bool = True,
) -> dict[str, Any]:
  """Finds thresholds, and then converts, verifies and reports as of any workdir.

  Tuning has checkpoints beside the output: stopped, it goes on from these if network and config are
  the same. They are removed once the output is there.

  Args:
    experiment: from `make_own_experiment`.
    variables: from there too.
    config: whose experiment it is.
    output: see `convert_and_verify`, as of the others.
    early_exit: percent of training images.
    nir: a file.
    report: whether the page is written.

  Returns:
    What was written to results.json in `output`.

  Raises:
    CalibrationError: if the network gives no thresholds.
    ConversionFailed: as `convert_and_verify` does.
    FileError: if something cannot be written.
    OutputNotFinite: if an answer is none.
    Stopped: if a signal asked for it.
    TrainingDiverged: if the loss stops being finite.
  """
  say(
    f"{experiment.name} takes the place of the config's model: pretrained and the sections model, "
    "train and joint are not used"
  )
  _say_accuracy(experiment, variables)
  variables = calibration.calibrate_as_configured(experiment, variables)
  experiment = calibration.settled_as_configured(experiment, variables)
  if experiment.tune.runs:
    folder = _tuning_folder(output, _fingerprint(experiment, variables, config))
    workdir.prepare_workdir(folder, config)
    variables = stages.tune_thresholds(experiment, folder, parallel.data_mesh(), variables)
  results = convert_and_verify(experiment, variables, output, early_exit, nir, report)
  if parallel.is_main_host():
    for folder in output.parent.glob(f"{glob.escape(_tuning_folder(output).name)}{'?' * _DIGITS}"):
      shutil.rmtree(folder, ignore_errors=True)
  return results


def _tuning_folder(output: pathlib.Path, fingerprint: str = "") -> pathlib.Path:
  return output.with_name(f".{output.name}.tuning-{fingerprint}")


def _fingerprint(experiment: Experiment, variables: Variables, config: RunConfig) -> str:
  """Of all that tuning depends on."""
  found = hashlib.sha256(f"{to_json(config)}{experiment.model}".encode())
  for leaf in jax.tree.leaves(variables):
    found.update(np.asarray(leaf).tobytes())
  return found.hexdigest()[:_DIGITS]


def _say_accuracy(experiment: Experiment, variables: Variables) -> None:
  """Tells, before anything takes long, whether images come to the network as it knows them."""
  images = calibration.calibration_images(
    experiment.dataset, experiment.tune.images, experiment.seed
  )
  percent = accuracy(
    *experiment.reference(variables),
    images,
    batch_size=experiment.eval.batch_size,
    preprocess=experiment.preprocess_for_ann,
  )
  doubt, chance = "", 100 / experiment.dataset.num_classes
  if percent < 0.9 * chance + 10:  # a tenth of the way from chance to 100 %
    doubt = "; are the config's preprocessing.mean and std those that it was trained with?"
  say(f"{experiment.name}, as ANN: {percent:.2f} % of {len(images)} training images{doubt}")
