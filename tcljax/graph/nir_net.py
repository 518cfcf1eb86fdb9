"""A NIR graph while it is put together: its nodes, whose weights may still be scaled, and edges."""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tcljax.graph.nir_moves import one_by_one
from tcljax.graph.record import Refused
from tcljax.graph.symmetric import Axis, symmetric
from tcljax.graph.whole_numbers import Shape
from tcljax.graph.wires import NOWHERE, Value, Wire, channels_first, in_order, per_channel

INPUT, OUTPUT = "input", "output"


@dataclasses.dataclass
class _Weights:
  """A node of weights [D, ...] and a bias [D], float64, with what else its NIR node has."""

  weight: np.ndarray
  bias: np.ndarray
  settings: dict[str, Any] | None = None  # of a convolution


class Net:
  """Nodes and edges, by name.

  Attributes:
    edges: pairs of names of nodes, in the order in which they were made.
  """

  def __init__(self) -> None:
    self.edges: list[tuple[str, str]] = []
    self._nodes: dict[str, Any] = {}
    self._flat: dict[str, str] = {}

  def add(self, name: str, node: Any, sources: Sequence[str]) -> str:
    """Adds a node that reads the sum of others; returns the name that it got.

    Args:
      name: as the graph has it; letters that other programs may not take are replaced.
      node: a `nir.NIRNode`.
      sources: the names of the nodes that it reads.
    """
    import nir

    kept = {INPUT: nir.Input, OUTPUT: nir.Output}  # the names of these alone
    plain = name = re.sub(r"\W", "_", name, flags=re.ASCII)
    for i in itertools.count(2):
      if name not in self._nodes and isinstance(node, kept.get(name, object)):
        break
      name = f"{plain}_{i}"
    self._nodes[name] = node
    self.edges += [(source, name) for source in sources]
    return name

  def flat(self, wire: Wire) -> str:
    """The name of a node that sends what a wire's source sends, as one axis."""
    if len(wire.shape) == 1:
      return wire.source
    if wire.source not in self._flat:
      import nir

      node = nir.Flatten(input_type={"input": np.array(wire.shape)}, start_dim=0, end_dim=-1)
      self._flat[wire.source] = self.add(f"flatten_{wire.source}", node, [wire.source])
    return self._flat[wire.source]

  def product(
    self, name: str, wire: Wire, kernel: np.ndarray, bias: np.ndarray
  ) -> tuple[str, Shape]:
    """Adds a product of a value of one axis, [C], with a kernel [C, D], and its bias [D].

    Returns:
      The name of the node, and the shape that it sends.
    """
    weight = np.zeros((kernel.shape[1], math.prod(wire.shape)))
    (used,) = np.nonzero(wire.sent)
    np.add.at(weight.T, wire.places[used], kernel[used] * wire.scale[used, None])
    return self.add(name, _Weights(weight, bias), [self.flat(wire)]), (kernel.shape[1],)

  def convolution(
    self, name: str, wire: Wire, kernel: np.ndarray, bias: np.ndarray, axes: Sequence[Axis]
  ) -> tuple[str, Shape]:
    """Adds a convolution of an image [..., C] with a kernel [k..., C, D], and its bias [D].

    Returns:
      The name of the node, and the shape that it sends.

    Raises:
      Refused: if it has more axes than two, or reads what is no image.
    """
    if not 1 <= len(axes) <= 2:
      raise Refused(f"NIR has no convolution over {len(axes)} axes")
    spread, scale = wire.spread(), per_channel(wire.scale, wire.sent)
    if spread is None or scale is None:
      return self.convolution(name, self._selected(name, wire), kernel, bias, axes)
    channels, steps = spread
    moved: list[Axis] = []
    for axis, k, (step, offset), sent in zip(axes, kernel.shape, steps, wire.shape[1:]):
      before, after = offset > 0, offset + axis.size < sent  # whether pixels are left out
      if step > 1 or (before and axis.low > 0) or (after and axis.last(k) >= axis.size):
        return self.convolution(name, self._selected(name, wire), kernel, bias, axes)
      moved.append(axis._replace(size=sent, low=axis.low - offset))
    used = channels != NOWHERE
    of_sent = np.zeros((*kernel.shape[:-2], wire.shape[0], kernel.shape[-1]))
    np.add.at(
      np.moveaxis(of_sent, -2, 0),
      channels[used],
      np.moveaxis(kernel[..., used, :] * scale[used, None], -2, 0),
    )
    return self._convolved(name, wire, of_sent, bias, moved)

  def _selected(self, name: str, wire: Wire) -> Wire:
    """A wire by which the image that is read comes as such, of convolutions that pick it."""
    found, shape = self.reach(f"{name}_input", wire, np.ones(wire.places.shape[-1]))
    places = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), 0, -1)
    return Wire(found, shape, places, np.broadcast_to(np.float64(1), places.shape))

  def _convolved(self, name, wire, kernel, bias, axes):
    import nir

    rank, found = len(axes), symmetric(kernel, axes)
    if found is None:
      wire = self._longer(name, wire)
      longer = [axis._replace(size=n) for axis, n in zip(axes, wire.shape[1:])]
      found, axes = symmetric(kernel, longer), longer
    assert found is not None
    kind = nir.Conv2d if rank == 2 else nir.Conv1d
    plain = (lambda values: values[0]) if rank == 1 else tuple
    settings = {
      "input_shape": plain([axis.size for axis in axes]),
      "stride": plain([axis.stride for axis in axes]),
      "padding": plain(found.padding),
      "dilation": plain(found.dilation),
      "groups": 1,
    }
    weight = np.moveaxis(found.kernel, (-1, -2), (0, 1))
    node = _Weights(weight, bias, {"kind": kind, **settings})
    return self.add(name, node, [wire.source]), (len(bias), *(axis.count for axis in axes))

  def _longer(self, name: str, wire: Wire) -> Wire:
    """The image that is read with two rows and one column of zeros at its ends.

    Then an axis that took odd kernels alone takes even ones, as the other does. Dilation allows
    padding of two pixels along one axis and one along the other by a square kernel.
    """
    import nir

    channels, *pixels = wire.shape
    weight = np.zeros((channels, channels, 2, 2))
    weight[range(channels), range(channels), 1, 1] = 1
    settings = {"stride": (1, 1), "padding": (2, 1), "dilation": (2, 1), "groups": 1}
    settings |= {"kind": nir.Conv2d, "input_shape": tuple(pixels)}
    made = _Weights(weight, np.zeros(channels), settings)
    shape = (channels, pixels[0] + 2, pixels[1] + 1)
    name = self.add(f"{name}_padded", made, [wire.source])
    return Wire(name, shape, wire.places, wire.scale)

  def reach(
    self, name: str, wire: Wire, scale: np.ndarray, bias: np.ndarray | None = None
  ) -> tuple[str, Shape]:
    """Adds nodes of weights that send what a wire does, in order and times a scale [C], and a bias.

    Raises:
      Refused: if none do.
    """
    size = wire.places.shape[-1]
    bias = np.zeros(size) if bias is None else bias
    if wire.places.ndim == 1:
      return self.product(name, wire, np.diag(scale), bias)
    spread, of_channel = wire.spread(), per_channel(wire.scale, wire.sent)
    if spread is None or of_channel is None:
      moved = dataclasses.replace(wire, scale=wire.scale * scale)
      return self._one_by_one(name, moved, np.broadcast_to(bias, wire.places.shape))
    channels, steps = spread
    if not 1 <= len(steps) <= 2:
      raise Refused(f"NIR has no convolution over {len(steps)} axes")
    axes = [
      Axis(sent, count, step, -offset)
      for sent, count, (step, offset) in zip(wire.shape[1:], wire.places.shape, steps)
    ]
    kernel = np.zeros((*[1] * len(axes), wire.shape[0], size))
    (used,) = np.nonzero(channels != NOWHERE)
    kernel[..., channels[used], used] = (of_channel * scale)[used]
    return self._convolved(name, wire, kernel, bias, axes)

  def _one_by_one(self, name, wire, shift):
    """Adds two convolutions that send what a wire does, and a shift, in order."""
    first, second = one_by_one(wire, shift)
    middle, shape = self._convolved(f"{name}_pixels", wire, *first)
    places = np.arange(shape[0]).reshape(*[1] * len(shape[1:]), -1)
    pixels = Wire(middle, shape, places, np.ones(places.shape))
    return self._convolved(name, pixels, *second)

  def settled(self, name: str, value: Value, scale: np.ndarray) -> list[str]:
    """The names of nodes that together send a value times a scale [C], in order.

    Weights that nothing else reads are scaled; where there are none, they are put there.

    Raises:
      Refused: if NIR cannot say it.
    """
    if not value.wires:
      raise Refused("nothing that depends on the input comes to it")
    names, bias = [], per_channel(value.shift * scale)
    if bias is None:  # a shift of each pixel, by a branch of its own
      nothing = dataclasses.replace(
        value.wires[0], places=np.full(value.shape, NOWHERE), scale=np.ones(value.shape)
      )
      names.append(self._one_by_one(f"{name}_shift", nothing, value.shift * scale)[0])
      bias = np.zeros(value.shape[-1])
    for wire in sorted(value.wires, key=lambda wire: not wire.own):
      factor = per_channel(wire.scale, wire.sent)
      factor = None if factor is None else factor * scale
      if factor is not None and wire.own and wire.is_in_order:
        held = self._nodes[wire.source]
        held.weight *= factor.reshape(-1, *[1] * (held.weight.ndim - 1))
        held.bias = held.bias * factor + bias
        found = wire.source
      elif factor is not None and wire.is_in_order and np.all(factor == 1) and not np.any(bias):
        names.append(wire.source)
        continue
      else:
        found, _ = self.reach(f"{name}_input", wire, scale, bias)
      bias = np.zeros_like(bias)
      names.append(found)
    return names

  def joined(self, name: str, sources: Sequence[str], shape: Shape) -> str:
    """The name of one node that sends the sum of others, each a value [..., C] of this shape.

    Raises:
      Refused: if NIR cannot say it.
    """
    first, *others = sources
    if others:
      wire = Wire(first, channels_first(shape), in_order(shape), np.ones(shape))
      first, _ = self.reach(name, wire, np.ones(shape[-1]))
      self.edges += [(source, first) for source in others]
    return first

  def finished(self) -> dict[str, Any]:
    """The NIR nodes that lead to the output, by name; edges to others are left out."""
    import nir

    needed, before = {OUTPUT}, {}
    for source, name in self.edges:
      before.setdefault(name, []).append(source)
    waiting = [OUTPUT]
    while waiting:
      new = [name for name in before.get(waiting.pop(), ()) if name not in needed]
      needed.update(new)
      waiting += new
    self.edges = [edge for edge in self.edges if edge[1] in needed]
    nodes = {}
    for name, node in self._nodes.items():
      if name in needed and isinstance(node, _Weights):
        weight, bias = node.weight.astype(np.float32), node.bias.astype(np.float32)
        settings: dict[str, Any] = dict(node.settings or {"kind": nir.Affine})
        node = settings.pop("kind")(weight=np.ascontiguousarray(weight), bias=bias, **settings)
      if name in needed:
        nodes[name] = node
    return nodes
