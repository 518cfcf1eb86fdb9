"""NIR graphs run by plain NumPy, from NIR's own words: nothing here knows tcljax.

Arrays are float64 and channels first. Neurons integrate r * I with dt = 1, fire at v >= v_threshold
and then subtract it, as the metadata of graphs of tcljax say.
"""

import graphlib
import itertools

import nir
import numpy as np


def run(graph, images, time_steps):
  """What each IF node and the output send at each step.

  Args:
    graph: a `nir.NIRGraph`.
    images: [B, ...], channels first, given in each step.
    time_steps: T.

  Returns:
    By population the spikes [T, B, ...], and the outputs [T, B, ...].
  """
  before = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
  order = list(graphlib.TopologicalSorter(before).static_order())
  potentials, spikes, outputs = {}, {}, []
  for step in range(1, time_steps + 1):
    sent = {}
    for name in order:
      node = graph.nodes[name]
      if isinstance(node, nir.Input):
        assert images.shape[1:] == tuple(node.input_type["input"])
        sent[name] = images.astype(np.float64)
        continue
      x = sum(sent[source] for source in before[name])
      assert all(sent[source].shape == x.shape for source in before[name])
      if isinstance(node, nir.IF):
        sent[name] = fired(node, x, potentials, name, step)
        spikes.setdefault(node.metadata["population"], []).append(sent[name])
      else:
        sent[name] = _KINDS[type(node)](node, x)
    (end,) = (name for name in order if isinstance(graph.nodes[name], nir.Output))
    assert sent[end].shape[1:] == tuple(graph.nodes[end].output_type["output"])
    outputs.append(sent[end])
  return {name: np.stack(found) for name, found in spikes.items()}, np.stack(outputs)


def fired(node, current, potentials, name, step):
  """The spikes of one step, whose potentials are kept by name."""
  assert current.shape[1:] == node.v_threshold.shape
  later = node.metadata.get("later_currents", ())
  v = potentials.get(name, node.metadata["initial_potential"].astype(np.float64))
  v = v + node.r * current
  if 2 <= step < 2 + len(later):
    v = v + later[step - 2]
  spikes = (v >= node.v_threshold).astype(np.float64)
  potentials[name] = v - spikes * node.v_threshold
  return spikes


def windows(x, sizes, strides, padding, dilation):
  """[..., out..., taps]: what a window covers of the last axes of x, at each of its places."""
  rank = len(sizes)
  x = np.pad(x, [(0, 0)] * (x.ndim - rank) + [(p, p) for p in padding])
  axes = [
    (d, s, (n - (k - 1) * d - 1) // s + 1)
    for n, k, d, s in zip(x.shape[-rank:], sizes, dilation, strides)
  ]
  taps = []
  for tap in itertools.product(*map(range, sizes)):
    starts = [t * d for t, (d, _, _) in zip(tap, axes)]
    ends = [start + (n - 1) * s + 1 for start, (_, s, n) in zip(starts, axes)]
    taps.append(x[(..., *map(slice, starts, ends, (s for _, s, _ in axes)))])
  return np.stack(taps, axis=-1)


def convolution(node, x):
  """The sums of each window by the weights of its group, and the bias."""
  rank = node.weight.ndim - 2
  each = lambda value: [int(n) for n in np.broadcast_to(value, rank)]
  groups, (outer, inner, *sizes) = int(node.groups), node.weight.shape
  assert x.shape[1] == groups * inner and x.shape[2:] == tuple(np.atleast_1d(node.input_shape))
  seen = windows(x, sizes, each(node.stride), each(node.padding), each(node.dilation))
  seen = seen.reshape(len(x), groups, inner, *seen.shape[2:])
  weight = node.weight.astype(np.float64).reshape(groups, outer // groups, inner, -1)
  found = np.einsum("bgi...t,goit->bgo...", seen, weight, optimize=True)
  found = found.reshape(len(x), outer, *found.shape[3:])
  return found + node.bias.astype(np.float64).reshape(-1, *[1] * rank)


def pool(node, x):
  """The sum of each window."""
  return windows(x, node.kernel_size, node.stride, node.padding, (1, 1)).sum(axis=-1)


_KINDS = {
  nir.Affine: lambda node, x: x @ node.weight.T.astype(np.float64) + node.bias,
  nir.Conv1d: convolution,
  nir.Conv2d: convolution,
  nir.SumPool2d: pool,
  nir.Flatten: lambda node, x: x.reshape(len(x), -1),
  nir.Output: lambda node, x: x,
}
