"""Thresholds from training images, and the delay of the readout that goes with them."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh

from tcljax.data import Dataset, Examples
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.layers.collections import CLIPPING, Variables
from tcljax.maths.encoding import time_first
from tcljax.reporting.progress import say
from tcljax.runs.experiment import Experiment
from tcljax.runs.workdir import CALIBRATED, keep_delay, with_kept_delay
from tcljax.training.calibration import DELIVERED, calibrate
from tcljax.training.delay import choose_delay

_BATCH = 128


def calibrate_in_workdir(
  experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, variables: Variables
) -> Variables:
  """Adds the collection `clipping` as the config says, or as the workdir has it already."""
  with Checkpoints(workdir / CALIBRATED, say) as checkpoints:
    if checkpoints.latest_step() is None:
      variables = calibrate_as_configured(experiment, variables)
      checkpoints.save(0, {CLIPPING: parallel.replicate(mesh, variables[CLIPPING])})
    else:
      abstract = parallel.abstract_replicated(mesh, checkpoints.structure())
      variables = {**variables, **checkpoints.restore(abstract)}
  return variables


def calibrate_as_configured(experiment: Experiment, variables: Variables) -> Variables:
  """Thresholds by the config's method."""
  tune = experiment.tune
  return calibrate_by(
    tune.calibration, experiment, variables, tune.per_channel, tune.v_init, tune.instalments
  )


def calibrate_by(
  method: str,
  experiment: Experiment,
  variables: Variables,
  per_channel: bool,
  v_init: float,
  instalments: int | None = 1,
) -> Variables:
  """Thresholds from as many training images as the config says; see `tcljax.calibrate`."""
  tune = experiment.tune
  images = calibration_images(experiment.dataset, tune.images, experiment.seed)
  with _batches(experiment, images) as batches:
    variables = calibrate(
      experiment.model,
      variables,
      batches,
      experiment.spiking,
      method=method,
      percentile=tune.percentile,
      per_channel=per_channel,
      v_init=v_init,
      instalments=instalments,
    )
  say(f"thresholds calibrated on {len(images)} training images: {method}")
  return variables


def settled(experiment: Experiment, variables: Variables) -> Experiment:
  """The experiment with the delay of `tcljax.choose_delay`, on the images of calibration."""
  images = calibration_images(experiment.dataset, experiment.tune.images, experiment.seed)
  with _batches(experiment, images) as batches:
    found = choose_delay(experiment.model, variables, batches, experiment.spiking)
  experiment = experiment.with_delay(parallel.agreed(found.delay))
  say(f"answers leave out the first {experiment.snn.delay} of {found.time_steps} steps")
  return experiment


def settled_as_configured(experiment: Experiment, variables: Variables) -> Experiment:
  """The same where the config leaves it to calibration, and this lets layers wait."""
  waits = experiment.tune.calibration == DELIVERED
  return settled(experiment, variables) if waits and experiment.leaves_delay_open else experiment


def settled_in_workdir(
  experiment: Experiment, workdir: pathlib.Path, variables: Variables
) -> Experiment:
  """`settled_as_configured`, or as the workdir has it already."""
  experiment = with_kept_delay(experiment, workdir)
  if experiment.leaves_delay_open:
    experiment = settled_as_configured(experiment, variables)
    if not experiment.leaves_delay_open:
      keep_delay(workdir, experiment.snn.delay)
  return experiment


@contextlib.contextmanager
def _batches(experiment: Experiment, images: Examples) -> Iterator[Iterator[Any]]:
  """Images as networks take them, in batches of calibration; on leaving, what reads them ends."""
  parts = np.split(np.arange(len(images)), range(_BATCH, len(images), _BATCH))
  with contextlib.closing(images.evaluation(parts)) as batches:
    yield (
      time_first(experiment.preprocess(batch["image"]), experiment.snn.encoding)
      for batch in batches
    )


def calibration_images(dataset: Dataset, count: int, seed: int) -> Examples:
  """Training images to calibrate on, drawn without replacement; all of them if there are fewer."""
  order = np.random.default_rng(seed).permutation(len(dataset.train))
  return dataset.train.take(np.sort(order[:count]))
