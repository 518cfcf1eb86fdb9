"""Populations of neurons put where a model computes max(x, 0), and the pooling that they do.

A maximum over windows is given to a population next to it, which is the same network: of ReLUs it
is the ReLU of the maximum, positive scales and shifts pass through it, and joined channels have it
each for themselves. What is left, maxima of numbers of either sign, stands in `maxima`.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.nodes import NEURONS
from tcljax.graph.record import Kind, Refused
from tcljax.graph.store import AFFINE
from tcljax.maths.max_pooling import CURRENTS, SPIKES

MAXIMUM = "max_pool"


class Window(NamedTuple):
  """A maximum along one stored axis: the size of a window, its step, and what is padded."""

  size: int
  stride: int
  low: int
  high: int

  def count(self, n: int) -> int:
    """How many windows an axis of this size has."""
    return (n + self.low + self.high - self.size) // self.stride + 1


Windows = Mapping[int, Window]  # by stored axis, those alone that are not of size 1 and step 1


def rectified(graph: Builder, x: Symbol) -> Symbol:
  """max(x, 0): a population, or `x` itself where that is never below 0."""
  if is_nonnegative(graph, x.name):
    return x
  name = _of_maximum(graph, x.name) or population(graph, x.name)
  return Symbol(name, graph.shapes[name], x.axes)


def population(graph: Builder, name: str, windows: Windows | None = None, **settings: Any) -> str:
  """The node of neurons that reads this node, with the maximum of windows as `graph.pooling` says.

  Raises:
    Refused: if windows reach over channels.
  """
  shape = list(graph.shapes[name])
  if len(shape) < 2:
    shape = [*shape, 1]
    name = graph.node("reshape", (name,), shape, {"shape": (1,)})
  if windows:
    if any(k in (0, len(shape) - 1) for k in windows):
      raise Refused
    for k, window in windows.items():
      shape[k] = window.count(shape[k])
    of = {"gate": SPIKES, "before": CURRENTS}[graph.pooling]
    settings = {**settings, "of": of, **_max_pool(windows, len(shape) - 2)}
  return graph.node(NEURONS, (name,), shape, settings)


def _max_pool(windows, axes):
  """The fields of `tcljax.MaxPool`, as single numbers where all axes share them."""
  each = [windows.get(k, Window(1, 1, 0, 0)) for k in range(1, axes + 1)]
  fields = {
    "window": tuple(w.size for w in each),
    "stride": tuple(w.stride for w in each),
    "padding": tuple((w.low, w.high) for w in each),
  }
  short: dict[str, Any] = {}
  for field, values in fields.items():
    first = values[0]
    one = len(set(values)) == 1 and (field != "padding" or first[0] == first[1])
    short[field] = (first[0] if field == "padding" else first) if one else values
  return short


def is_nonnegative(graph: Builder, name: str) -> bool:
  """Whether a node is never below 0, as what comes of neurons alone."""
  known = graph.nonnegative
  for node in itertools.islice(graph.nodes.values(), len(known), None):
    known[node.name] = _is_nonnegative(graph, node)
  return known.get(name, False)


def _is_nonnegative(graph, node):
  """The same of a node, if it is known of those that it reads."""
  kind = graph.kind(node.name)
  if kind in (Kind.NEURONS, Kind.SYNAPSES):
    return kind is Kind.NEURONS
  if node.op == AFFINE and any(np.any(a < 0) for a in graph.arrays[node.name].values()):
    return False
  return all(graph.nonnegative.get(of, False) for of in node.inputs)


def _of_maximum(graph: Builder, name: str) -> str | None:
  """Neurons with the maximum that a node is, perhaps scaled and moved; None where it is none."""
  scale, shift, of = np.float64(1), np.float64(0), name
  while graph.nodes.get(of) and graph.nodes[of].op == AFFINE:
    held = graph.arrays[of]
    scale, shift = scale * held["scale"], shift + scale * held["shift"]
    of = graph.nodes[of].inputs[0]
  if of not in graph.nodes or graph.nodes[of].op != MAXIMUM:
    return None
  windows = windows_of(graph, of)
  varies = any(a.ndim and a.shape[k - 1] > 1 for a in (scale, shift) for k in windows)
  if varies or np.any(scale <= 0) or len(graph.shapes[of]) - 1 in windows:
    return None
  (before,) = graph.nodes[of].inputs
  if scale.ndim:
    x = Symbol(before, graph.shapes[before], ())
    before = graph.affine_stored(x, np.asarray(scale), np.asarray(shift)).name
  return population(graph, before, windows)


def windows_of(graph: Builder, name: str) -> dict[int, Window]:
  """Those of a node that is a maximum."""
  held: dict[str, Any] = dict(graph.nodes[name].settings)
  fields = zip(held["window_dimensions"], held["window_strides"], held["padding"])
  each = {k: Window(size, stride, *sides) for k, (size, stride, sides) in enumerate(fields)}
  return {k: window for k, window in each.items() if window != Window(1, 1, 0, 0)}


def pooled(graph: Builder, name: str, windows: Windows) -> str:
  """The node of the maximum of each window of a node."""
  made = _by_population(graph, name, windows) if graph.pooling != "average" else None
  return made or _maximum(graph, name, windows)


def _maximum(graph, name, windows):
  """The node of a maximum, which a population may take over when it is read."""
  shape = graph.shapes[name]
  each = [windows.get(k, Window(1, 1, 0, 0)) for k in range(len(shape))]
  settings = {
    "window_dimensions": tuple(w.size for w in each),
    "window_strides": tuple(w.stride for w in each),
    "padding": tuple((w.low, w.high) for w in each),
    "base_dilation": (1,) * len(each),
    "window_dilation": (1,) * len(each),
  }
  return graph.node(MAXIMUM, (name,), [w.count(n) for w, n in zip(each, shape)], settings)


def _by_population(graph: Builder, name: str, windows: Windows) -> str | None:
  """The maximum of what comes of neurons, by the neurons; None where it does not come of them."""
  node, shape = graph.nodes.get(name), graph.shapes[name]
  if node is None:
    return None
  settings: dict[str, Any] = dict(node.settings)
  if graph.kind(name) is Kind.NEURONS:
    of_node = _of_pooled if "window" in settings else _of_neurons
    made = of_node(graph, name, windows)
    return made and graph.in_place_of(name, made)
  if node.op == AFFINE:
    held = graph.arrays[name]
    if np.any(held["scale"] <= 0) or any(
      a.shape[k - 1] > 1 for a in held.values() for k in windows
    ):
      return _of_nonnegative(graph, name, windows)
    inner = _by_population(graph, node.inputs[0], windows)
    if inner is None:
      return None
    return graph.affine_stored(Symbol(inner, graph.shapes[inner], ()), **held).name
  if node.op == "concatenate" and settings["axis"] not in windows:
    parts = [_by_population(graph, of, windows) for of in node.inputs]
    if None in parts:
      return None
    found = [part for part in parts if part is not None]
    out = list(graph.shapes[found[0]])
    out[settings["axis"]] = shape[settings["axis"]]
    return graph.node("concatenate", found, out, settings)
  if node.op in ("slice", "take") and _keeps(node.op, settings, shape, windows):
    inner = _by_population(graph, node.inputs[0], windows)
    if inner is None:
      return None
    out = [window.count(n) if (window := windows.get(k)) else n for k, n in enumerate(shape)]
    if node.op == "slice":
      limits = [
        graph.shapes[inner][k] if k in windows else n for k, n in enumerate((0, *settings["limit"]))
      ]
      settings["limit"] = tuple(limits[1:])
    return graph.node(node.op, (inner,), out, settings)
  if node.op == "pad" and is_nonnegative(graph, name):
    wider = _with_padding(windows, settings["padding"])
    if wider is not None:
      return _by_population(graph, node.inputs[0], wider)
  return _of_nonnegative(graph, name, windows)


def _keeps(op, settings, shape, windows):
  """Whether a node takes parts along other axes alone than those of windows."""
  if op == "take":
    return settings["axis"] not in windows
  cut = zip(settings["start"], settings["strides"], settings["limit"], shape[1:])
  whole = [start == 0 and step == 1 and limit == n for start, step, limit, n in cut]
  return all(whole[k - 1] for k in windows)


def _of_nonnegative(graph, name, windows):
  """By neurons put there for it, which pass on what they get."""
  if not is_nonnegative(graph, name) or len(graph.shapes[name]) - 1 in windows:
    return None
  return population(graph, name, windows)


def _with_padding(windows, padding):
  """Windows that pad with zeros themselves; None where one would hold nothing else."""
  wider = dict(windows)
  for k, (low, high, between) in enumerate(padding, 1):
    if (low, high, between) == (0, 0, 0):
      continue
    if k not in windows or between or low < 0 or high < 0:
      return None
    size, stride, before, after = windows[k]
    wider[k] = Window(size, stride, before + low, after + high)
    if max(before + low, after + high) >= size:
      return None
  return wider


def _of_neurons(graph, name, windows):
  """The neurons of a node anew, which pool; where windows reach over channels, turned about."""
  node, shape = graph.nodes[name], graph.shapes[name]
  (current,), last = node.inputs, len(shape) - 1
  if last not in windows:
    return population(graph, current, windows, **dict(node.settings))
  kept = [k for k in range(1, len(shape)) if k not in windows]
  order = [k for k in range(len(shape)) if k not in kept[-1:]] + kept[-1:]
  moved = [shape[k] for k in order]
  turned = graph.node("transpose", (current,), moved, {"permutation": tuple(order)})
  if not kept:
    moved = [*moved, 1]
    turned = graph.node("reshape", (current,), moved, {"shape": tuple(moved[1:])})
  there = {order.index(k): window for k, window in windows.items()}
  made = population(graph, turned, there, **dict(node.settings))
  if not kept:
    back = graph.shapes[made][:-1]
    return graph.node("reshape", (made,), back, {"shape": tuple(back[1:])})
  back_order = tuple(int(k) for k in np.argsort(order))
  back = [graph.shapes[made][k] for k in back_order]
  return graph.node("transpose", (made,), back, {"permutation": back_order})


def _of_pooled(graph, name, windows):
  """Maxima of maxima as those of larger windows; None where these would reach further."""
  node = graph.nodes[name]
  settings = dict(node.settings)
  axes = len(graph.shapes[name]) - 2
  fields = {f: settings.pop(f) for f in ("window", "stride", "padding")}
  settings.pop("of")
  (current,) = node.inputs
  sizes = graph.shapes[current]
  each: dict[int, Window] = {}
  for k in range(1, axes + 1):
    size, stride, padding = (v[k - 1] if isinstance(v, tuple) else v for v in fields.values())
    low, high = padding if isinstance(padding, tuple) else (padding, padding)
    outer = windows.get(k, Window(1, 1, 0, 0))
    left = (sizes[k] + low + high - size) % stride  # which no inner window holds
    if left and outer.high:
      return None
    each[k] = Window(
      size + (outer.size - 1) * stride,
      stride * outer.stride,
      low + outer.low * stride,
      high - left + outer.high * stride,
    )
    if max(each[k].low, each[k].high) >= each[k].size or each[k].high < 0:
      return None
  if axes + 1 in windows:
    return None
  return population(graph, current, each, **settings)
