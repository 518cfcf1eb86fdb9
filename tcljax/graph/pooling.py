"""Sums and maxima of windows."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms, nir_forms, populations
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.record import Kind, Operation, Reader, Refused, Use, integers
from tcljax.graph.shaping import only_symbol

_NEUTRAL = {
  "window_dimensions": 1,
  "window_strides": 1,
  "padding": (0, 0),
  "base_dilation": 1,
  "window_dilation": 1,
}


def _windows(graph: Builder, x: Symbol, params: Any) -> tuple[Symbol, dict[str, Any]]:
  """A value whose pooled axes are whole, and the settings of windows over its stored axes.

  Raises:
    Refused: if windows hold several examples.
  """
  settings = {key: integers(params[key]) for key in _NEUTRAL}
  window = [
    axis for axis in range(x.ndim) if any(of[axis] != _NEUTRAL[key] for key, of in settings.items())
  ]
  if any(x.has_batch(axis) for axis in window):
    raise Refused
  for axis in window:
    x = graph.whole(x, axis)
  stored = {key: [_NEUTRAL[key]] * len(x.stored) for key in _NEUTRAL}
  for axis in window:
    for key, of in settings.items():
      stored[key][x.axes[axis][0]] = of[axis]
  return x, {key: tuple(of) for key, of in stored.items()}


def _shape_of(x, settings):
  shape = []
  for k, n in enumerate(x.stored):
    size, stride, (low, high), dilation, reach = (settings[key][k] for key in _NEUTRAL)
    padded = max((n - 1) * dilation + 1, 0) + low + high
    shape.append((padded - ((size - 1) * reach + 1)) // stride + 1)
  return shape


def _summed(graph, x, settings):
  made = graph.node("sum_pool", (x.name,), _shape_of(x, settings), settings)
  return graph.same_layout(x, made)


def _read_window_sum(graph: Builder, use: Use) -> Symbol:
  return _summed(graph, *_windows(graph, only_symbol(use), use.params))


def _cumulative(read: Reader) -> Reader:
  """Reads what is cumulative as windows that reach back to the first number, or on to the last."""

  def read_cumulative(graph: Builder, use: Use) -> Symbol:
    x, axis = only_symbol(use), use.params["axis"]
    n = x.shape[axis]
    params = {key: [neutral] * x.ndim for key, neutral in _NEUTRAL.items()}
    params["window_dimensions"][axis] = n
    params["padding"][axis] = (0, n - 1) if use.params["reverse"] else (n - 1, 0)
    return read(graph, dataclasses.replace(use, params=params))

  return read_cumulative


def _read_window_max(graph: Builder, use: Use) -> Symbol:
  return _maximum(graph, *_windows(graph, only_symbol(use), use.params))


def _maximum(graph, x, settings):
  over_channels = settings["window_dimensions"][-1] > 1  # which is no pooling
  if graph.inserts and graph.pooling == "average" and not over_channels:
    return _average(graph, x, settings)
  plain = {*settings["base_dilation"], *settings["window_dilation"]} == {1}
  if graph.inserts and plain:
    windows = {
      k: populations.Window(size, stride, *sides)
      for k, (size, stride, sides) in enumerate(
        zip(settings["window_dimensions"], settings["window_strides"], settings["padding"])
      )
    }
    windows = {k: w for k, w in windows.items() if w != populations.Window(1, 1, 0, 0)}
    return graph.same_layout(x, populations.pooled(graph, x.name, windows))
  if graph.inserts:
    raise Refused
  made = graph.node("max_pool", (x.name,), _shape_of(x, settings), settings)
  return graph.same_layout(x, made)


def _average(graph, x, settings):
  """The mean of each window, without what is padded."""
  total = _summed(graph, x, settings)
  ones = np.ones((1, *x.stored[1:]), np.float32)
  count = np.asarray(_sum_pool(jnp.asarray(ones), **settings), np.float64)[0]
  return graph.affine_stored(total, 1 / count, np.zeros_like(count))


def _read_max(graph: Builder, use: Use) -> Symbol:
  """The maximum over whole axes, which is one window."""
  x, axes = only_symbol(use), use.params["axes"]
  for axis in axes:
    if x.has_batch(axis):
      raise Refused
    x = graph.whole(x, axis)
  if not graph.inserts:
    raise Refused
  params = {key: [neutral] * x.ndim for key, neutral in _NEUTRAL.items()}
  for axis in axes:
    params["window_dimensions"][axis] = params["window_strides"][axis] = x.shape[axis]
  made = _maximum(graph, *_windows(graph, x, params))
  return Symbol(
    made.name, made.stored, tuple(of for axis, of in enumerate(made.axes) if axis not in axes)
  )


def _as_minimum(read: Reader) -> Reader:
  """Reads a minimum as the maximum of what is negated, negated."""

  def read_minimum(graph: Builder, use: Use) -> Symbol:
    if not graph.inserts:
      raise Refused
    negated = graph.affine(only_symbol(use), scale=-1.0)
    largest = read(graph, dataclasses.replace(use, inputs=[negated, *use.inputs[1:]]))
    return graph.affine(largest, scale=-1.0)

  return read_minimum


def _sum_pool(x: jax.Array, **settings: Any) -> jax.Array:
  # A concrete zero is what JAX recognises as a sum, which it can differentiate.
  return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, **settings)


def _max_pool(x: jax.Array, **settings: Any) -> jax.Array:
  return jax.lax.reduce_window(x, np.array(-np.inf, x.dtype), jax.lax.max, **settings)


def _read_sum(graph: Builder, use: Use) -> Symbol:
  x, axes = only_symbol(use), use.params["axes"]
  summed = sorted(k for axis in axes for k in x.axes[axis])
  if 0 in summed:
    raise Refused
  kept = [k for k in range(len(x.stored)) if k not in summed]
  of = tuple(tuple(kept.index(k) for k in of) for axis, of in enumerate(x.axes) if axis not in axes)
  if not summed or math.prod(x.stored[k] for k in summed) == 1:
    return Symbol(x.name, x.stored, tuple(o for axis, o in enumerate(x.axes) if axis not in axes))
  made = graph.node("sum", (x.name,), [x.stored[k] for k in kept], {"axes": tuple(summed)})
  return Symbol(made, graph.shapes[made], of)


OPERATIONS = (
  Operation(
    name="sum_pool",
    run=_sum_pool,
    form=forms.sum_pool,
    read={"reduce_window_sum": _read_window_sum, "cumsum": _cumulative(_read_window_sum)},
    nir=nir_forms.sum_pool,
  ),
  Operation(
    name="max_pool",
    run=_max_pool,
    form=forms.max_pool,
    read={
      "reduce_window_max": _read_window_max,
      "reduce_max": _read_max,
      "reduce_window_min": _as_minimum(_read_window_max),
      "reduce_min": _as_minimum(_read_max),
      "cummax": _cumulative(_read_window_max),
      "cummin": _as_minimum(_cumulative(_read_window_max)),
    },
    kind=Kind.MAXIMUM,
  ),
  Operation(
    name="sum",
    run=lambda x, *, axes: x.sum(axis=axes),
    form=forms.total,
    read={"reduce_sum": _read_sum},
    nir=nir_forms.sum_axes,
  ),
)
