"""The files of a network are what docs/network-format.md says: a reader of NumPy, written from it.

Nothing of tcljax is used in `Reader`, so that the page is what it follows.
"""

import json

import numpy as np
import pytest
from networks import everything
from several_arrays import converted, inputs

import tcljax


class Reader:
  """Reads a folder and runs it, as docs/network-format.md says and no other way."""

  def __init__(self, folder):
    self.about = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    raw = (folder / "weights.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    self.arrays = {
      name: np.frombuffer(raw[8 + length :][slice(*at["data_offsets"])], "<f4").reshape(at["shape"])
      for name, at in json.loads(raw[8 : 8 + length]).items()
    }

  def run(self, x, time_steps):
    """The mean output, and how often the neurons of each population have fired, by step."""
    self.v, self.counts, self.sent, self.sums = {}, {}, {}, {}
    spiking = self.about["spiking"]
    outputs, fired = [], []
    for step in range(time_steps):
      values = {
        f"input:{i}": given[step] if spiking["encoding"] == "frames" else given
        for i, given in enumerate(leaves(x))
      }
      for node in self.about["nodes"]:
        inputs = [values[name] for name in node["inputs"]]
        if node["op"] == "neurons":
          value = self.neurons(node, inputs[0], step, spiking["neuron"])
        else:
          arrays = [f"params/{node['name']}/{key}" for key in ("kernel", "scale", "bias", "shift")]
          arrays = [self.arrays[name] for name in arrays if name in self.arrays]
          value = OPERATIONS[node["op"]](*inputs, *arrays, **node["settings"])
        values[node["name"]] = value.astype(np.float32)
      outputs.append(list(map(values.get, leaves(self.about["output"]))))
      fired.append({name: count.sum() for name, count in self.counts.items()})
    means = [np.mean(of_steps, axis=0) for of_steps in zip(*outputs[spiking["delay"] :])]
    return filled(self.about["output"], iter(means)), fired

  def neurons(self, node, current, step, neuron):
    name = node["name"]
    raw, v_init = (self.arrays[f"clipping/{name}/{key}"] for key in ("raw_threshold", "v_init"))
    tau = np.logaddexp(raw, np.float32(0))
    parts = v_init if v_init.ndim > raw.ndim else v_init[None]
    pool = dict(node["settings"])
    tau = np.minimum(tau, np.float32(pool.pop("bound", np.inf)))
    mean, phase = tau / np.float32(neuron["burst"]), neuron["phase"]
    smallest, worth = mean * np.float32(phase / (2**phase - 1)), 2 ** (phase - 1 - step % phase)
    height = smallest * np.float32(worth)
    of = pool.pop("of", None)
    if of == "currents":
      current = self.growth(name, current, pool)
    if step == 0:
      self.v[name] = np.broadcast_to(parts[0] * mean, current.shape)
      self.counts[name] = self.sent[name] = np.zeros(current.shape, np.float32)
    elif step < len(parts):
      current = current + parts[step] / np.float32(len(parts)) * mean
    v, spikes = self.v[name] + current, np.zeros(current.shape, np.float32)
    for k in map(np.float32, range(1, neuron["burst"] + 1)):
      spikes += v >= k * height
      if neuron["signed"]:
        spikes -= (v < (1 - k) * height) & (self.sent[name] >= k)
    self.v[name] = v - spikes * height if neuron["reset"] == "soft" else v * (1 - spikes)
    self.sent[name] = self.sent[name] + spikes
    self.counts[name] = self.counts[name] + np.abs(spikes)
    spikes = spikes * np.float32(worth)
    return (self.growth(name, spikes, pool) if of == "spikes" else spikes) * smallest

  def growth(self, name, x, pool):
    before = self.sums.get(name, np.zeros_like(x))
    self.sums[name] = before + x
    return maximum(self.sums[name], **pool) - maximum(before, **pool)


def leaves(tree):
  """What stands for the arrays of a tree, objects in the order of their keys."""
  if isinstance(tree, dict):
    return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
  return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, list) else [tree]


def filled(tree, values):
  """The tree with these values in place of its leaves."""
  if isinstance(tree, dict):
    return {key: filled(tree[key], values) for key in sorted(tree)}
  return [filled(part, values) for part in tree] if isinstance(tree, list) else next(values)


def windows(x, size, strides, padding, dilation, window_dilation, filled=0.0):
  """Each window of `x` along its first axes: [..., windows..., rest..., size...]."""
  axes = range(len(size))
  for axis in axes:
    wide = list(x.shape)
    wide[axis] = (wide[axis] - 1) * dilation[axis] + 1
    spread = np.full(wide, filled, np.float32)
    spread[(*[slice(None)] * axis, slice(None, None, dilation[axis]))] = x
    x = spread
  x = np.pad(x, [*padding, *[(0, 0)] * (x.ndim - len(size))], constant_values=filled)
  reach = tuple((n - 1) * d + 1 for n, d in zip(size, window_dilation))
  x = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(axes))
  x = x[tuple(slice(None, None, s) for s in strides)]
  return x[(..., *(slice(None, None, d) for d in window_dilation))]


def conv(
  x, kernel, bias=0.0, *, window_strides, padding, lhs_dilation, rhs_dilation, feature_group_count
):
  axes, groups = kernel.ndim - 2, feature_group_count
  seen = windows(
    np.moveaxis(x, 0, -2), kernel.shape[:axes], window_strides, padding, lhs_dilation, rhs_dilation
  )  # [H', W', B, C, h, w]
  seen = np.moveaxis(seen, axes, 0)
  parts = [
    np.tensordot(part, weights, ([*range(axes + 2, 2 * axes + 2), axes + 1], range(axes + 1)))
    for part, weights in zip(np.split(seen, groups, axes + 1), np.split(kernel, groups, -1))
  ]
  return np.concatenate(parts, -1) + bias


def pool(reduce, filled):
  def run(x, *, window_dimensions, window_strides, padding, base_dilation, window_dilation):
    settings = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
    return reduce(windows(x, *settings, filled), tuple(range(-x.ndim, 0)))

  return run


def maximum(sums, *, window, stride, padding):
  pixels = sums.shape[1:-1]
  every = lambda value: value if isinstance(value, list) else [value] * len(pixels)
  window, stride = every(window), every(stride)
  if padding == "SAME":
    total = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(pixels, window, stride)]
    padding = [[p // 2, p - p // 2] for p in total]
  ends = [p if isinstance(p, list) else [p, p] for p in every(padding)]
  ones = [1] * sums.ndim
  return pool(np.max, -np.inf)(
    sums,
    window_dimensions=[1, *window, 1],
    window_strides=[1, *stride, 1],
    padding=[[0, 0], *ends, [0, 0]],
    base_dilation=ones,
    window_dilation=ones,
  )


def pad(x, *, padding):
  for axis, (low, high, between) in enumerate(padding, 1):
    assert between == 0 and min(low, high) >= 0
    x = np.pad(x, [(low, high) if a == axis else (0, 0) for a in range(x.ndim)])
  return x


def cut(x, *, start, limit, strides):
  return x[(slice(None), *map(slice, start, limit, strides))]


OPERATIONS = {
  "conv": conv,
  "dense": lambda x, kernel, bias=0.0: x @ kernel + bias,
  "affine": lambda x, scale, shift: x * scale + shift,
  "add": np.add,
  "sum_pool": pool(np.sum, 0.0),
  "max_pool": pool(np.max, -np.inf),
  "sum": lambda x, *, axes: x.sum(tuple(axes)),
  "reshape": lambda x, *, shape: x.reshape(len(x), *shape),
  "transpose": lambda x, *, permutation: x.transpose(permutation),
  "slice": cut,
  "take": lambda x, *, axis, indices: np.take(x, indices, axis),
  "pad": pad,
  "concatenate": lambda *xs, axis: np.concatenate(xs, axis),
}


def spikes_of(network, images, time_steps):
  """Of tcljax: the logits, and the spikes of each population summed over examples and steps."""
  spiking = tcljax.SpikingConfig(**vars(network.spiking) | {"time_steps": time_steps})
  found = tcljax.simulate(
    network.model, network.variables, images, spiking, observe=lambda chunk: chunk.spikes
  )
  spikes = {
    name: np.cumsum(np.asarray(of["count"]).sum(axis=1)) for name, of in found.observed.items()
  }
  return found.logits, spikes


@pytest.mark.parametrize(
  "settings",
  [
    {"delay": 1},
    {"neuron": tcljax.Neuron(reset="hard"), "encoding": "frames"},
    {"neuron": tcljax.Neuron(burst=3, signed=True)},
    {"neuron": tcljax.Neuron(phase=3), "delay": 3},
  ],
  ids=["soft", "hard, frames", "signed bursts", "phases"],
)
def test_a_reader_that_knows_the_page_alone_finds_the_same_spikes(tmp_path, settings):
  network, images = everything(time_steps=6, **settings)
  if network.spiking.encoding == "frames":
    images = np.stack([np.roll(images, step, axis=0) for step in range(6)])
  reader = Reader(tcljax.save(network, tmp_path / "net"))
  assert {node["op"] for node in reader.about["nodes"]} == {*OPERATIONS, "neurons"}
  held = {node["name"]: node["settings"] for node in reader.about["nodes"]}
  assert held["gate"]["padding"] == "SAME" and held["currents"]["padding"] == [0, [1, 0]]
  raw = reader.arrays["clipping/branch/raw_threshold"]
  assert np.logaddexp(raw, 0).min() < held["branch"]["bound"] < np.logaddexp(raw, 0).max()
  parts = reader.arrays["clipping/branch/v_init"]
  assert parts.shape == (3, 4) and np.std(parts) > 0.05
  logits, spikes = spikes_of(network, images, 6)
  found, fired = reader.run(images, 6)
  for name, counts in spikes.items():
    assert counts[network.spiking.neuron.phase - 1] > 0
    np.testing.assert_array_equal([step[name] for step in fired], counts)
  np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)


def test_it_finds_them_of_several_inputs_and_outputs_too(tmp_path):
  reader = Reader(tcljax.save(converted(), tmp_path / "net"))
  logits, spikes = spikes_of(converted(), inputs(), 4)
  found, fired = reader.run(inputs(), 4)
  for name, counts in spikes.items():
    np.testing.assert_array_equal([step[name] for step in fired], counts)
  assert list(found) == ["box", "class"]
  for name, output in found.items():
    np.testing.assert_allclose(output, logits[name], rtol=1e-3, atol=1e-4)
