"""Entries along an axis, in any order and repeated, and all that is found to be that."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.record import Operation, Refused, Use
from tcljax.graph.shaping import only_symbol


def _read_reverse(graph: Builder, use: Use) -> Symbol:
  x = only_symbol(use)
  for axis in use.params["dimensions"]:
    x = graph.take(x, axis, range(x.shape[axis])[::-1])
  return x


def _read_tile(graph: Builder, use: Use) -> Symbol:
  x = only_symbol(use)
  for axis, times in enumerate(use.params["reps"]):
    x = graph.take(x, axis, [*range(x.shape[axis])] * times)
  return x


def _read_moved(graph: Builder, use: Use) -> Symbol:
  """Whatever moves numbers and computes nothing, as gather: found from where it puts each of them.

  The primitive is run on the positions of the numbers in place of the numbers.
  """
  x = only_symbol(use)
  positions = np.arange(1, 1 + math.prod(x.shape), dtype=np.int32).reshape(x.shape)
  with np.errstate(invalid="ignore"):  # of NaN in place of what is outside, which is no number here
    found = np.asarray(use.bind(positions, *use.inputs[1:])) - 1
  if found.size and not 0 <= found.min() <= found.max() < positions.size:
    raise Refused  # numbers from outside
  coordinates = np.unravel_index(found, x.shape)
  driven = [_driver(c) for c in coordinates]
  out_axes: list[int | None] = [None] * found.ndim
  for axis, by in enumerate(driven):
    if isinstance(by, int):
      if out_axes[by] is not None:
        break
      out_axes[by] = axis
  else:
    if None not in driven:
      return _taken_by_axis(graph, x, coordinates, driven, out_axes)
  return _taken_by_place(graph, x, coordinates, tuple(found.shape))


def _driver(coordinate: np.ndarray) -> Any:
  """The one axis along which a coordinate changes; () where it is constant, None where several."""
  by = [k for k in range(coordinate.ndim) if np.any(coordinate != coordinate.take([0], axis=k))]
  return by[0] if len(by) == 1 else None if by else ()


def _taken_by_axis(graph, x, coordinates, driven, out_axes):
  for axis, by in enumerate(driven):
    along = np.moveaxis(coordinates[axis], by, 0) if by != () else coordinates[axis]
    x = graph.take(x, axis, along.reshape(len(along), -1)[:, 0] if by != () else [along.flat[0]])
  axes = tuple(x.axes[axis] if axis is not None else () for axis in out_axes)
  shape = tuple(coordinates[0].shape)
  return graph.broadcast(Symbol(x.name, x.stored, axes), shape)


def _taken_by_place(graph, x, coordinates, shape):
  """Of numbers that no axis alone tells apart: all of an example are one axis."""
  if x.axes[0] != (0,) or shape[0] != x.batch:
    raise Refused
  first = np.arange(x.batch).reshape(-1, *[1] * (len(shape) - 1))
  places = np.ravel_multi_index(coordinates[1:], x.shape[1:])
  if np.any(coordinates[0] != first) or np.any(places != places[:1]):
    raise Refused
  flat = graph.reshaped(graph.as_in_model(x), (x.batch, math.prod(x.shape[1:])))
  return graph.reshaped(graph.take(flat, 1, places[0].ravel()), shape)


def _run_take(x: jax.Array, *, axis: int, indices: Any) -> jax.Array:
  if len(set(indices)) == 1 and x.shape[axis] == 1:
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    return jnp.broadcast_to(x, shape)
  return jnp.take(x, np.asarray(indices), axis=axis, mode="clip")


OPERATIONS = (
  Operation(
    name="take",
    run=_run_take,
    form=forms.take,
    read={
      "rev": _read_reverse,
      "tile": _read_tile,
      "gather": _read_moved,
      "dynamic_slice": _read_moved,
    },
  ),
)
