"""The nodes of NIR that tcljax reads, each as nodes of its own graph."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tcljax.checks import in_a_line
from tcljax.conversion.checking import check_description, check_range, check_weights, path_of
from tcljax.conversion.network import SpikingNetwork
from tcljax.graph import Graph, Node
from tcljax.graph.nodes import INPUT, NEURONS
from tcljax.graph.operations import find
from tcljax.graph.whole_numbers import Shape
from tcljax.graph.wires import per_channel
from tcljax.layers.collections import CLIPPING, PARAMS, RAW_THRESHOLD, V_INIT
from tcljax.maths.clipping import raw_from_threshold
from tcljax.simulation.settings import SpikingConfig


@dataclasses.dataclass
class Reader:
  """Nodes of the graph that is being made, and what is known of them.

  Attributes:
    nodes: in their order.
    variables: their arrays.
    shapes: of their values, channels last, by name.
    values: by the name of a NIR node, that of the node that has its value.
    output: the name of the node that is the output.
  """

  nodes: list[Node] = dataclasses.field(default_factory=list)
  variables: dict[str, dict[str, Any]] = dataclasses.field(
    default_factory=lambda: {PARAMS: {}, CLIPPING: {}}
  )
  shapes: dict[str, Shape] = dataclasses.field(default_factory=dict)
  values: dict[str, str] = dataclasses.field(default_factory=dict)
  output: str = ""

  def read(self, name: str, node: Any, sources: list[str]) -> None:
    """Makes nodes of a NIR node.

    Raises:
      ValueError: if tcljax has none such.
    """
    kind = type(node).__name__
    if kind == "Input":
      if INPUT in self.shapes:
        raise ValueError("it is a second input, and tcljax reads graphs of one")
      first, *rest = map(int, np.atleast_1d(node.input_type["input"]))
      self.shapes[INPUT] = (*rest, first)
      self.values[name] = INPUT
      return
    if not sources:
      raise ValueError(f"it is of type {kind} and reads nothing")
    x = functools.reduce(
      lambda x, y: self.make("add", (x, y)), map(self.values.__getitem__, sources)
    )
    if kind == "Output":
      if self.output:
        raise ValueError("it is a second output, and tcljax reads graphs of one")
      self.output = x
    elif kind in _READERS:
      try:
        x = _READERS[kind](self, x, node, name)
      except (AttributeError, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"its fields cannot be used: {in_a_line(error)}") from error
    else:
      raise ValueError(f"it is of type {kind}, and tcljax has {', '.join(sorted(_READERS))} alone")
    self.values[name] = x

  def make(
    self,
    op: str,
    inputs: tuple[str, ...],
    settings: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    name: str = "",
  ) -> str:
    """Adds a node and returns its name."""
    count = 1 + sum(node.op == op for node in self.nodes)
    node = Node(name or f"{op}:{count}", op, inputs, tuple(sorted((settings or {}).items())))
    listed = {key: array.shape for key, array in (arrays or {}).items()}
    form_of = find(op).form
    assert form_of is not None  # of every operation that can be stored
    form = form_of([self.shapes[x] for x in inputs], dict(node.settings), listed)
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


def _numbers(node, field, default=None):
  """A field as float32."""
  value = getattr(node, field, None)
  return np.asarray(default if value is None else value, np.float32)


def _whole(value, axes):
  """A field of one whole number for each axis."""
  return tuple(map(int, np.broadcast_to(np.asarray(value).reshape(-1), (axes,))))


def _read_conv(reader: Reader, x: str, node: Any, name: str) -> str:
  weight = _numbers(node, "weight")
  axes = weight.ndim - 2
  strides, dilation = _whole(node.stride, axes), _whole(node.dilation, axes)
  if isinstance(node.padding, (str, bytes)):
    word = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    over = [(k - 1) * d * (word == "same") for k, d in zip(weight.shape[2:], dilation)]
    padding = tuple((n // 2, n - n // 2) for n in over)
  else:
    padding = tuple((n, n) for n in _whole(node.padding, axes))
  settings = {
    "window_strides": strides,
    "padding": padding,
    "lhs_dilation": (1,) * axes,
    "rhs_dilation": dilation,
    "feature_group_count": int(node.groups),
  }
  kernel = np.moveaxis(weight, (0, 1), (-1, -2))
  return reader.make("conv", (x,), settings, {"kernel": kernel, "bias": _numbers(node, "bias")})


def _read_affine(reader: Reader, x: str, node: Any, name: str) -> str:
  if len(shape := reader.shapes[x]) != 1:
    raise ValueError(f"it reads values of {len(shape)} axes, and tcljax has products of one")
  arrays = {"kernel": _numbers(node, "weight").T}
  if hasattr(node, "bias"):
    arrays["bias"] = _numbers(node, "bias")
  return reader.make("dense", (x,), arrays=arrays)


def _read_pool(reader: Reader, x: str, node: Any, name: str) -> str:
  sizes, strides = _whole(node.kernel_size, 2), _whole(node.stride, 2)
  settings = {
    "window_dimensions": (1, *sizes, 1),
    "window_strides": (1, *strides, 1),
    "padding": ((0, 0), *((n, n) for n in _whole(node.padding, 2)), (0, 0)),
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
  return _scaled(reader, x, _last(reader, x, _numbers(node, "scale")))


def _last(reader, x, values):
  """Values [C, ...], or one for all, with channels last."""
  *pixels, channels = reader.shapes[x]
  try:
    return np.moveaxis(np.broadcast_to(values, (channels, *pixels)), 0, -1)
  except ValueError:
    raise ValueError(
      f"it has arrays of shape {values.shape}, and reads values of shape {(channels, *pixels)}"
    ) from None


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
  threshold, gain = _numbers(node, "v_threshold"), _numbers(node, "r")
  if not np.all(threshold > 0) or not np.all(gain > 0):
    raise ValueError("its v_threshold and r must be above 0")
  if np.any(_numbers(node, "v_reset", 0)):
    raise ValueError("it has a v_reset that is not 0, to which no neurons of tcljax are reset")
  said = node.metadata if isinstance(node.metadata, Mapping) else {}
  later = [*np.asarray(said.get("later_currents", ()), np.float32)]
  parts = [np.asarray(said.get("initial_potential", 0), np.float32), *later]
  parts = [per_channel(_last(reader, x, part / threshold)) for part in parts]
  if any(part is None for part in parts):
    raise ValueError("its initial potential differs within a channel, for which tcljax has one")
  v_init = np.stack([part for part in parts if part is not None]).astype(np.float32)
  v_init[1:] *= len(parts)  # which the network divides by
  if np.all(v_init == v_init[:, :1]):
    v_init = v_init[:, 0]
  if len(parts) == 1:
    v_init = v_init[0]
  x = _scaled(reader, x, _last(reader, x, gain / threshold))
  population = str(said.get("population", name))
  raw = np.full(v_init.shape[len(parts) > 1 :], raw_from_threshold(1.0), np.float32)
  if population in reader.shapes:
    population = name
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
