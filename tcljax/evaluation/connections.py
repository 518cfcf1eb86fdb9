"""What a spike costs: for each neuron, how many connections it has into each layer.

Synaptic operations are linear in the spikes. So spikes need not go through the network a second
time to be counted: the connections of each neuron are found once, by the transpose of
`Operation.synaptic_operations`, and the count of a step is their sum over the neurons that fire.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph.network import GraphNetwork
from tcljax.graph.nodes import Graph
from tcljax.graph.operations import find
from tcljax.graph.record import Kind, Operation
from tcljax.layers.collections import PARAMS, Variables
from tcljax.maths.trees import Shapes, stand_in

OUTPUT = "output"


class Connections(NamedTuple):
  """Of what arrives at one layer, how many connections each of its senders has there.

  Attributes:
    spikes: for each population, of each of its neurons (of those that gate, of each window), in the
      shape of what it passes on.
    numbers: of each element of the layer's input that holds numbers and no spikes, [...]; None
      where all that arrives is spikes.
    inputs: of each element of the layer's input, [...]; None where there are no weights.
  """

  spikes: dict[str, Any]
  numbers: Any
  inputs: Any

  def count(self) -> int:
    """How many connections there are."""
    counted = [*self.spikes.values()] if self.inputs is None else [self.inputs]
    return int(sum(np.sum(a, dtype=np.int64) for a in counted))


class Found(NamedTuple):
  """The connections into each place, by its node: those whose weight is not 0, and all."""

  nonzero: dict[str, Connections]
  dense: dict[str, Connections]


@dataclasses.dataclass(frozen=True)
class Place:
  """Where spikes or numbers arrive.

  Attributes:
    node: of the graph; of operations with weights the node itself, else the one that neurons read.
    operation: its name.
    weighted: whether it has weights.
    into: what reads it: populations, other layers with weights, "output".
    of_input: whether all numbers that it reads are the network's input, moved or scaled.
    constant: whether no neurons come before it.
  """

  node: str
  operation: str
  weighted: bool
  into: tuple[str, ...]
  of_input: bool
  constant: bool


def places(graph: Graph) -> list[Place]:
  """The places at which operations are counted, in the order of the nodes."""
  nodes = {node.name: node for node in graph.nodes}
  kinds = {node.name: find(node.op).kind for node in graph.nodes}
  ends = [name for name in graph.outputs() if name in nodes]
  read = {node.inputs[0] for node in graph.nodes if kinds[node.name] is Kind.NEURONS}
  found = []
  for node in graph.nodes:
    weighted = kinds[node.name] is Kind.SYNAPSES
    if not weighted and node.name not in read | {*ends}:
      continue
    begun = origins(graph, node.inputs if weighted else (node.name,))
    if not weighted and not any(kinds.get(name) is Kind.NEURONS for name in begun):
      continue
    before = ancestors(graph, node.name)
    found.append(
      Place(
        node.name,
        node.op,
        weighted,
        tuple(_readers(graph, node.name)),
        all(kinds.get(name) in (None, Kind.NEURONS) for name in begun),
        all(kinds.get(name) is not Kind.NEURONS for name in before),
      )
    )
  return found


def origins(graph, names):
  """What passages alone lead from to these nodes: inputs, neurons, weights and maxima."""
  nodes = {node.name: node for node in graph.nodes}
  found, left = {}, [*names]
  while left:
    name = left.pop()
    if name in nodes and find(nodes[name].op).kind is Kind.PASSAGE:
      left += nodes[name].inputs
    else:
      found[name] = None
  return list(found)


def ancestors(graph, name):
  """A node and all that it depends on."""
  nodes = {node.name: node for node in graph.nodes}
  found, left = set(), [name]
  while left:
    name = left.pop()
    if name not in found:
      found.add(name)
      left += nodes[name].inputs if name in nodes else ()
  return found


def _readers(graph, name):
  """The populations and layers that read a node, through whatever moves it."""
  found, left = {}, [name]
  while left:
    name = left.pop(0)
    found |= {OUTPUT: None} if name in graph.outputs() else {}
    for node in graph.nodes:
      if name in node.inputs:
        passed = find(node.op).kind in (Kind.PASSAGE, Kind.MAXIMUM)
        left += [node.name] if passed else []
        found |= {} if passed else {node.name: None}
  return list(found)


def shapes_of(graph: Graph, variables: Variables, input_shape: Shapes) -> dict[str, tuple]:
  """The shape of each node's value for a batch of 1; nothing is computed."""
  seen = {}

  class Seen(GraphNetwork):
    def run(self, node, inputs):
      value = super().run(node, inputs)
      seen[node.name] = value.shape
      return value

  x = stand_in(input_shape, 1)
  seen |= zip(graph.input_names(), (leaf.shape for leaf in jax.tree.leaves(x)))
  jax.eval_shape(Seen(graph).apply, variables, x)
  return seen


def connections(graph: Graph, variables: Variables, input_shape: Shapes) -> Found:
  """The connections into each of `places`.

  Args:
    graph: of a converted network.
    variables: its variables.
    input_shape: of one input, without the batch.

  Raises:
    ValueError: if an operation with weights does not say what it counts.
  """
  for node in graph.nodes:
    operation = find(node.op)
    if operation.kind is Kind.SYNAPSES and operation.synaptic_operations is None:
      raise ValueError(f"operation {node.op!r} does not say how many connections it has")
  shapes = shapes_of(graph, variables, input_shape)
  count = jax.jit(functools.partial(_connections, graph, shapes))
  arrays = variables[PARAMS]
  effective, dense = count(arrays), count(jax.tree.map(jnp.ones_like, arrays))
  whole = lambda counts: jax.tree.map(lambda a: np.asarray(a).astype(np.int32), counts)
  return Found(whole(effective), whole(dense))


def _connections(graph: Graph, shapes: Mapping[str, tuple], arrays: Any) -> dict[str, Connections]:
  kinds = {node.name: find(node.op).kind for node in graph.nodes}
  found = {}
  for place in places(graph):
    node = next(node for node in graph.nodes if node.name == place.node)
    ends = node.inputs if place.weighted else (node.name,)
    begun = origins(graph, ends)
    senders = {n: _ones(shapes[n]) for n in begun if kinds.get(n) is Kind.NEURONS}
    others = {n: _ones(shapes[n]) for n in begun if n not in senders}

    def arrive(sent, node=node, place=place, ends=ends):
      values = _passed(graph, shapes, arrays, sent, ends)
      if place.weighted:
        values = [_arrivals(find(node.op), node, values, arrays)]
      return sum(value.sum() for value in values)

    spikes = jax.grad(arrive)(senders) if senders else {}
    numbers = inputs = None
    if place.weighted:
      at = [_ones(shapes[name]) for name in ends]
      own = lambda at, node=node: _arrivals(find(node.op), node, at, arrays).sum()
      (each,) = jax.grad(own)(at)
      reached = lambda sent, ends=ends: _passed(graph, shapes, arrays, sent, ends)[0] > 0
      inputs = each * reached({**senders, **others})
      numbers = each * reached(others) if others else None
    found[place.node] = jax.tree.map(lambda a: a[0], Connections(spikes, numbers, inputs))
  return found


def _passed(graph, shapes, arrays, sent, ends):
  """How many spikes come through passages to these nodes, where so many were sent."""
  needed = set().union(*(ancestors(graph, name) for name in ends))
  values = dict(sent)
  for node in graph.nodes:
    operation = find(node.op)
    known = [values.get(name) for name in node.inputs]
    if node.name not in needed or operation.kind is not Kind.PASSAGE:
      continue
    if all(value is None for value in known):
      continue
    filled = [
      _none(shapes[name]) if value is None else value for name, value in zip(node.inputs, known)
    ]
    values[node.name] = _arrivals(operation, node, filled, arrays)
  return [values.get(name, _none(shapes[name])) for name in ends]


def _ones(shape: tuple) -> jax.Array:
  return jnp.ones(shape, jnp.float32)  # as weights are, also where JAX has float64


def _none(shape: tuple) -> jax.Array:
  return jnp.zeros(shape, jnp.float32)


def _arrivals(operation: Operation, node: Any, inputs: Any, arrays: Any) -> jax.Array:
  count = operation.synaptic_operations or operation.run
  return count(*inputs, **arrays.get(node.name, {}), **dict(node.settings))
