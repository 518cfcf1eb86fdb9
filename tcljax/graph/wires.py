"""Values of a graph as sums of what nodes of a NIR graph send.

NIR has channels first and few operations that move numbers. So a value is known by where each of
its numbers comes from. What moves numbers then costs no node: weights that read the value are
written for the numbers in their places. What scales them is written into those weights too.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.graph.whole_numbers import Shape

NOWHERE = -1


def channels_first(shape: Shape) -> Shape:
  """The shape [C, ...] of a value [..., C]."""
  return (*shape[-1:], *shape[:-1])


def in_order(shape: Shape) -> np.ndarray:
  """The places of all numbers of a value [..., C] in the same value with channels first."""
  places = np.arange(math.prod(shape), dtype=np.int64).reshape(channels_first(shape))
  return np.moveaxis(places, 0, -1) if shape else places


@dataclasses.dataclass(frozen=True, eq=False)
class Wire:
  """What one NIR node adds to a value.

  Attributes:
    source: the name of the node.
    shape: of what it sends, channels first.
    places: for each number of the value where it stands among those sent; `NOWHERE` adds nothing.
    scale: what each number is multiplied by, in the shape of the value.
    own: whether nothing else reads the node, which is one of weights: they may then be scaled.
  """

  source: str
  shape: Shape
  places: np.ndarray
  scale: np.ndarray
  own: bool = False

  @property
  def sent(self) -> np.ndarray:
    """Whether something is sent to each number of the value."""
    return self.places != NOWHERE

  @property
  def is_in_order(self) -> bool:
    """Whether it sends all numbers of the value, in their order."""
    shape = self.places.shape
    return self.shape == channels_first(shape) and np.array_equal(self.places, in_order(shape))

  def spread(self) -> tuple[np.ndarray, list[tuple[int, int]]] | None:
    """How it lies in an image: [C] channels sent, and the step and the offset along each axis.

    Pixel r of the value is pixel step * r + offset of what is sent; what lies outside of it is 0.
    None where that does not say it all.
    """
    if len(self.shape) != self.places.ndim or not self.sent.any():
      return None
    found = np.unravel_index(np.maximum(self.places, 0), self.shape)
    *pixels, channels = [
      np.where(self.sent, f, NOWHERE).max(axis=tuple(k for k in range(self.places.ndim) if k != at))
      for at, f in enumerate((*found[1:], found[0]))
    ]
    every = np.ix_(channels, *pixels)
    known = np.logical_and.reduce([of >= 0 for of in np.broadcast_arrays(*every)])
    flat = np.ravel_multi_index([np.maximum(of, 0) for of in every], self.shape)
    flat = np.moveaxis(np.where(known, flat, NOWHERE), 0, -1)
    steps = [_step(along, size) for along, size in zip(pixels, self.shape[1:])]
    if None in steps or not np.array_equal(flat, self.places):
      return None
    return channels, [step for step in steps if step is not None]


def _step(along: np.ndarray, size: int) -> tuple[int, int] | None:
  """The step and the offset of an arithmetic progression, NOWHERE outside of [0, size)."""
  (inside,) = np.nonzero(along >= 0)
  first = inside[0]
  step = 1
  if len(inside) > 1:
    step = int((along[inside[1]] - along[first]) // (inside[1] - first))
  offset = int(along[first] - step * first)
  expected = step * np.arange(len(along)) + offset
  expected = np.where((expected >= 0) & (expected < size), expected, NOWHERE)
  return (step, offset) if step > 0 and np.array_equal(expected, along) else None


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
  """A value of the graph, of one example: the sum of what wires send, and a shift.

  Attributes:
    wires: of nodes that differ, or that send to different places.
    shift: a constant that is added, in the shape of the value.
    by: the node of the graph that moved, scaled or shifted it last; "" where none has.
  """

  wires: tuple[Wire, ...]
  shift: np.ndarray
  by: str = ""

  @property
  def shape(self) -> Shape:
    """Of the value, channels last."""
    return self.shift.shape

  def shared(self) -> "Value":
    """The same value, read by several: no node of weights is its own any more."""
    return dataclasses.replace(
      self, wires=tuple(dataclasses.replace(wire, own=False) for wire in self.wires)
    )


def sent_by(source: str, shape: Shape, own: bool = False) -> Value:
  """The value [..., C] of this shape that a NIR node sends, channels first."""
  ones = np.broadcast_to(np.float64(1), shape)
  wire = Wire(source, channels_first(shape), in_order(shape), ones, own)
  return Value((wire,), np.zeros(shape))


def per_channel(values: np.ndarray, where: Any = True) -> np.ndarray | None:
  """[C], where all values of a channel (the last axis) are the same; None where they are not.

  Args:
    values: [..., C].
    where: which of them count; a channel of none has 1.
  """
  axes = tuple(range(values.ndim - 1))
  where = np.broadcast_to(where, values.shape)
  least = np.min(values, axis=axes, initial=np.inf, where=where)
  most = np.max(values, axis=axes, initial=-np.inf, where=where)
  found = least <= most
  return np.where(found, least, 1.0) if np.array_equal(least[found], most[found]) else None


def total(values: Sequence[Value], by: str = "") -> Value:
  """The sum of values of one shape."""
  shift = sum((value.shift for value in values), np.zeros(values[0].shape))
  by = by or next((value.by for value in values if value.by), "")
  return Value(_merged([wire for value in values for wire in value.wires]), shift, by)


def scaled(value: Value, scale: np.ndarray, shift: np.ndarray, by: str) -> Value:
  """value * scale + shift, of arrays that repeat along axes of size 1."""
  scale = np.broadcast_to(scale.astype(np.float64), value.shape)
  wires = [
    dataclasses.replace(
      wire, places=np.where(scale == 0, NOWHERE, wire.places), scale=wire.scale * scale
    )
    for wire in value.wires
  ]
  return Value(_merged(wires), value.shift * scale + shift.astype(np.float64), by)


def moved(
  run: Callable[..., Any], values: Sequence[Value], settings: Mapping[str, Any], by: str
) -> Value:
  """What an operation that moves numbers makes of values: found from where it puts each number.

  Args:
    run: of the operation, `run(*inputs, **settings)` on arrays [B, ...].
    values: its inputs.
    settings: of its node.
    by: the name of its node.
  """
  starts = np.cumsum([0, *(math.prod(value.shape) for value in values)])
  positions = [
    np.arange(1 + start, 1 + end, dtype=np.int32).reshape(1, *value.shape)
    for value, start, end in zip(values, starts, starts[1:])
  ]
  found = np.asarray(run(*positions, **settings))[0].astype(np.int64) - 1  # -1 for zeros put there
  wires, shift = [], np.zeros(found.shape)
  for value, start, end in zip(values, starts, starts[1:]):
    mine = (start <= found) & (found < end)
    at = np.where(mine, found - start, 0)
    shift = np.where(mine, value.shift.reshape(-1)[at], shift)
    for wire in value.wires:
      places = np.where(mine, wire.places.reshape(-1)[at], NOWHERE)
      scale = wire.scale.reshape(-1)[at]
      wires.append(dataclasses.replace(wire, places=places, scale=scale))
  return Value(_merged(wires), shift, by)


def _merged(wires: Sequence[Wire]) -> tuple[Wire, ...]:
  """The same wires, as few as there can be, without those that send nothing."""
  found: list[Wire] = []
  for wire in wires:
    sent = wire.sent
    for i, other in enumerate(found):
      if other.source != wire.source:
        continue
      both = other.sent & sent
      if np.array_equal(other.places[both], wire.places[both]):
        found[i] = dataclasses.replace(
          other,
          places=np.maximum(other.places, wire.places),
          scale=np.where(other.sent, other.scale, 0) + np.where(sent, wire.scale, 0),
          own=False,
        )
        break
    else:
      if sent.any():
        found.append(wire)
  return tuple(found)
