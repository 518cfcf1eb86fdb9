"""The nodes of a graph while a model is read."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.graph.nodes import Node
from tcljax.graph.record import Kind, Operation, Refused

Arrays = dict[str, dict[str, np.ndarray]]
AFFINE = "affine"  # the operation whose arrays, `scale` and `shift`, others take up


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where a node comes from.

  Attributes:
    primitive: the operation of JAX that made it.
    place: names of the user's modules around it, joined by slashes.
    source: file and line of the user's code, "net.py:12"; "" where that is unknown.
  """

  primitive: str
  place: str
  source: str = ""


class Store:
  """Nodes so far, with their arrays and what is known of them.

  Attributes:
    operations: the table of operations, by name.
    inserts: whether populations are put in place of what computes max(x, 0); else the model marks
      its activations itself.
    pooling: how maxima of windows are pooled, one of `tcljax.models.pooling.POOLINGS`.
    nodes: in an order in which each comes after what it reads, by name.
    arrays: theirs, by node and by name.
    shapes: of their values, the batch included.
    origins: of each node.
    origin: of the nodes that are made next.
    nonnegative: whether each of the first nodes is never below 0, see `populations`.
    successors: for some nodes the node that was made in their place, as one that pools besides.
  """

  def __init__(self, operations: Mapping[str, Operation], inserts: bool, pooling: str) -> None:
    self.operations, self.inserts, self.pooling = operations, inserts, pooling
    self.nodes: dict[str, Node] = {}
    self.arrays: Arrays = {}
    self.shapes: dict[str, tuple[int, ...]] = {}
    self.origins: dict[str, Origin] = {}
    self.origin = Origin("", "")
    self.nonnegative: dict[str, bool] = {}
    self.successors: dict[str, str] = {}
    self._made: dict[Any, str] = {}

  def node(
    self,
    op: str,
    inputs: Sequence[str],
    shape: Sequence[int],
    settings: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Any] | None = None,
    name: str = "",
  ) -> str:
    """Adds a node, unless there is one that computes the same; returns its name.

    Args:
      op: a name of the table.
      inputs: names of the nodes that it reads.
      shape: of its value, the batch first.
      settings: of the node.
      arrays: of the node.
      name: of its own; by default the operation and a number.

    Raises:
      Refused: if a function that is traced holds numbers that are not finite.
    """
    key = (op, *inputs, *sorted((settings or {}).items())) if not arrays else None
    if not name and key in self._made:
      return self._made[key]
    if self.inserts and not all(np.isfinite(array).all() for array in (arrays or {}).values()):
      raise Refused
    name = name or f"{op}:{len(self.nodes) + 1}"
    self.nodes[name] = Node(name, op, tuple(inputs), tuple(sorted((settings or {}).items())))
    self.shapes[name], self.origins[name] = tuple(map(int, shape)), self.origin
    if arrays:
      self.arrays[name] = {key: _at_least_float32(array) for key, array in arrays.items()}
    elif key is not None:
      self._made.setdefault(key, name)
    return name

  def in_place_of(self, name: str, made: str) -> str:
    """Notes that a node was made in place of another one, whose origin it has; returns its name."""
    if made != name:
      self.successors[name] = made
      self.origins[made] = self.origins[name]
    return made

  def operation(self, name: str) -> Operation | None:
    """What made a node; None for an input."""
    return self.operations[self.nodes[name].op] if name in self.nodes else None

  def kind(self, name: str) -> Kind | None:
    """What the operation of a node does; None for an input."""
    operation = self.operation(name)
    return None if operation is None else operation.kind


def _at_least_float32(array):
  array = np.asarray(array)
  return array.astype(np.float32) if array.dtype.itemsize < 4 else array
