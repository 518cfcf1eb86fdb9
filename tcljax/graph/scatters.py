"""Numbers that are taken from, put into or added to a value at places that are known."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tcljax.graph.affine import is_unknown
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.record import Refused, Use
from tcljax.graph.shaping import padded

_MOST_PLACES = 2**24  # of which float32 holds each
_MOST_SUMMANDS = 32  # that are added to one number


def taken(graph: Builder, x: Symbol, coordinates: Sequence[np.ndarray]) -> Symbol:
  """The numbers of a value at these places: for each of its axes an index, in the shape made.

  Raises:
    Refused: if an example of what is made holds numbers of others.
  """
  driven = [_driver(c) for c in coordinates]
  axes = [by for by in driven if by != ()]
  if None in axes or len(set(axes)) < len(axes):
    return _taken_by_place(graph, x, coordinates)
  for axis, (by, coordinate) in enumerate(zip(driven, coordinates)):
    along = [coordinate.flat[0]] if by == () else _along(coordinate, by).tolist()
    x = graph.take(x, axis, along)
  shape = coordinates[0].shape
  of = tuple(x.axes[driven.index(k)] if k in driven else () for k in range(len(shape)))
  return graph.broadcast(Symbol(x.name, x.stored, of), shape)


def _driver(coordinate: np.ndarray) -> Any:
  """The one axis along which a coordinate changes; () where it is constant, None where several."""
  by = [k for k in range(coordinate.ndim) if np.any(coordinate != coordinate.take([0], axis=k))]
  return by[0] if len(by) == 1 else None if by else ()


def _along(coordinate, axis):
  return np.moveaxis(coordinate, axis, 0).reshape(coordinate.shape[axis], -1)[:, 0]


def _taken_by_place(graph, x, coordinates):
  """Of numbers that no axis alone tells apart: all of an example are one axis."""
  of = _batch(x)
  to = _driver(coordinates[of])
  if not isinstance(to, int) or np.any(_along(coordinates[of], to) != np.arange(x.batch)):
    raise Refused
  x = Symbol(x.name, x.stored, (x.axes[of], *x.axes[:of], *x.axes[of + 1 :]))
  places: Any = np.ravel_multi_index([*coordinates[:of], *coordinates[of + 1 :]], x.shape[1:])
  places = np.moveaxis(places, to, 0)
  if np.any(places != places[:1]):
    raise Refused
  flat = graph.reshaped(graph.as_in_model(x), (x.batch, math.prod(x.shape[1:])))
  made = graph.reshaped(graph.take(flat, 1, places[0].ravel()), places.shape)
  axes = [*made.axes[1:]]
  axes.insert(to, made.axes[0])
  return Symbol(made.name, made.stored, tuple(axes))


def _batch(x):
  """The axis of a value that is the batch and nothing else."""
  if (0,) not in x.axes:
    raise Refused
  return x.axes.index((0,))


def read_update(graph: Builder, use: Use) -> Symbol:
  """A block that is put into a value or a constant."""
  whole, part, *starts = use.inputs
  if any(map(is_unknown, starts)):
    raise Refused
  shape, sizes = use.shapes[0], part.shape
  starts = [min(max(int(s), 0), n - m) for s, n, m in zip(starts, shape, sizes)]
  return _block(graph, whole, part, starts, shape)


def read_scatter(graph: Builder, use: Use) -> Symbol:
  """Numbers that are put into a value or a constant."""
  whole, indices, part = _parts(use)
  if use.params["update_jaxpr"] is not None:  # a function of what is there
    raise Refused
  shape = use.shapes[0]
  positions = np.arange(1, 1 + math.prod(part.shape), dtype=np.int32).reshape(part.shape)
  found = np.asarray(use.bind(np.zeros(shape, np.int32), indices, positions))
  places = np.argwhere(found)
  if len(places) == positions.size:
    starts, ends = places.min(axis=0), places.max(axis=0) + 1
    block = found[tuple(map(slice, starts, ends))]
    if block.size == positions.size and np.all(block.ravel() == positions.ravel()):
      return _block(graph, whole, graph.reshaped(part, block.shape), starts.tolist(), shape)
  return _sum(graph, _without(graph, whole, found > 0), _put(graph, part, found))


def read_scatter_add(graph: Builder, use: Use) -> Symbol:
  """Numbers that are added to a value or a constant, or subtracted, some to the same number."""
  total, indices, part = _parts(use)
  shape = use.shapes[0]
  size = math.prod(shape)
  # Where each of them goes is what the transposed operation reads there.
  zeros, positions = np.zeros(shape, np.float32), np.arange(1, 1 + size, dtype=np.float32)
  like = jax.ShapeDtypeStruct(part.shape, np.float32)
  transposed = jax.linear_transpose(lambda x: use.bind(zeros, indices, x), like)
  (places,) = transposed(positions.reshape(shape))
  places = abs(np.asarray(places)).astype(np.int64).ravel()  # 0 for those that go nowhere
  if use.primitive == "scatter-sub":
    part = graph.affine(part, scale=-1.0)
  left = np.flatnonzero(places)
  for _ in range(_MOST_SUMMANDS):
    if not left.size:
      return total
    found = np.zeros(size, np.int64)
    there, first = np.unique(places[left], return_index=True)
    found[there - 1] = left[first] + 1
    total = _sum(graph, total, _put(graph, part, found.reshape(shape)))
    left = np.delete(left, first)
  raise Refused


def _parts(use):
  """What is changed, at which indices, and by what; one of two values at least is a symbol."""
  whole, indices, part = use.inputs
  known = all(isinstance(x, Symbol) or not is_unknown(x) for x in (whole, indices))
  if isinstance(indices, Symbol) or not known or not isinstance(part, Symbol):
    raise Refused
  if max(math.prod(part.shape), math.prod(use.shapes[0])) > _MOST_PLACES:
    raise Refused
  return whole, indices, part


def _put(graph, part, found):
  """Numbers of a part by their places from 1 on, and 0 where the place is 0."""
  inside, of = found > 0, _batch(part)
  coordinates = [*np.unravel_index(np.maximum(found - 1, 0), part.shape)]
  coordinates = [_everywhere(c, inside, part.batch * (k == of)) for k, c in enumerate(coordinates)]
  return graph.affine(taken(graph, part, coordinates), scale=inside.astype(np.float64))


def _everywhere(coordinate, inside, batch):
  """An index that follows one axis where something is put, or none, does so everywhere.

  The index of the example, of which there are `batch`, follows the axis of examples.
  """
  if not batch and np.all(coordinate == coordinate.max(), where=inside):
    return np.full_like(coordinate, coordinate.max(initial=0, where=inside))
  for k in range(inside.ndim):
    others = tuple(a for a in range(inside.ndim) if a != k)
    along = np.where(inside, coordinate, -1).max(others, keepdims=True)
    follows = np.all(along == coordinate, where=inside)
    if follows and (not batch or np.array_equal(along.ravel(), np.arange(batch))):
      return np.broadcast_to(np.maximum(along, 0), inside.shape)
  return coordinate


def _without(graph, whole, inside):
  """A value or constant that is 0 in these places."""
  if isinstance(whole, Symbol):
    return graph.affine(whole, scale=(~inside).astype(np.float64))
  return np.where(inside, 0.0, np.asarray(whole).astype(np.float64))


def _sum(graph, whole, part):
  if isinstance(whole, Symbol) and isinstance(part, Symbol):
    return graph.add(whole, part)
  if isinstance(whole, Symbol):
    return graph.affine(whole, shift=part)
  return graph.affine(part, shift=np.asarray(whole).astype(np.float64))


def _block(graph, whole, part, starts, shape):
  """A block, at a place, in place of what a value or a constant has there."""
  inside = np.zeros(shape, bool)
  inside[tuple(slice(s, s + m) for s, m in zip(starts, part.shape))] = True
  room = [(s, n - m - s, 0) for s, n, m in zip(starts, shape, part.shape)]
  if isinstance(part, Symbol):
    part = padded(graph, part, room)
  else:
    part = np.pad(np.asarray(part).astype(np.float64), [p[:2] for p in room])
  return _sum(graph, _without(graph, whole, inside), part)
