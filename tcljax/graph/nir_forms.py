"""How each operation is written in the Neuromorphic Intermediate Representation (NIR).

Spikes are 0 and 1: what they stand for, tau, is in the weights that read them. Thresholds are 1
wherever weights can take up the rest, so that a file runs in programs that know one threshold for
all neurons of a node.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.graph.nir_net import Net
from tcljax.graph.nodes import Node
from tcljax.graph.record import Refused
from tcljax.graph.symmetric import Axis
from tcljax.graph.wires import (
  Value,
  Wire,
  channels_first,
  in_order,
  moved,
  per_channel,
  scaled,
  sent_by,
  total,
)

Arrays = Mapping[str, np.ndarray]
Writer = Callable[[Net, Sequence[Value], Node, Arrays], Value]

_WINDOW = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


def settings_of(node: Node) -> dict[str, Any]:
  """The settings of a node, whose values have many types."""
  return dict(node.settings)


def conv(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
  """A convolution: one for each node that its input comes from; groups are filled with zeros.

  Args:
    net: takes the nodes that are made.
    values: the inputs of the operation.
    node: of the graph.
    arrays: of the node.

  Returns:
    The value of the node.

  Raises:
    Refused: if NIR cannot say it, as do all writers.
  """
  (x,), settings = values, settings_of(node)
  if {*settings["lhs_dilation"]} != {1}:
    raise Refused("it is transposed, and NIR has no transposed convolution")
  kernel = arrays["kernel"].astype(np.float64)
  groups, inner, outer = settings["feature_group_count"], *kernel.shape[-2:]
  whole = np.zeros((*kernel.shape[:-2], inner * groups, outer))
  each = outer // groups
  for i in range(groups):
    into = slice(i * each, (i + 1) * each)
    whole[..., i * inner : (i + 1) * inner, into] = kernel[..., into]
  windows = (settings[key] for key in ("window_strides", "padding", "rhs_dilation"))
  axes = [
    Axis(n, (n + low + high - (k - 1) * between - 1) // stride + 1, stride, low, between)
    for n, k, (stride, (low, high), between) in zip(x.shape, kernel.shape, zip(*windows))
  ]
  return _convolved(net, x, node, whole, arrays.get("bias", np.zeros(outer)), axes)


def _convolved(net, x, node, kernel, bias, axes):
  """The value of a convolution [k..., C, D], of a product where there are no k."""
  bias = bias.astype(np.float64)
  if not axes:
    bias = bias + x.shift @ kernel
    x = Value(x.wires, np.zeros(x.shape))
  if np.any(x.shift):
    shift = per_channel(x.shift)
    if shift is None or any(
      axis.low > 0 or axis.last(k) >= axis.size for axis, k in zip(axes, kernel.shape)
    ):
      x = _plain(net, x, node)
    else:
      bias = bias + shift @ kernel.sum(axis=tuple(range(len(axes))))
      x = Value(x.wires, np.zeros(x.shape))
  made = []
  for wire in x.wires:
    if axes:
      name, shape = net.convolution(node.name, wire, kernel, bias, axes)
    else:
      name, shape = net.product(node.name, wire, kernel, bias)
    bias = np.zeros_like(bias)
    made.append(sent_by(name, (*shape[1:], shape[0]), own=True))
  if not made:
    raise Refused("nothing that depends on the input comes to it")
  return total(made)


def _plain(net, x, node):
  """The value as nodes send it together, without a scale and a shift."""
  names = net.settled(node.name, x, np.ones(x.shape[-1]))
  return total([sent_by(name, x.shape) for name in names], x.by)


def dense(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
  """A product of the last axis with weights; of an image it is a convolution of size 1."""
  (x,), kernel = values, arrays["kernel"].astype(np.float64)
  axes = [Axis(n, n) for n in x.shape[:-1]]
  kernel = kernel.reshape(*[1] * len(axes), *kernel.shape)
  return _convolved(net, x, node, kernel, arrays.get("bias", np.zeros(kernel.shape[-1])), axes)


def affine(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
  """A scale and a shift, which the weights that read them take up."""
  del net
  (x,) = values
  return scaled(x, arrays["scale"], arrays["shift"], node.name)


def add(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
  """A sum: several edges to what reads it."""
  del net, arrays
  shape = np.broadcast_shapes(*(value.shape for value in values))
  return total([_repeated(value, shape, node) for value in values])


def _repeated(value, shape, node):
  """A value that is repeated along axes where it has size 1."""
  if value.shape == shape:
    return value
  return moved(lambda x: np.broadcast_to(x, (1, *shape)), [value], {}, node.name)


def sum_pool(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
  """The sum of windows; what SumPool2d of all readers cannot say is a convolution with ones."""
  del arrays
  (x,), settings = values, settings_of(node)
  windows: list[Any] = [*zip(*(settings[key][1:] for key in _WINDOW))]
  if any(between != 1 for *_, between, _ in windows):
    raise Refused("its windows reach over an image with zeros between pixels")
  *axes, over = [
    Axis(n, (n + low + high - (k - 1) * inner - 1) // stride + 1, stride, low, inner)
    for n, (k, stride, (low, high), _, inner) in zip(x.shape, windows)
  ]
  *sizes, channels = (window[0] for window in windows)
  plain = all(pads == (0, 0) and inner == 1 for _, _, pads, _, inner in windows)
  if len(axes) == 2 and plain and channels == over.stride == 1:
    pooled = _pooled(net, x, node, sizes, axes)
    if pooled is not None:
      return pooled
  tap = np.arange(over.size)[:, None] - np.arange(over.count) * over.stride + over.low
  summed = (tap >= 0) & (tap < channels * over.dilation) & (tap % over.dilation == 0)
  kernel = np.broadcast_to(summed.astype(np.float64), (*sizes, *summed.shape))
  return _convolved(net, x, node, kernel, np.zeros(over.count), axes)


def _pooled(net, x, node, sizes, axes):
  """SumPool2d of all that comes; None where that is no image whose channels have one scale each."""
  shape = (*(axis.count for axis in axes), x.shape[-1])
  shift = per_channel(x.shift)
  found = []
  for wire in x.wires:
    spread, scale = wire.spread(), per_channel(wire.scale, wire.sent)
    if spread is None or scale is None or shift is None:
      return None
    channels, steps = spread
    if {*steps} != {(1, 0)} or wire.shape[1:] != x.shape[:-1]:
      return None
    found.append((wire, channels, scale))
  if shift is None:  # of no wires
    return None
  import nir

  pair = lambda values: np.array([*values], np.int64)
  wires = []
  for wire, channels, scale in found:
    pool = nir.SumPool2d(pair(sizes), pair(axis.stride for axis in axes), pair((0, 0)))
    name = net.add(node.name, pool, [wire.source])
    sent = (wire.shape[0], *shape[:-1])
    places = in_order((*shape[:-1], sent[0]))[..., np.maximum(channels, 0)]
    places = np.where(channels >= 0, places, -1)
    wires.append(Wire(name, sent, places, np.broadcast_to(scale, shape)))
  return Value(tuple(wires), np.broadcast_to(shift * math.prod(sizes), shape).copy(), x.by)


def sum_axes(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
  """The sum over axes, as one window along them."""
  (x,), axes = values, settings_of(node)["axes"]
  window = tuple(n if axis in axes else 1 for axis, n in enumerate((1, *x.shape)))
  neutral = (1,) * len(window)
  settings = {
    "window_dimensions": window,
    "window_strides": window,
    "padding": ((0, 0),) * len(window),
    "base_dilation": neutral,
    "window_dilation": neutral,
  }
  pooled = sum_pool(
    net, values, Node(node.name, node.op, node.inputs, tuple(settings.items())), arrays
  )
  kept = [n for axis, n in enumerate(pooled.shape, 1) if axis not in axes]
  return moved(lambda x: x.reshape(1, *kept), [pooled], {}, pooled.by)


def moving(run: Callable[..., Any]) -> Writer:
  """The writer of an operation that moves numbers, which `run` does with their places too."""

  def write(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
    del net, arrays
    return moved(run, values, settings_of(node), node.name)

  return write


def neurons(net: Net, values: Sequence[Value], node: Node, arrays: Arrays) -> Value:
  """IF neurons of `threshold`, [] or [C], and `instalments`, [S] or [S, C], in fractions of it.

  How they start is in the metadata, in units of `v_threshold` and channels first: the potential
  before the first step, and currents that are added in steps 2 to S.
  """
  import nir

  (x,) = values
  if "window" in settings_of(node):
    raise Refused("its neurons pass on maxima of windows, and NIR has no gates")
  tau = np.broadcast_to(arrays["threshold"].astype(np.float64), x.shape[-1:])
  sources, threshold = _direct(x, tau)
  if not sources:
    sources, threshold = net.settled(node.name, x, 1 / tau), 1.0
  parts, shape = arrays["instalments"].astype(np.float64) * threshold, channels_first(x.shape)
  parts = parts.reshape(len(parts), -1, *[1] * (len(shape) - 1))
  first, *later = np.broadcast_to(parts, (len(parts), *shape)).astype(np.float32)
  made = nir.IF(
    r=np.ones(shape, np.float32),
    v_threshold=np.full(shape, threshold, np.float32),
    v_reset=np.zeros(shape, np.float32),
    metadata={
      "population": node.name,
      "initial_potential": first,
      **({"later_currents": np.stack(later)} if np.any(later) else {}),
    },
  )
  name = net.add(f"if_{node.name}", made, sources)
  return scaled(sent_by(name, x.shape), tau, np.zeros(()), "")


def _direct(x, tau):
  """What neurons can read as it is, with one threshold for all; nothing where there is no such."""
  scales = [per_channel(wire.scale, wire.sent) for wire in x.wires]
  if np.any(x.shift) or any(wire.own or not wire.is_in_order for wire in x.wires):
    return [], 1.0
  found = {float(t) for scale in scales for t in (tau / scale if scale is not None else [0.0])}
  if len(found) != 1 or min(found) <= 0:
    return [], 1.0
  return [wire.source for wire in x.wires], found.pop()
