"""Folding of scales and shifts (BatchNorm, biases) into the convolution or product before them."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tcljax.graph.nodes import Graph, Node
from tcljax.graph.operations import find
from tcljax.graph.record import Kind, Refused
from tcljax.graph.store import AFFINE, Arrays


class Folded(NamedTuple):
  """A graph in which scales and shifts are taken up.

  Attributes:
    graph: without those nodes.
    arrays: by node and by name.
    into: for each node of the graph before, the node that it is or that has taken it up.
  """

  graph: Graph
  arrays: Arrays
  into: dict[str, str]


def folded(graph: Graph, arrays: Arrays) -> Folded:
  """An equal graph in which each convolution and product has taken up what follows it.

  In evaluation BatchNorm is y -> y * scale + shift per channel, so that kernel' = kernel * scale
  and bias' = bias * scale + shift (Rueckauer et al., Front. Neurosci. 2017, eq. 7). What cannot be
  taken up, because it varies over the image or because another node reads the value before it,
  stays as an "affine" node. `Operation.fold` says what each operation takes up.

  Args:
    graph: any graph.
    arrays: its arrays, by node and by name.

  Returns:
    The graph, its arrays in float32, and what became of each node; products are formed in float64.

  Raises:
    ValueError: if the graph holds an unknown operation.
  """
  readers = graph.consumers()
  kept: dict[str, Node] = {}
  replaced: dict[str, str] = {}
  arrays = {
    node: {key: np.asarray(a, np.float64) for key, a in of.items()} for node, of in arrays.items()
  }
  for node in graph.nodes:
    node = dataclasses.replace(node, inputs=tuple(replaced.get(n, n) for n in node.inputs))
    before = kept.get(node.inputs[0])
    # A node that was folded into is read as often as the affine node it has taken up.
    if node.op == AFFINE and before is not None and readers[before.name] == 1:
      merged = _taken_up(before, arrays.get(before.name, {}), arrays[node.name])
      if merged is not None:
        arrays[before.name] = merged
        replaced[node.name] = before.name
        readers[before.name] = readers[node.name]
        continue
    kept[node.name] = node
  with np.errstate(over="ignore"):  # which whoever compares the network tells
    arrays = {
      name: {key: a.astype(np.float32) for key, a in arrays[name].items()}
      for name in kept
      if name in arrays
    }
  short = Graph(tuple(kept.values()), graph.output, graph.inputs).renamed(replaced)
  names = numbered(short)
  return Folded(
    short.renamed(names),
    {names[name]: of for name, of in arrays.items()},
    {node.name: names[replaced.get(node.name, node.name)] for node in graph.nodes},
  )


def _taken_up(
  node: Node, arrays: Mapping[str, np.ndarray], following: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
  """The arrays of a node with the scale and shift that follow; None if it cannot take them up."""
  take_up = find(node.op).fold
  if take_up is None:
    return None
  try:
    return take_up(arrays, **following)
  except Refused:
    return None


def numbered(graph: Graph) -> dict[str, str]:
  """A name for each node: that of neurons as it is, the operation and its number for others."""
  names, count = {}, collections.Counter()
  for node in graph.nodes:
    count[node.op] += 1
    named = find(node.op).kind is Kind.NEURONS
    names[node.name] = node.name if named else f"{node.op}:{count[node.op]}"
  return names
