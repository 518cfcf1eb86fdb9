"""Counts the costs of an exported network by NeuroBench and sinabs; knows nothing of tcljax.

    python benchmarks/torch_costs.py FOLDER

`benchmarks/costs_of_others.py` makes the environment, writes FOLDER/network.json (nodes, reset
rule, T) and FOLDER/arrays.npz (weights, thresholds, images), and runs this. Prints JSON.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
from neurobench.models import TorchModel
from sinabs import hooks
from torch import nn


class Neurons(nn.Module):
  """Integrate-and-fire neurons with soft reset; spikes have the height 1."""

  def __init__(self, threshold, v_init):
    super().__init__()
    self.register_buffer("threshold", torch.tensor(threshold))
    self.register_buffer("v_init", torch.tensor(v_init))
    self.v = None

  def per_channel(self, a, like):
    """One for each channel, of [B, C, H, W] or [B, C]."""
    return a.reshape(-1, *[1] * (like.ndim - 2)) if a.ndim else a

  def forward(self, current):
    """Spikes of one step."""
    threshold = self.per_channel(self.threshold, current)
    if self.v is None:
      v_init = self.per_channel(self.v_init, current)
      self.v = torch.zeros_like(current) + v_init * threshold
    self.v = self.v + current
    spikes = (self.v >= threshold).to(current.dtype)
    self.v = self.v - spikes * threshold
    return spikes


class Network(nn.Module):
  """The nodes of a graph, images channels first; heights of spikes are folded into weights."""

  def __init__(self, nodes, arrays, time_steps):
    super().__init__()
    self.nodes, self.time_steps = nodes, time_steps
    self.height = {}  # of spikes, one for all of a population, by node
    self.layers = nn.ModuleDict()
    for node in nodes:
      held = lambda name, node=node: arrays[f"{node['name']}/{name}"]
      key = node["name"].replace(".", "_")
      if node["op"] == "neurons":
        self.layers[key] = Neurons(held("threshold"), held("v_init"))
        self.height[node["name"]] = held("threshold")
      elif node["op"] in ("conv", "dense"):
        self.layers[key] = self.layer(node, held("kernel"), arrays.get(f"{node['name']}/bias"))
      elif node["op"] == "reshape":
        self.height[node["name"]] = self.height.get(node["inputs"][0], np.float32(1.0))

  def layer(self, node, kernel, bias):
    """A convolution or product with the heights of the spikes that it takes."""
    settings = node["settings"]
    height = self.height.get(node["inputs"][0], np.float32(1.0))
    if node["op"] == "dense":
      made = nn.Linear(*kernel.shape, bias=bias is not None)
      kernel = kernel.T
    else:
      (low, high), *_ = settings["padding"]
      assert low == high and {tuple(p) for p in settings["padding"]} == {(low, low)}
      groups = settings["feature_group_count"]
      made = nn.Conv2d(
        kernel.shape[2] * groups,
        kernel.shape[3],
        kernel.shape[:2],
        settings["window_strides"],
        low,
        groups=groups,
        bias=bias is not None,
      )
      kernel = kernel.transpose(3, 2, 0, 1)
    made.weight.data = torch.tensor(kernel * height)
    if bias is not None:
      made.bias.data = torch.tensor(bias)
    return made

  def forward(self, images):
    """Mean output over all steps, from rest."""
    total = 0
    for layer in self.layers.values():
      if isinstance(layer, Neurons):
        layer.v = None
    for _ in range(self.time_steps):
      total = total + self.step(images)
    return total / self.time_steps

  def step(self, images):
    """The output of one step."""
    values = {"input:0": images}
    for node in self.nodes:
      taken = [values[name] for name in node["inputs"]]
      if node["op"] == "add":
        first, second = (
          value * float(self.height.get(name, 1.0)) for name, value in zip(node["inputs"], taken)
        )
        values[node["name"]] = first + second
      elif node["op"] == "reshape":  # the order is that of channels last
        values[node["name"]] = taken[0].permute(0, 2, 3, 1).reshape(len(images), -1)
      else:
        values[node["name"]] = self.layers[node["name"].replace(".", "_")](taken[0])
    return values[self.nodes[-1]["name"]]


def by_sinabs(network, images):
  """Synaptic operations for an image by layer, without those that take the image itself."""
  counted = {}

  def hooked(name):
    def add(module, taken, given):
      kind = hooks.conv_layer_synops_hook
      (kind if isinstance(module, nn.Conv2d) else hooks.linear_layer_synops_hook)(
        module, taken, given
      )
      now = float(module.hook_data["layer_synops_per_timestep"])
      counted[name] = counted.get(name, 0.0) + now

    return add

  handles = [
    layer.register_forward_hook(hooked(node["name"]))
    for node in network.nodes
    for name, layer in network.layers.items()
    if name == node["name"].replace(".", "_")
    and node["op"] in ("conv", "dense")
    and node["inputs"] != ["input:0"]
  ]
  with torch.no_grad():
    network(images)
  for handle in handles:
    handle.remove()
  return counted


def by_neurobench(network, images):
  """Its metrics, by its own names."""
  model = TorchModel(network)
  model.add_activation_module(Neurons)
  data = torch.utils.data.TensorDataset(images, torch.zeros(len(images)))
  loader = torch.utils.data.DataLoader(data, batch_size=len(images))
  static, workload = [Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]
  with torch.no_grad():
    return Benchmark(model, loader, [], [], [static, workload]).run(quiet=True)


def main(folder):
  """Prints what both count, and the logits."""
  folder = pathlib.Path(folder)
  described = json.loads((folder / "network.json").read_text())
  arrays = dict(np.load(folder / "arrays.npz"))
  images = torch.tensor(arrays.pop("images")).permute(0, 3, 1, 2)
  network = Network(described["nodes"], arrays, described["time_steps"])
  with torch.no_grad():
    logits = network(images)
  found = {
    "logits": logits.tolist(),
    "sinabs": by_sinabs(network, images),
    "neurobench": by_neurobench(network, images),
  }
  print(json.dumps(found))


if __name__ == "__main__":
  main(sys.argv[1])
