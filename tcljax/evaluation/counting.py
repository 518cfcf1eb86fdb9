"""A network that counts what arrives while it runs, and the compiled function that sums it up."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.data.preprocessing import preprocessed
from tcljax.evaluation.connections import Connections, Place
from tcljax.graph.network import GraphNetwork
from tcljax.graph.nodes import Graph, Node
from tcljax.graph.operations import find
from tcljax.graph.record import Kind
from tcljax.layers.activations import ReLU
from tcljax.layers.collections import SPIKES, leave
from tcljax.maths.clipping import per_channel_view
from tcljax.maths.encoding import constant_input, time_first
from tcljax.simulation.settings import SpikingConfig
from tcljax.simulation.time_loop import simulate

# Collections: for each sender, the connections of what it sends, by the place they lead to; and for
# each population that sends bursts the height of one spike.
CONNECTIONS, HEIGHTS = "connections", "heights"
_ARRIVED = ":arrived"  # no population has a colon in its name
_NUMBERS, _INPUT = "numbers", "input"
_BLOCK = 1024
_LIMB = 16  # bits
MACS, ACS = ":macs", ":acs"


def exact_sums(counts: jax.Array) -> jax.Array:
  """Sums over all axes but the first, [B, 2], of whole numbers from 0 to 2**21, [B, ...].

  They go beyond what 32 bits hold, and come as multiples of 2**16 and what is left of them.
  """
  flat = counts.reshape(len(counts), -1)
  flat = jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % _BLOCK)))
  sums = flat.reshape(len(flat), -1, _BLOCK).sum(axis=-1)
  low = (sums & (2**_LIMB - 1)).sum(axis=-1)
  return jnp.stack([(sums >> _LIMB).sum(axis=-1) + (low >> _LIMB), low & (2**_LIMB - 1)], axis=-1)


def whole(sums: dict[str, Any]) -> dict[str, Any]:
  """What `counting` gave of one batch, with whole numbers [K] in place of pairs, [K, 2]."""

  def joined(pairs):
    pairs = np.asarray(pairs, np.int64)
    return pairs[..., 0] * 2**_LIMB + pairs[..., 1]

  one = {name: jax.tree.map(joined, sums[name]) for name in ("arrived", "ann")}
  return {**jax.tree.map(lambda a: np.asarray(a, np.int64), sums), **one}


class Counted(GraphNetwork):
  """Leaves in the collection `spikes` what each node sends along its connections, `exact_sums`.

  Attributes:
    burst: the most spikes of a neuron in a step; of more than one there must be `heights`.
  """

  burst: int = 1

  def run(self, node: Node, inputs: list[jax.Array]) -> jax.Array:
    """The value of a node; what it sends is counted by the collection `connections`."""
    value = super().run(node, inputs)
    held = self.get_variable(CONNECTIONS, node.name, {})
    if find(node.op).kind is Kind.NEURONS:
      sent = {place: self._of_spikes(node.name, value, there) for place, there in held.items()}
    else:
      sent = {}
      for what, there in held.items():
        total = _sum(inputs[0], there)
        spikes = jnp.zeros((len(total), 1), bool)
        if what == _INPUT:
          unit = jnp.isin(inputs[0], jnp.array([-1.0, 0.0, 1.0])) | (there == 0)[None]
          spikes = unit.reshape(len(total), -1).all(axis=1, keepdims=True)
        sent = {MACS: jnp.where(spikes, 0, total), ACS: jnp.where(spikes, total, 0)}
    if sent:
      leave(self, SPIKES, node.name + _ARRIVED, sent)
    return value

  def _of_spikes(self, population: str, value: jax.Array, connections: jax.Array) -> jax.Array:
    """The connections of each neuron, as often as it has sent a spike."""
    if self.burst == 1:  # of whatever height, which differs from step to step in phases
      return _sum(value, connections)
    height = self.get_variable(HEIGHTS, population)
    count = jnp.abs(value) / per_channel_view(height, value.ndim)  # whole, to rounding
    # One spike after the other, as sums of bursts may go beyond what is exact.
    each = [_sum(count > k + 0.5, connections) for k in range(self.burst)]
    return jnp.stack(each).sum(axis=0)


def _sum(value, connections):
  return exact_sums(jnp.where(value != 0, connections[None], 0))


def of_spiking(places: list[Place], found: Mapping[str, Connections]) -> dict[str, Any]:
  """The collection `connections` of a spiking network."""
  held: dict[str, Any] = {}
  for place in places:
    there = found[place.node]
    for population, connections in there.spikes.items():
      held.setdefault(population, {})[place.node] = connections
    if there.numbers is not None:
      held[place.node] = {_INPUT if place.of_input else _NUMBERS: there.numbers}
  return held


def of_ann(places: list[Place], found: Mapping[str, Connections]) -> dict[str, Any]:
  """The collection `connections` of the ANN, in which all are numbers."""
  held: dict[str, Any] = {}
  for place in places:
    there = found[place.node]
    if place.weighted:
      held[place.node] = {_INPUT if place.of_input and place.constant else _NUMBERS: there.inputs}
    else:
      for population, connections in there.spikes.items():
        held.setdefault(population, {})[place.node] = connections
  return held


def counting(
  preprocess: Callable[[Any], Any], graph: Graph, spiking: SpikingConfig
) -> Callable[..., dict[str, Any]]:
  """The compiled function that counts what a batch takes, and sums over its examples."""

  def arrived(spikes, mask, time_steps):
    """By sender and place, pairs of sums over examples, [K, 2]."""

    def over_examples(pairs):
      pairs = pairs.reshape(time_steps, -1, 2)
      return jnp.where(mask[None, :, None], pairs, 0).sum(axis=1)

    found = {name: of for name, of in spikes.items() if name.endswith(_ARRIVED)}
    return {
      name.removesuffix(_ARRIVED): jax.tree.map(over_examples, of) for name, of in found.items()
    }

  @jax.jit
  def count(variables, ann_variables, batch, key):
    x, mask = preprocessed(preprocess, batch["image"]), batch["mask"]
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])

    def observe(chunk):
      steps = len(jax.tree.leaves(chunk.logits)[0])

      def of_neurons(what):
        held = {name: chunk.spikes[name] for name in graph.populations()}
        counts = {name: of.get(what, of["count"]) for name, of in held.items()}
        shown = lambda count: jnp.where(mask[None], count, 0).astype(jnp.int32).sum(axis=1)
        return jax.tree.map(shown, counts)

      return {
        "arrived": arrived(chunk.spikes, mask, steps),
        "fired": of_neurons("count"),
        "active": of_neurons("active"),
      }

    done = simulate(
      Counted(graph, burst=spiking.neuron.burst),
      variables,
      time_first(x, spiking.encoding),
      spiking,
      keys=keys,
      observe=observe,
    )
    _, state = Counted(graph, ReLU).apply(
      ann_variables, constant_input(x, spiking.encoding), mutable=[SPIKES]
    )
    finite = [jnp.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in jax.tree.leaves(done.logits)]
    return {
      **done.observed,
      "ann": arrived(state[SPIKES], mask, 1),
      "broken": jnp.sum(mask & ~jnp.stack(finite).all(axis=0)),
    }

  return count
