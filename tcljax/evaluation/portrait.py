"""A spiking network looked at closely, on a few images: one simulation tells of all its layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tcljax.conversion.network import SpikingNetwork
from tcljax.data import Examples, evaluation_batches
from tcljax.data.preprocessing import preprocessed
from tcljax.evaluation.compiling import compiled
from tcljax.evaluation.connections import shapes_of
from tcljax.evaluation.diagnosis import Diagnosis, added, arrived, diagnosis_of, sums_of
from tcljax.graph import Graph, GraphNetwork
from tcljax.simulation.chunks import count_neurons
from tcljax.simulation.settings import SpikingConfig

IMAGES = 64
_NEURONS = 2**24  # of all images of a batch; each takes some ten numbers
_POINTS = 2**12  # neurons of a layer that are shown, over all images


@dataclasses.dataclass(frozen=True, eq=False)
class Portrait:
  """What the layers and the answers of a network do; layers by the names of their populations.

  Attributes:
    images: how many were looked at, the first of a split.
    time_steps: T.
    neurons: how many each layer has.
    diagnosis: where each layer's error comes from; empty of Poisson input, which has none.
    activations: of some neurons and images, the ANN's activation as a multiple of the threshold.
    rates: the firing rates of these: spikes in a step, as a share of the most there can be.
    neuron_rates: the mean firing rate of each neuron over all images, by the same measure.
    answers: the mean output after each step, [T, images, classes]; None where the network answers
      with anything else than one array of classes.
  """

  images: int
  time_steps: int
  neurons: dict[str, int]
  diagnosis: dict[str, Diagnosis]
  activations: dict[str, np.ndarray]
  rates: dict[str, np.ndarray]
  neuron_rates: dict[str, np.ndarray]
  answers: np.ndarray | None


def portrait(
  network: SpikingNetwork, split: Examples, preprocess: Callable[[Any], Any], seed: int = 0
) -> Portrait:
  """Looks at a network on the first images of a split, for the T that is its own.

  Args:
    network: from `tcljax.convert`.
    split: its images; at least one.
    preprocess: makes inputs of a batch of them.
    seed: of Poisson input.

  Raises:
    ValueError: if there are no images.
  """
  if not len(split):
    raise ValueError("there are no images to look at")
  model, variables, spiking = network.model, network.variables, network.spiking
  neurons = count_neurons(model, variables, network.input_shape)
  count = min(IMAGES, len(split))
  size = max(1, min(count, _NEURONS // max(1, sum(neurons.values()))))
  count -= count % size  # no batch is filled up
  measure = compiled(_measuring, preprocess, network.graph, spiking, _of_classes(network), count)
  key = jax.random.key(seed)
  sums: Any = None
  samples, answers = [], []
  for batch in evaluation_batches(split.take(np.arange(count)), size, everywhere=True):
    more, sample, answer = jax.device_get(measure(variables, batch, key))
    sums = added(sums, more)
    samples.append(sample)
    answers.append(answer)
  joined = lambda which: {
    name: np.concatenate([one[name][which] for one in samples]) for name in neurons
  }
  poisson = spiking.encoding == "poisson"
  return Portrait(
    images=count,
    time_steps=spiking.time_steps,
    neurons=neurons,
    diagnosis={} if poisson else {name: diagnosis_of(sums[name], count) for name in neurons},
    activations=joined(0),
    rates=joined(1),
    neuron_rates={name: sums[name]["spikes"].reshape(-1) / count for name in neurons},
    answers=np.concatenate(answers, axis=1) if len(answers[0]) else None,
  )


def _of_classes(network: SpikingNetwork) -> bool:
  """Whether a network answers with one array, [B, C]."""
  if not isinstance(network.graph.output, str):
    return False
  shapes = shapes_of(network.graph, network.variables, network.input_shape)
  return len(shapes[network.graph.output]) == 2


def _measuring(
  preprocess: Callable[[Any], Any],
  graph: Graph,
  spiking: SpikingConfig,
  of_classes: bool,
  images: int,
) -> Callable[..., tuple[Any, Any, Any]]:
  """The compiled function that looks at a batch.

  It gives sums of each layer, activations and rates of some neurons, and the answers.
  """
  observe = lambda chunk: chunk.logits if of_classes else ()

  def some(one):
    every = one.spikes.size * images // (one.spikes.shape[0] * _POINTS)
    take = lambda a: a.reshape(-1)[:: every | 1]  # odd, and so of every channel
    return take(one.stages[0] / one.thresholds), take(one.spikes)

  @jax.jit
  def measure(variables, batch, key):
    model, x = GraphNetwork(graph), preprocessed(preprocess, batch["image"])
    keys = None
    if spiking.encoding == "poisson":
      keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])
    found, simulation = arrived(model, spiking, variables, x, keys=keys, observe=observe)
    return (
      {name: sums_of(one, batch["mask"]) for name, one in found.items()},
      {name: some(one) for name, one in found.items()},
      simulation.observed,
    )

  return measure
