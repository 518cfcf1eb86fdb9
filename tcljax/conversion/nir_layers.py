"""The nodes of NIR that tcljax reads, each as nodes of its own graph."""

import collections
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tcljax.checks import in_a_line
from tcljax.conversion.checking import (
  check_description,
  check_range,
  check_value,
  check_weights,
  path_of,
)
from tcljax.conversion.network import SpikingNetwork
from tcljax.conversion.nir_fields import input_shape, numbers, whole
from tcljax.graph import Graph, Node
from tcljax.graph.nodes import INPUT, NEURONS
from tcljax.graph.operations import find
from tcljax.graph.whole_numbers import Shape
from tcljax.graph.wires import channels_first, per_channel
from tcljax.layers.collections import CLIPPING, PARAMS, RAW_THRESHOLD, V_INIT
from tcljax.maths.clipping import raw_from_threshold
from tcljax.simulation.settings import SpikingConfig

_NO_NAME = re.compile(r"[/:\x00-\x1f\x7f\ud800-\udfff]")  # what names of nodes cannot hold
_LONGEST = 200  # characters of them


@dataclasses.dataclass
class Reader:
  """Nodes of the graph that is being made, and what is known of them.

  Attributes:
    dt: the length of a step, in units of the graph's time.
    nodes: in their order.
    variables: their arrays.
    shapes: of their values, channels last, by name.
    values: by the name of a NIR node, that of the node that has its value.
    output: the name of the node that is the output.
    counts: of nodes, by operation.
  """

  dt: float = 1.0
  nodes: list[Node] = dataclasses.field(default_factory=list)
  variables: dict[str, dict[str, Any]] = dataclasses.field(
    default_factory=lambda: {PARAMS: {}, CLIPPING: {}}
  )
  shapes: dict[str, Shape] = dataclasses.field(default_factory=dict)
  values: dict[str, str] = dataclasses.field(default_factory=dict)
  output: str = ""
  counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

  def read(self, name: str, node: Any, sources: list[str]) -> None:
    """Makes nodes of a NIR node.

    Raises:
      ValueError: if tcljax has none such.
    """
    kind = type(node).__name__
    try:
      with np.errstate(over="ignore", invalid="ignore"):  # what is infinite then is told at the end
        self.values[name] = self._read(kind, name, node, sources)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError) as error:
      raise ValueError(f"its fields cannot be used: {in_a_line(error)}") from error

  def _read(self, kind, name, node, sources):
    """The name of the node that has the value of a NIR node."""
    if kind == "Input":
      if INPUT in self.shapes:
        raise ValueError("it is a second input, and tcljax reads graphs of one")
      self.shapes[INPUT] = input_shape(node)
      return INPUT
    if not sources:
      raise ValueError(f"it is of type {kind} and reads nothing")
    x = functools.reduce(
      lambda x, y: self.make("add", (x, y)), map(self.values.__getitem__, sources)
    )
    if kind == "Output":
      if self.output:
        raise ValueError("it is a second output, and tcljax reads graphs of one")
      said, shape = node.output_type["output"], channels_first(self.shapes[x])
      if said is not None and not np.array_equal(said, shape):
        raise ValueError(f"it is of shape {in_a_line(said)}, and reads values of shape {shape}")
      self.output = x
      return x
    if kind in _READERS:
      return _READERS[kind](self, x, node, name)
    raise ValueError(f"it is of type {kind}, and tcljax has {', '.join(sorted(_READERS))} alone")

  def make(
    self,
    op: str,
    inputs: tuple[str, ...],
    settings: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    name: str = "",
  ) -> str:
    """Adds a node and returns its name."""
    self.counts[op] += 1
    plain = name = name or f"{op}:{self.counts[op]}"
    for i in itertools.count(2):
      if name not in self.shapes:
        break
      name = f"{plain}_{i}"
    node = Node(name, op, inputs, tuple(sorted((settings or {}).items())))
    listed = {key: array.shape for key, array in (arrays or {}).items()}
    form_of = find(op).form
    assert form_of is not None  # of every operation that can be stored
    form = form_of([self.shapes[x] for x in inputs], dict(node.settings), listed)
    check_value("it", max(math.prod(form.output), form.padded))
    self.nodes.append(node)
    self.shapes[node.name] = form.output
    if arrays:
      collection = path_of(node).partition("/")[0]
      self.variables[collection][node.name] = dict(arrays)
    return node.name

  def network(self, spiking: SpikingConfig, metadata: dict[str, Any]) -> SpikingNetwork:
    """The network of all nodes; ValueError if it cannot be run."""
    if not self.output or INPUT not in self.shapes:
      raise ValueError("the graph lacks an Input or an Output")
    graph, shape = Graph(tuple(self.nodes), self.output), self.shapes[INPUT]
    listed = {
      f"{collection}/{name}/{key}": array.shape
      for collection, held in self.variables.items()
      for name, arrays in held.items()
      for key, array in arrays.items()
    }
    forms = check_description(graph, shape, spiking, listed)
    check_weights(self.variables)
    check_range(graph, forms, self.variables, spiking.time_steps)
    network = SpikingNetwork(graph, self.variables, shape, spiking, metadata)
    network.check_shapes()
    return network


def _read_conv(reader: Reader, x: str, node: Any, name: str) -> str:
  weight = numbers(node.weight, "weight")
  axes = 2 if type(node).__name__ == "Conv2d" else 1
  if weight.ndim != axes + 2:
    raise ValueError(f"its weight has {weight.ndim} axes in place of {axes + 2}")
  pixels = reader.shapes[x][:-1]
  said = getattr(node, "input_shape", None)
  if said is not None and whole(said, len(pixels), "input_shape") != pixels:
    raise ValueError(f"its input_shape is {in_a_line(said)}, and it reads an image of {pixels}")
  strides = whole(node.stride, axes, "stride")
  dilation = whole(node.dilation, axes, "dilation")
  if isinstance(node.padding, (str, bytes)):
    word = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if word not in ("same", "valid") or (word == "same" and {*strides} != {1}):
      raise ValueError(f"its padding is {in_a_line(word)} with strides of {strides}")
    over = [(k - 1) * d * (word == "same") for k, d in zip(weight.shape[2:], dilation)]
    padding = tuple((n // 2, n - n // 2) for n in over)
  else:
    padding = tuple((n, n) for n in whole(node.padding, axes, "padding"))
  settings = {
    "window_strides": strides,
    "padding": padding,
    "lhs_dilation": (1,) * axes,
    "rhs_dilation": dilation,
    "feature_group_count": whole(node.groups, 1, "groups")[0],
  }
  kernel = np.moveaxis(weight, (0, 1), (-1, -2))
  arrays = {"kernel": kernel, "bias": numbers(node.bias, "bias")}
  return reader.make("conv", (x,), settings, arrays)


def _read_affine(reader: Reader, x: str, node: Any, name: str) -> str:
  if len(shape := reader.shapes[x]) != 1:
    raise ValueError(f"it reads values of {len(shape)} axes, and tcljax has products of one")
  arrays = {"kernel": numbers(node.weight, "weight").T}
  if hasattr(node, "bias"):
    arrays["bias"] = numbers(node.bias, "bias")
  return reader.make("dense", (x,), arrays=arrays)


def _read_pool(reader: Reader, x: str, node: Any, name: str) -> str:
  sizes, strides, padding = (
    whole(getattr(node, field), 2, field) for field in ("kernel_size", "stride", "padding")
  )
  settings = {
    "window_dimensions": (1, *sizes, 1),
    "window_strides": (1, *strides, 1),
    "padding": ((0, 0), *((n, n) for n in padding), (0, 0)),
    "base_dilation": (1,) * 4,
    "window_dilation": (1,) * 4,
  }
  x = reader.make("sum_pool", (x,), settings)
  if type(node).__name__ == "SumPool2d":
    return x
  return _scaled(reader, x, np.full((1, 1, 1), 1 / math.prod(sizes)))


def _read_flatten(reader: Reader, x: str, node: Any, name: str) -> str:
  *pixels, channels = shape = reader.shapes[x]
  start, end = (int(n) % len(shape) for n in (node.start_dim, node.end_dim))
  if start == end:
    return x
  if (start, end) != (0, len(shape) - 1):
    raise ValueError(f"it flattens axes {start} to {end} of {len(shape)}, and tcljax flattens all")
  order = (0, len(shape), *range(1, len(shape)))
  x = reader.make("transpose", (x,), {"permutation": order})
  return reader.make("reshape", (x,), {"shape": (channels * math.prod(pixels),)})


def _read_scale(reader: Reader, x: str, node: Any, name: str) -> str:
  return _scaled(reader, x, _last(reader, x, numbers(node.scale, "scale")))


def _last(reader, x, values):
  """Values [C, ...] with channels last; they keep the size 1 along axes where they repeat."""
  *pixels, channels = reader.shapes[x]
  shape = (channels, *pixels)
  try:
    fits = np.broadcast_shapes(values.shape, shape) == shape
  except ValueError:
    fits = False
  if not fits:
    raise ValueError(f"it has arrays of shape {values.shape}, and reads values of shape {shape}")
  return np.moveaxis(values.reshape(*[1] * (len(shape) - values.ndim), *values.shape), 0, -1)


def _scaled(reader, x, scale):
  """A value times a scale that has its axes; the value itself where that is 1."""
  found = per_channel(scale)
  if found is not None:
    scale = found.reshape(*[1] * (scale.ndim - 1), -1)
  scale = np.asarray(scale, np.float32)
  if np.all(scale == 1):
    return x
  return reader.make("affine", (x,), arrays={"scale": scale, "shift": np.zeros_like(scale)})


def _read_if(reader: Reader, x: str, node: Any, name: str) -> str:
  threshold, gain = numbers(node.v_threshold, "v_threshold"), numbers(node.r, "r")
  gain = gain * np.float32(reader.dt)
  if not np.all(threshold > 0) or not np.all(gain > 0):
    raise ValueError("its v_threshold and r must be above 0")
  if np.any(numbers(0 if node.v_reset is None else node.v_reset, "v_reset")):
    raise ValueError("it has a v_reset that is not 0, to which no neurons of tcljax are reset")
  said = node.metadata if isinstance(node.metadata, Mapping) else {}
  first, later = (said.get(key, 0) for key in ("initial_potential", "later_currents"))
  given = [numbers(first, "initial_potential")]
  given += [*numbers(later if "later_currents" in said else (), "later_currents")]
  parts = [per_channel(_last(reader, x, part / threshold)) for part in given]
  if any(part is None for part in parts):
    raise ValueError("its initial potential differs within a channel, for which tcljax has one")
  parts = np.broadcast_arrays(*(part for part in parts if part is not None))
  v_init = np.stack(parts).astype(np.float32)
  v_init[1:] *= len(parts)  # which the network divides by
  if np.all(v_init == v_init[:, :1]):
    v_init = v_init[:, 0]
  if len(parts) == 1:
    v_init = v_init[0]
  x = _scaled(reader, x, _last(reader, x, gain / threshold))
  population = _NO_NAME.sub("_", str(said.get("population", name)))[:_LONGEST] or "neurons"
  raw = np.full(v_init.shape[len(parts) > 1 :], raw_from_threshold(1.0), np.float32)
  return reader.make(NEURONS, (x,), arrays={RAW_THRESHOLD: raw, V_INIT: v_init}, name=population)


_READERS: dict[str, Callable[[Reader, str, Any, str], str]] = {
  "Affine": _read_affine,
  "AvgPool2d": _read_pool,
  "Conv1d": _read_conv,
  "Conv2d": _read_conv,
  "Flatten": _read_flatten,
  "IF": _read_if,
  "Linear": _read_affine,
  "Scale": _read_scale,
  "SumPool2d": _read_pool,
}
