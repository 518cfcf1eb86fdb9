"""Sums and maxima of windows."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tcljax.graph import forms
from tcljax.graph.record import Kind, Made, Operation, Refused, integers

_WINDOW = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


def _window(params):
  """The settings of windows that stay within an example."""
  window = {key: integers(params[key]) for key in _WINDOW}
  if window["window_dimensions"][0] != 1 or window["window_strides"][0] != 1:
    raise Refused
  return window


def _read_window_sum(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  return Made("sum_pool", tuple(inputs), settings=_window(params))


def _read_window_max(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  return Made("max_pool", tuple(inputs), settings=_window(params))


def _sum_pool(x: jax.Array, **settings: Any) -> jax.Array:
  # A concrete zero is what JAX recognises as a sum, which it can differentiate.
  return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, **settings)


def _max_pool(x: jax.Array, **settings: Any) -> jax.Array:
  return jax.lax.reduce_window(x, np.array(-np.inf, x.dtype), jax.lax.max, **settings)


def _read_sum(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  if 0 in params["axes"]:
    raise Refused
  return Made("sum", tuple(inputs), settings={"axes": integers(params["axes"])})


OPERATIONS = (
  Operation(
    name="sum_pool",
    run=_sum_pool,
    form=forms.sum_pool,
    read={"reduce_window_sum": _read_window_sum},
  ),
  Operation(
    name="max_pool",
    run=_max_pool,
    form=forms.max_pool,
    read={"reduce_window_max": _read_window_max},
    kind=Kind.MAXIMUM,
  ),
  Operation(
    name="sum",
    run=lambda x, *, axes: x.sum(axis=axes),
    form=forms.total,
    read={"reduce_sum": _read_sum},
  ),
)
