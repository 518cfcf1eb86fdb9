"""What a network costs, measured on images: what arrives where is counted while it runs."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tcljax.checks import check_count, check_seed
from tcljax.conversion.network import SpikingNetwork, check_network
from tcljax.data import Examples, Split, evaluation_batches
from tcljax.data.preprocessing import shape_of_preprocessed, unchanged
from tcljax.evaluation import counting
from tcljax.evaluation.accuracy import OutputNotFinite
from tcljax.evaluation.compiling import compiled
from tcljax.evaluation.connections import (
  Connections,
  Place,
  ancestors,
  connections,
  origins,
  places,
  shapes_of,
)
from tcljax.evaluation.cost_figures import Costs, LayerCosts
from tcljax.evaluation.counting import ACS, CONNECTIONS, HEIGHTS, MACS
from tcljax.layers.collections import CLIPPING, PARAMS, thresholds_by_path
from tcljax.maths.clipping import bounded
from tcljax.maths.encoding import constant_inputs_of
from tcljax.maths.trees import is_shape, paired, stand_in
from tcljax.simulation.chunks import count_neurons
from tcljax.simulation.settings import SpikingConfig


def costs(
  network: SpikingNetwork,
  images: Any,
  time_steps: int | None = None,
  *,
  batch_size: int = 128,
  preprocess: Callable[[Any], Any] = unchanged,
  seed: int = 0,
) -> Costs:
  """What a spiking network does for an image, on average, beside its ANN.

  A spike costs as many accumulates as it has outgoing connections whose weight is not 0; at the
  border of an image these are fewer. So does each spike of a burst, and a negative one. A number
  that is no spike, as a pixel, costs multiply-accumulates, unless all that a layer takes of an
  input are -1, 0 and 1. What an input that stays the same makes of the first layer is computed in
  the first step and kept.

  Args:
    network: from `tcljax.convert` or `tcljax.load`; of a model and its variables make one first.
    images: some hundred inputs, [N, ...]; of encoding="frames" sequences, [N, T, ...], whose ANN
      sees the mean of the frames. A tuple or dictionary of these where the network takes several
      arrays.
    time_steps: T; by default that of `network.spiking`.
    batch_size: images at a time.
    preprocess: a function of JAX that makes inputs [B, ...] of each batch of images.
    seed: of Poisson input.

  Returns:
    The costs, after every number of steps up to T.

  Raises:
    ValueError: if this is no network, there are no images, or they are none that it takes.
    OutputNotFinite: a ValueError, if an output is not finite.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> network = tcljax.convert(model, model.init(jax.random.key(1), images), (4, 4, 1))
    >>> found = tcljax.costs(network, images, time_steps=16)
    >>> bool(found.macs[-1] == 400)  # of the image, once
    True
    >>> found.layers["dense:1"].synaptic_operations.shape
    (16,)
  """
  check_network(network)
  check_count("batch_size", batch_size, 1)
  check_seed("seed", seed)
  if time_steps is not None:
    check_count("time_steps", time_steps, 1)
  return costs_of_split(
    network, Split(images), time_steps, batch_size=batch_size, preprocess=preprocess, seed=seed
  )


def costs_of_split(
  network: SpikingNetwork,
  split: Examples,
  time_steps: int | None,
  *,
  batch_size: int,
  preprocess: Callable[[Any], Any],
  seed: int = 0,
) -> Costs:
  """`costs` on a split, which may be streamed."""
  if not len(split):
    raise ValueError("there are no images to measure costs on")
  spiking = network.spiking
  if time_steps is not None:
    spiking = spiking.with_time_steps(time_steps)
  given = stand_in(split.image_shape, max(2, batch_size), split.image_dtype)
  example = constant_inputs_of(
    "images", shape_of_preprocessed(preprocess, given), spiking.encoding, spiking.time_steps
  )
  _check_shapes(network, example)
  graph, variables = network.graph, network.variables
  where, shapes = places(graph), shapes_of(graph, variables, network.input_shape)
  found = connections(graph, variables, network.input_shape)
  held = {name: variables[name] for name in (PARAMS, CLIPPING)}
  senders = (counting.of_spiking(where, found.nonzero), counting.of_ann(where, found.nonzero))
  sent = {**held, HEIGHTS: _heights(network, spiking)}
  count = compiled(counting.counting, preprocess, graph, spiking)
  sums: Any = None
  for batch in evaluation_batches(split, min(batch_size, len(split)), everywhere=True):
    more = count(*({**sent, CONNECTIONS: of} for of in senders), batch, jax.random.key(seed))
    more = counting.whole(jax.device_get(more))
    sums = more if sums is None else jax.tree.map(np.add, sums, more)
  if broken := int(sums.pop("broken")):
    raise OutputNotFinite(
      f"the spiking network's output is not finite for {broken} of the {len(split)} images"
    )
  mean = jax.tree.map(lambda a: a / len(split), sums)
  biases = _biases(network, where, shapes)
  layers = {}
  for place in where:
    arrived = _arrived(place, found.nonzero[place.node], mean["arrived"], spiking)
    of_ann = mean["ann"].get(place.node, {}).values() if place.weighted else ()
    added = [of[place.node] for of in mean["ann"].values() if place.node in of]
    layers[place.node] = LayerCosts(
      operation=place.operation,
      into=place.into,
      weighted=place.weighted,
      connections=found.dense[place.node].count(),
      nonzero=found.nonzero[place.node].count(),
      outputs=math.prod(shapes[place.node]),
      once=_once(place, spiking),
      synaptic_operations=arrived[ACS],
      macs=arrived[MACS],
      biases=_steps(place, spiking) * biases[place.node],
      ann_macs=float(sum(numbers.sum() for numbers in of_ann)),
      ann_additions=float(sum(numbers.sum() for numbers in added)),
    )
  neurons = count_neurons(network.model, variables, network.input_shape)
  weights = [of["kernel"] for of in variables[PARAMS].values() if "kernel" in of]
  zeros = sum(np.size(a) - np.count_nonzero(a) for a in weights)
  return Costs(
    images=len(split),
    time_steps=spiking.time_steps,
    layers=layers,
    neurons=neurons,
    spikes={name: mean["fired"][name] for name in neurons},
    active={name: mean["active"][name] for name in neurons},
    footprint=sum(np.asarray(a).nbytes for a in jax.tree.leaves(held)),
    connection_sparsity=float(zeros / max(1, sum(map(np.size, weights)))),
  )


def _check_shapes(network: SpikingNetwork, example: Any) -> None:
  """Raises ValueError unless a batch of such inputs is one of the network's."""
  for name, wanted, given in paired("images", network.input_shape, example, is_shape):
    if tuple(given.shape[1:]) != tuple(wanted):
      raise ValueError(
        f"{name} make inputs of shape {tuple(given.shape[1:])}, and the network takes "
        f"{tuple(wanted)}: give what it was converted for, or `preprocess`"
      )


def _heights(network: SpikingNetwork, spiking: SpikingConfig) -> dict[str, jax.Array]:
  """By population the height of one spike, a scalar or [C]."""
  bounds: Any = {node.name: dict(node.settings).get("bound") for node in network.graph.nodes}
  return {
    name: bounded(held.tau, bounds[name]) / spiking.neuron.burst
    for (name,), held in thresholds_by_path(network.variables).items()
  }


def _once(place: Place, spiking: SpikingConfig) -> bool:
  return place.constant and spiking.encoding == "constant"


def _steps(place: Place, spiking: SpikingConfig) -> np.ndarray:
  """1 for each step in which a place is computed, [T]."""
  steps = np.ones(spiking.time_steps)
  return np.where(np.arange(spiking.time_steps) == 0, 1.0, 0.0) if _once(place, spiking) else steps


def _arrived(
  place: Place, found: Connections, sums: Mapping[str, Any], spiking: SpikingConfig
) -> dict[str, np.ndarray]:
  """Accumulates and multiply-accumulates of a place in each step, [T] each."""
  accumulates = sum((sums[sender][place.node] for sender in found.spikes), np.zeros(1))
  accumulates, macs = accumulates + np.zeros(spiking.time_steps), np.zeros(spiking.time_steps)
  if found.numbers is not None:
    steps, numbers = _steps(place, spiking), sums[place.node]
    spikes = spiking.encoding == "poisson" and place.of_input  # of one height, which folds away
    accumulates = accumulates + steps * (numbers[ACS] + (numbers[MACS] if spikes else 0))
    macs = steps * (0 if spikes else numbers[MACS])
  return {ACS: accumulates, MACS: macs}


def _biases(
  network: SpikingNetwork, where: list[Place], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
  """By place how many numbers a bias is added to; one of a scale and shift counts where it leads.

  That is the layer whose output is shifted, or where spikes are, the first place after them.
  """
  counts = {place.node: 0 for place in where}
  for node in network.graph.nodes:
    held = network.variables[PARAMS].get(node.name, {})
    bias = held.get("bias", held.get("shift"))
    if bias is None:
      continue
    shape = shapes[node.name][1:]
    added = int(np.count_nonzero(np.broadcast_to(np.asarray(bias), shape)))
    before = [name for name in origins(network.graph, [node.name]) if name in counts]
    after = [p.node for p in where if node.name in ancestors(network.graph, p.node)]
    for name in (before or after)[:1]:
      counts[name] += added
  return counts
