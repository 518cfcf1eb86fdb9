"""What a network computes: affine maps and neuron populations, as a list of nodes.

A `Graph` is plain data (hashable, writable as JSON); its arrays are kept apart, by node name.
`tcljax.graph.network` runs one.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np

from tcljax.graph.operations import find
from tcljax.graph.record import Kind

INPUT = "input:0"  # a colon keeps the names given here apart from those of activations


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
      of their `MaxPool`.
  """

  name: str
  op: str
  inputs: tuple[str, ...]
  settings: tuple[tuple[str, Hashable], ...] = ()

  def __post_init__(self) -> None:
    object.__setattr__(self, "settings", plain(self.settings))


@dataclasses.dataclass(frozen=True)
class Graph:
  """Nodes in an order in which each comes after what it reads, and the name of the output node."""

  nodes: tuple[Node, ...]
  output: str

  def consumers(self) -> dict[str, int]:
    """How many times each node is read; being the graph's output counts as once."""
    count = dict.fromkeys([INPUT, *(node.name for node in self.nodes)], 0)
    for name in [self.output, *(name for node in self.nodes for name in node.inputs)]:
      count[name] += 1
    return count

  def populations(self) -> list[str]:
    """The names of the populations of neurons, in the order of the nodes."""
    return [node.name for node in self.nodes if find(node.op).kind is Kind.NEURONS]
