"""The reports of the commands: what they have measured, with how it was made."""

import dataclasses
import pathlib
import platform
import shlex
import sys
from importlib import metadata
from typing import Any

import jax
import numpy as np

from tcljax.conversion.early_exit import margin_of_answers
from tcljax.conversion.network import SpikingNetwork
from tcljax.data import first_examples
from tcljax.distributed import parallel
from tcljax.evaluation.accuracy import Evaluation
from tcljax.evaluation.cost_figures import Costs
from tcljax.evaluation.portrait import portrait
from tcljax.graph import explain
from tcljax.layers.collections import Variables
from tcljax.reporting.findings import Findings
from tcljax.reporting.progress import read_records
from tcljax.reporting.report import write_report
from tcljax.runs.calibration import calibration_images
from tcljax.runs.converted import measure_costs, spiking_network
from tcljax.runs.experiment import Experiment
from tcljax.training.calibration import thresholds

_PACKAGES = ("tcljax", "jax", "jaxlib", "flax", "optax", "numpy", "matplotlib")
_SECTIONS = ("snn", "train", "joint", "tune", "eval")


def report_conversion(
  experiment: Experiment,
  network: SpikingNetwork,
  output: pathlib.Path,
  found: Evaluation,
  costs: Costs,
  results: dict[str, Any],
) -> None:
  """Looks at a converted network on some test images, and writes its report.

  Every host calls this.

  Args:
    experiment: that it was made from.
    network: converted.
    output: its folder.
    found: its figures on the test set.
    costs: its costs.
    results: what is written to results.json; of early exit the margin.
  """
  margin = results["early_exit"]["margin"] if "early_exit" in results else None
  of_network = _of_network(experiment, network, found, costs, margin)
  if parallel.is_main_host():
    write_report(output, Findings(**_known(experiment, found), **of_network))


def report_training(
  experiment: Experiment,
  workdir: pathlib.Path,
  variables: Variables,
  evaluations: dict[str, Evaluation],
) -> None:
  """Converts the network of a run of training, looks at it, and writes the report of the run.

  A network that cannot be converted has a page that says why. Every host calls this.

  Args:
    experiment: that was run.
    workdir: where.
    variables: of the network after its last stage.
    evaluations: on the test set, of each stage in their order.
  """
  *earlier, (_, last) = evaluations.items()
  try:
    network = spiking_network(experiment, variables)
  except ValueError as error:  # of the variables, as the model is one of ours
    of_network = {
      "thresholds": _in_order(variables, last),
      "unconverted": f"the network cannot be converted: {error}",
    }
  else:
    last = _named_as_in(network, last)
    of_network = _of_network(experiment, network, last, measure_costs(experiment, network))
  if parallel.is_main_host():
    write_report(
      workdir,
      Findings(
        **_known(experiment, last),
        **of_network,
        earlier={name: dict(enumerate(map(float, of.snn), 1)) for name, of in earlier},
        records=read_records(workdir),
      ),
    )


def _of_network(
  experiment: Experiment,
  network: SpikingNetwork,
  found: Evaluation,
  costs: Costs,
  margin: float | None = None,
) -> dict[str, Any]:
  """What a report tells of a converted network, looked at on some test images.

  Args:
    experiment: that it was made from.
    network: converted.
    found: its figures on the test set, with layers by its own names.
    costs: its costs.
    margin: of early exit; None to find the least with which none of some training images leaves
      with another answer.
  """
  test = experiment.dataset.test
  looked = portrait(network, test, experiment.preprocess, experiment.seed)
  if margin is None:
    training = calibration_images(experiment.dataset, looked.images, experiment.seed)
    given = portrait(network, training, experiment.preprocess, experiment.seed).answers
    margin = margin_of_answers(given, network.spiking.delay, 0.0) if given is not None else None
  shown = first_examples(test, looked.images)
  labels = shown.get("label")
  of_classes = isinstance(labels, np.ndarray) and labels.ndim == 1 and looked.answers is not None
  return {
    "thresholds": _in_order(network.variables, found),
    "network": network,
    "operations": explain(network),
    "costs": costs,
    "portrait": looked,
    "images": shown["image"],
    "labels": labels if of_classes else None,
    "margin": margin,
  }


def _named_as_in(network: SpikingNetwork, found: Evaluation) -> Evaluation:
  """The figures of the model that a network was converted from, layers as the network has them."""
  rates = {name.replace("/", "."): rate for name, rate in found.firing_rates.items()}
  ordered = {name: rates[name] for name in network.graph.populations()}
  return dataclasses.replace(found, firing_rates=ordered)


def _in_order(variables: Variables, found: Evaluation) -> dict[str, np.ndarray]:
  """The thresholds in the order of the layers."""
  known = thresholds(variables)
  return {name: known[name] for name in found.firing_rates}


def _known(experiment: Experiment, found: Evaluation) -> dict[str, Any]:
  """What is known of every run."""
  dataset = experiment.dataset
  return {
    "name": experiment.name,
    "data": f"{dataset.name}, {found.images} test images",
    "time_steps": experiment.spiking.time_steps,
    "evaluation": found,
    "class_names": dataset.class_names,
    "made": {
      "Command": {"command": shlex.join(sys.argv)},
      "Config": _config(experiment),
      "Versions": _versions(),
    },
  }


def _config(experiment: Experiment) -> dict[str, Any]:
  """The fields of a config, "tune.steps"."""
  fields: dict[str, Any] = {"name": experiment.name, "seed": experiment.seed}
  fields |= {"data.name": experiment.dataset.name, "model": type(experiment.ann).__name__}
  _flatten("preprocessing", dataclasses.asdict(experiment.preprocess), fields)
  for section in _SECTIONS:
    _flatten(section, dataclasses.asdict(getattr(experiment, section)), fields)
  return fields


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
  if isinstance(value, dict):
    for key, inner in value.items():
      _flatten(f"{name}.{key}", inner, into)
  else:
    into[name] = value


def _versions() -> dict[str, str]:
  found = {"Python": platform.python_version()}
  for package in _PACKAGES:
    try:
      found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a clone
      found[package] = "of a clone"
  devices = jax.devices()
  return {**found, "devices": f"{len(devices)} {devices[0].device_kind}"}
