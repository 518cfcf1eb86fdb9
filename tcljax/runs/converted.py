"""The spiking network of an experiment, and what it costs: for its files, and for its report."""

import dataclasses

import numpy as np

from tcljax.conversion.network import SpikingNetwork, convert
from tcljax.evaluation.cost_figures import Costs
from tcljax.evaluation.costs import costs_of_split
from tcljax.layers.collections import Variables
from tcljax.runs.experiment import Experiment

_COST_IMAGES = 200  # costs are means over images, which differ by little


def spiking_network(experiment: Experiment, variables: Variables) -> SpikingNetwork:
  """The spiking network, with all that its user needs to know of it.

  Args:
    experiment: from `make_experiment`.
    variables: of its model, with thresholds.

  Raises:
    ValueError: if the variables make no spiking network; see `tcljax.convert`.
  """
  mean, std = experiment.preprocess.mean, experiment.preprocess.std
  ends = [(white - np.asarray(mean)) / np.asarray(std) for white in (0, 1)]
  network = convert(
    experiment.model,
    variables,
    experiment.input_shape,
    experiment.spiking,
    name=experiment.name,
    dataset=experiment.dataset.name,
    num_classes=experiment.dataset.num_classes,
    preprocessing={"scale": 1 / 255, "mean": mean, "std": std},
    input_range=(float(np.min(ends)), float(np.max(ends))),
    readout=experiment.snn.readout,
    **({"class_names": experiment.dataset.class_names} if experiment.dataset.class_names else {}),
  )
  if experiment.operations:  # those of a user's file, which the graph of it no longer knows
    network = dataclasses.replace(network, operations=experiment.operations)
  return network


def measure_costs(experiment: Experiment, network: SpikingNetwork) -> Costs:
  """What the network costs on the first test images, after every number of steps reported."""
  test = experiment.dataset.test
  return costs_of_split(
    network,
    test.take(np.arange(min(len(test), _COST_IMAGES))),
    experiment.reported.time_steps,
    batch_size=experiment.eval.batch_size,
    preprocess=experiment.preprocess,
    seed=experiment.seed,
  )
