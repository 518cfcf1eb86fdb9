"""Runs a NIR file in another simulator and compares its spikes with given ones; prints JSON.

    python benchmarks/nir_client.py sinabs FILE.nir GIVEN.npz

It is run by benchmarks/nir_clients.py, with the Python of an environment that holds the simulator
and not tcljax. GIVEN.npz holds `images` [B, ...], channels first, and for each IF node its spikes
[T, B, ...], as bits.
"""

import graphlib
import json
import sys

import nir
import numpy as np
import torch


def run_sinabs(path, images, time_steps, record):
  """The output at each step, [T, B, ...], of sinabs."""
  import sinabs.activation
  import sinabs.layers
  import sinabs.nir

  graph, batch = nir.read(path), len(images)
  network = sinabs.nir.from_nir(graph, batch_size=batch)
  # Where branches meet, a node would be run before those that it reads.
  order = in_order(graph)
  network.execution_order.sort(key=lambda node: order.index(node.name))
  for name, layer in network.named_modules():
    if isinstance(layer, sinabs.layers.IAFSqueeze):
      layer.spike_fn = sinabs.activation.SingleSpike  # by default several spikes a step
      layer.min_v_mem = None  # by default the potential cannot fall below -threshold
      start = torch.from_numpy(graph.nodes[name].metadata["initial_potential"])
      layer.init_state_with_shape((batch, *start.shape))
      layer.v_mem.copy_(start.expand_as(layer.v_mem))
      later = later_currents(graph.nodes[name], time_steps)
      layer.register_forward_pre_hook(
        lambda layer, x, later=later: (
          (by_step(x[0], batch) + later[:, None]).transpose(0, 1).flatten(0, 1)
        )
      )
      layer.register_forward_hook(
        lambda layer, x, y, name=name: record(name, by_step(x[0], batch), by_step(y, batch))
      )
  # [B, T, ...], the first two as one axis
  outputs, _ = network(images.repeat_interleave(time_steps, dim=0))
  return by_step(outputs, batch)


def in_order(graph):
  """The names of the nodes of a graph, each after those that it reads."""
  sources = {name: {a for a, b in graph.edges if b == name} for name in graph.nodes}
  return list(graphlib.TopologicalSorter(sources).static_order())


def later_currents(node, time_steps):
  """What is added to the currents of neurons in each step, [T, ...]: their later instalments."""
  shape = node.v_threshold.shape
  later = node.metadata.get("later_currents", np.zeros((0, *shape), np.float32))
  added = np.zeros((time_steps, *shape), np.float32)
  added[1 : 1 + len(later)] = later[: time_steps - 1]
  return torch.from_numpy(added)


def by_step(values, batch):
  """[T, B, ...] of what sinabs has as [B * T, ...]."""
  return values.unflatten(0, (batch, -1)).transpose(0, 1)


def run_spikingjelly(path, images, time_steps, record):
  """The output at each step, [T, B, ...], of SpikingJelly."""
  from spikingjelly.activation_based import neuron
  from spikingjelly.activation_based.nir_exchange import import_from_nir

  graph, batch = nir.read(path), len(images)
  network = import_from_nir(graph, dt=1.0)
  steps = {}
  for name, module in network.named_modules():
    if isinstance(layer := getattr(module, "module", None), neuron.IFNode):
      layer.v_reset = None  # subtracts the threshold
      start = torch.from_numpy(graph.nodes[name].metadata["initial_potential"])
      layer.v = start.expand(batch, *start.shape).clone()
      steps[name] = []
      later = iter(later_currents(graph.nodes[name], time_steps))
      module.register_forward_pre_hook(lambda module, x, later=later: (x[0] + next(later), *x[1:]))
      module.register_forward_hook(
        lambda module, x, y, name=name: steps[name].append((x[0].clone(), y[0].clone()))
      )
  outputs, state = [], None
  for _ in range(time_steps):
    output, state = network(images, state)
    outputs.append(output)
  for name, seen in steps.items():
    record(name, *map(torch.stack, zip(*seen)))
  return torch.stack(outputs)


def compared(name, currents, spikes, expected, node):
  """How often the spikes of one node of neurons differ from what is expected, both [T, B, ...]."""
  differ = spikes != expected
  found = {
    "node": name,
    "spikes": int(expected.sum()),
    "differ": int(differ.sum()),
    "neurons": int(np.prod(expected.shape[1:])),
    "neurons_differ": int(differ.any(axis=0).sum()),
    "counts_differ": int((spikes.sum(axis=0) != expected.sum(axis=0)).sum()),
  }
  if found["differ"]:
    # How far from its threshold each neuron was when it first did otherwise than expected. That
    # holds where all spikes that it reads were the same, as in the first node that differs.
    theta, start = node.v_threshold, node.metadata["initial_potential"]
    before = np.cumsum(expected, axis=0) - expected
    v = start + np.cumsum(currents.astype(np.float64), axis=0) - before * theta
    first = np.argmax(differ, axis=0)[None]
    off = np.abs(np.take_along_axis(v, first, axis=0)[0] - theta) / theta
    found["from_threshold"] = float(off[differ.any(axis=0)].max())
  return found


def main(client, path, given):
  """Prints what differs, node by node, and the mean output."""
  run = {"sinabs": run_sinabs, "spikingjelly": run_spikingjelly}[client]
  graph, found = nir.read(path), []
  with np.load(given) as held:
    images, time_steps = torch.from_numpy(held["images"]), int(held["time_steps"])
    bits = {name: held[name] for name in held.files if name not in ("images", "time_steps")}

  def record(name, currents, spikes):
    assert set(np.unique(spikes.numpy())) <= {0, 1}
    shape = spikes.shape
    expected = np.unpackbits(bits[name], count=spikes.numel()).reshape(shape).astype(bool)
    arrays = currents.numpy(), spikes.numpy().astype(bool)
    found.append(compared(name, *arrays, expected, graph.nodes[name]))

  with torch.no_grad():
    outputs = run(path, images, time_steps, record)
  assert {row["node"] for row in found} == set(bits)
  print(json.dumps({"nodes": found, "output": outputs.mean(dim=0).flatten(1).tolist()}))


if __name__ == "__main__":
  main(*sys.argv[1:])
