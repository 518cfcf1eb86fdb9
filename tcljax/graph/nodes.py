"""What a network computes: affine maps and neuron populations, as a list of nodes.

A `Graph` is plain data (hashable, writable as JSON); its arrays are kept apart, by node name.
`tcljax.graph.network` runs one.
"""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

import jax
import numpy as np

INPUT = "input:0"  # a colon keeps the names given here apart from those of activations

NEURONS = "neurons"  # the operation of populations


def input_name(i: int) -> str:
  """The name of the i-th input of a network, counted from 0."""
  return f"input:{i}"


def plain(value: Any) -> Any:
  """The same as JSON can hold it and read it back: NumPy's numbers as Python's, lists as tuples.

  Raises:
    ValueError: if it is neither text, a number, a truth value, None, nor a sequence of these.
  """
  if isinstance(value, (tuple, list)):
    return tuple(map(plain, value))
  if isinstance(value, np.generic):
    value = value.item()
  if not isinstance(value, (str, bool, int, float, None.__class__)):
    raise ValueError(f"{value!r} is no plain data, which is all that a graph may hold")
  return value


@dataclasses.dataclass(frozen=True)
class Node:
  """One operation.

  Attributes:
    name: unique in the graph; for neurons the path of their activation, joined by dots, for
      others the operation and a number, "conv:2".
    op: a name in `tcljax.graph.operations.OPERATIONS`, such as "neurons", "conv" or "add".
    inputs: names of the nodes it reads; "input:0" is the network's input.
    settings: what else determines the operation, as sorted pairs; of neurons that gate, the fields
      of their `MaxPool`; of neurons with an upper limit, `bound`.
  """

  name: str
  op: str
  inputs: tuple[str, ...]
  settings: tuple[tuple[str, Hashable], ...] = ()

  def __post_init__(self) -> None:
    object.__setattr__(self, "settings", plain(self.settings))


@dataclasses.dataclass(frozen=True)
class Graph:
  """Nodes, what goes in, and what comes out.

  Attributes:
    nodes: in an order in which each comes after what it reads.
    output: the name of the node whose value is the network's output; of several outputs a tuple of
      names, or a `FrozenDict` of them, or of such again.
    inputs: "input:0", the name of the network's input; of several inputs a tree of names, in the
      same form, numbered in the order of its leaves.
  """

  nodes: tuple[Node, ...]
  output: Any
  inputs: Any = INPUT

  def outputs(self) -> list[str]:
    """The names of the nodes whose values are the network's outputs."""
    return jax.tree.leaves(self.output)

  def input_names(self) -> list[str]:
    """The names of its inputs, in the order of the leaves of what it is called with."""
    return jax.tree.leaves(self.inputs)

  def renamed(self, names: Mapping[str, str]) -> "Graph":
    """The same graph, whose nodes have these names instead of theirs."""
    nodes = tuple(
      dataclasses.replace(
        node,
        name=names.get(node.name, node.name),
        inputs=tuple(names.get(name, name) for name in node.inputs),
      )
      for node in self.nodes
    )
    output = jax.tree.map(lambda name: names.get(name, name), self.output)
    return Graph(nodes, output, self.inputs)

  def consumers(self) -> dict[str, int]:
    """How many times each node is read; being the graph's output counts as once."""
    count = dict.fromkeys([*self.input_names(), *(node.name for node in self.nodes)], 0)
    for name in [*self.outputs(), *(name for node in self.nodes for name in node.inputs)]:
      count[name] += 1
    return count

  def populations(self) -> list[str]:
    """The names of the populations of neurons, in the order of the nodes."""
    return [node.name for node in self.nodes if node.op == NEURONS]
