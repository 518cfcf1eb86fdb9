"""Entries along an axis, in any order and repeated, and all that is found to be that."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms, nir_forms, scatters
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
  return scatters.taken(graph, x, np.unravel_index(found, x.shape))


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
      "dynamic_update_slice": scatters.read_update,
      "scatter": scatters.read_scatter,
      "scatter-add": scatters.read_scatter_add,
      "scatter-sub": scatters.read_scatter_add,
    },
    nir=nir_forms.moving(_run_take),
  ),
)
