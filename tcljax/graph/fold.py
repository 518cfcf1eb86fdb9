"""Folding of scales and shifts (BatchNorm, biases) into the convolution or product before them."""

import collections
import dataclasses

import numpy as np

from tcljax.graph.nodes import INPUT, Graph

Arrays = dict[str, dict[str, np.ndarray]]


def fold(graph: Graph, arrays: Arrays) -> tuple[Graph, Arrays]:
  """An equal graph in which each convolution and product has taken up what follows it.

  In evaluation BatchNorm is y -> y * scale + shift per channel, so that kernel' = kernel * scale
  and bias' = bias * scale + shift (Rueckauer et al., Front. Neurosci. 2017, eq. 7). What cannot be
  taken up, because it varies over the image or because another node reads the value before it,
  stays as an "affine" node.

  Args:
    graph: any graph.
    arrays: its arrays, by node and by name.

  Returns:
    The folded graph and its arrays in float32; products are formed in float64.
  """
  readers = graph.consumers()
  kept, replaced = {}, {}
  arrays = {
    node: {key: np.asarray(a, np.float64) for key, a in of.items()} for node, of in arrays.items()
  }
  for node in graph.nodes:
    node = dataclasses.replace(node, inputs=tuple(replaced.get(n, n) for n in node.inputs))
    before = kept.get(node.inputs[0])
    # A node that was folded into is read as often as the affine node it has taken up.
    if node.op == "affine" and before is not None and readers[before.name] == 1:
      merged = _merge(before.op, arrays.get(before.name, {}), **arrays[node.name])
      if merged is not None:
        arrays[before.name] = merged
        replaced[node.name] = before.name
        readers[before.name] = readers[node.name]
        continue
    kept[node.name] = node
  arrays = {
    name: {key: a.astype(np.float32) for key, a in arrays[name].items()}
    for name in kept
    if name in arrays
  }
  output = replaced.get(graph.output, graph.output)
  return _renumbered(Graph(tuple(kept.values()), output), arrays)


def _renumbered(graph, arrays):
  """The same graph, the nodes of each operation counted from 1 on again."""
  names, count = {INPUT: INPUT}, collections.Counter()
  for node in graph.nodes:
    count[node.op] += 1
    names[node.name] = node.name if node.op == "neurons" else f"{node.op}:{count[node.op]}"
  nodes = tuple(
    dataclasses.replace(node, name=names[node.name], inputs=tuple(names[n] for n in node.inputs))
    for node in graph.nodes
  )
  return Graph(nodes, names[graph.output]), {names[name]: of for name, of in arrays.items()}


def _merge(op, arrays, scale, shift):
  """The arrays of `op` followed by x * scale + shift; None if `op` cannot take that up."""
  if op == "affine":
    return {"scale": arrays["scale"] * scale, "shift": arrays["shift"] * scale + shift}
  per_channel = all(n == 1 for a in (scale, shift) for n in a.shape[:-1])
  if op not in ("conv", "dense") or not per_channel:
    return None
  channels = arrays["kernel"].shape[-1]
  if any(a.shape[-1] not in (1, channels) for a in (scale, shift)):  # one channel made into many
    return None
  scale, shift = (np.broadcast_to(a.reshape(-1), (channels,)) for a in (scale, shift))
  bias = arrays.get("bias", np.zeros(channels)) * scale + shift
  return {"kernel": arrays["kernel"] * scale, "bias": bias}
