"""Operations that move values and compute nothing."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms, nir_forms
from tcljax.graph.affine import is_unknown
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.record import Operation, Refused, Use, integers


def only_symbol(use: Use) -> Symbol:
  """The first input, where all others are constants."""
  x, *others = use.inputs
  if not isinstance(x, Symbol) or any(map(is_unknown, others)):
    raise Refused
  return x


def _read_reshape(graph: Builder, use: Use) -> Symbol:
  x, order = only_symbol(use), use.params.get("dimensions")
  if order is not None and use.primitive == "reshape":  # they are transposed first
    x = Symbol(x.name, x.stored, tuple(x.axes[k] for k in order))
  return graph.reshaped(x, use.shapes[0])


def _read_broadcast(graph: Builder, use: Use) -> Symbol:
  x, shape = only_symbol(use), tuple(use.shapes[0])
  axes: list[tuple[int, ...]] = [()] * len(shape)
  for of, axis in zip(x.axes, use.params["broadcast_dimensions"]):
    axes[axis] = of
  return graph.broadcast(Symbol(x.name, x.stored, tuple(axes)), shape)


def _read_transpose(graph: Builder, use: Use) -> Symbol:
  x = only_symbol(use)
  return Symbol(x.name, x.stored, tuple(x.axes[k] for k in use.params["permutation"]))


def _read_slice(graph: Builder, use: Use) -> Symbol:
  x, params = only_symbol(use), use.params
  strides = params["strides"] or (1,) * x.ndim
  for axis, (start, limit, step) in enumerate(
    zip(params["start_indices"], params["limit_indices"], strides)
  ):
    x = graph.take(x, axis, range(start, limit, step))
  return x


def _read_split(graph: Builder, use: Use) -> list[Symbol]:
  x, axis = only_symbol(use), use.params["axis"]
  ends = np.cumsum([0, *use.params["sizes"]])
  return [graph.take(x, axis, range(a, b)) for a, b in itertools.pairwise(ends)]


def _run_reshape(x: jax.Array, *, shape: Any) -> jax.Array:
  return x.reshape(-1, *shape)


def _run_transpose(x: jax.Array, *, permutation: Any) -> jax.Array:
  return x.transpose(permutation)


def _run_concatenate(*xs: jax.Array, axis: int) -> jax.Array:
  return jnp.concatenate(xs, axis)


def _run_slice(x: jax.Array, *, start: Any, limit: Any, strides: Any) -> jax.Array:
  return jax.lax.slice(x, (0, *start), (x.shape[0], *limit), (1, *strides))


def _run_pad(x: jax.Array, *, padding: Any) -> jax.Array:
  return jax.lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *padding))


def padded(graph: Builder, x: Symbol, padding: Any) -> Symbol:
  """The value with zeros before, after and between the numbers of each axis of the model's value.

  Raises:
    Refused: if examples would be added.
  """
  if any(p != (0, 0, 0) and x.has_batch(axis) for axis, p in enumerate(padding)):
    raise Refused
  of_stored = {}
  for axis, p in enumerate(padding):
    if p != (0, 0, 0):
      x = graph.whole(x, axis)
  for axis, p in enumerate(padding):
    if p != (0, 0, 0):
      of_stored[x.axes[axis][0]] = p
  if not of_stored:
    return x
  settings = {"padding": tuple(of_stored.get(k, (0, 0, 0)) for k in range(1, len(x.stored)))}
  shape = [
    n + low + high + max(n - 1, 0) * between
    for n, (low, high, between) in zip(x.stored, ((0, 0, 0), *settings["padding"]))
  ]
  return graph.same_layout(x, graph.node("pad", (x.name,), shape, settings))


def _read_pad(graph: Builder, use: Use) -> Symbol:
  x, value = use.inputs
  padding = integers(use.params["padding_config"])
  if not isinstance(x, Symbol) or is_unknown(value) or not np.isfinite(value):
    raise Refused
  made = padded(graph, x, padding)
  if value == 0:
    return made
  ones = np.ones([1 if p == (0, 0, 0) else n for n, p in zip(x.shape, padding)], np.float32)
  around = jax.lax.pad(ones, np.float32(0), padding) == 0
  return graph.affine(made, shift=np.where(around, np.float64(value), 0.0))


def _read_concatenate(graph: Builder, use: Use) -> Symbol:
  """Of symbols, and constants among them: zeros are joined in their place, and they are added."""
  axis, parts = use.params["dimension"], list(use.inputs)
  if any(is_unknown(part) and not isinstance(part, Symbol) for part in parts):
    raise Refused
  symbols = [part for part in parts if isinstance(part, Symbol)]
  if any(x.has_batch(axis) for x in symbols):
    if len(symbols) == 1 and all(np.size(p) == 0 for p in parts if not isinstance(p, Symbol)):
      return symbols[0]
    raise Refused
  constants = np.zeros(use.shapes[0])
  at, groups = 0, []
  for part in parts:
    size = part.shape[axis]
    if isinstance(part, Symbol):
      groups.append([0, part, 0])
    elif size:
      where = (slice(None),) * axis + (slice(at, at + size),)
      constants[where] = np.asarray(part).astype(np.float64)
      groups += [] if groups else [[0, None, 0]]
      groups[-1][0 if groups[-1][1] is None else 2] += size
    at += size
  if groups[0][1] is None:  # constants come first
    groups[1][0] += groups.pop(0)[0]
  neutral = [(0, 0, 0)] * symbols[0].ndim
  filled = []
  for low, x, high in groups:
    neutral[axis] = (low, high, 0)
    filled.append(padded(graph, x, neutral) if x.shape[axis] or low or high else x)
  made = joined(graph, filled, axis)
  return graph.affine(made, shift=constants) if np.any(constants) else made


def joined(graph: Builder, xs: list[Symbol], axis: int) -> Symbol:
  """Values one after another along an axis of the model's value."""
  if len(xs) == 1:
    return xs[0]
  xs = graph.alike(xs, along=axis)
  (k,) = xs[0].axes[axis]
  shape = list(xs[0].stored)
  shape[k] = sum(x.stored[k] for x in xs)
  made = graph.node("concatenate", [x.name for x in xs], shape, {"axis": k})
  return graph.same_layout(xs[0], made)


def _read_stack(graph: Builder, use: Use) -> Symbol:
  axis, parts = use.params["axis"], []
  for part in use.inputs:
    if isinstance(part, Symbol):
      part = Symbol(part.name, part.stored, (*part.axes[:axis], (), *part.axes[axis:]))
    elif is_unknown(part):
      raise Refused
    else:
      part = np.expand_dims(np.asarray(part), axis)
    parts.append(part)
  again = Use("concatenate", parts, {"dimension": axis}, use.shapes, use.bind)
  return _read_concatenate(graph, again)


def _read_unstack(graph: Builder, use: Use) -> list[Symbol]:
  x, axis = only_symbol(use), use.params["axis"]
  taken = [graph.take(x, axis, [i]) for i in range(x.shape[axis])]
  return [Symbol(y.name, y.stored, (*y.axes[:axis], *y.axes[axis + 1 :])) for y in taken]


OPERATIONS = (
  Operation(
    name="reshape",
    run=_run_reshape,
    form=forms.reshape,
    read={
      "reshape": _read_reshape,
      "squeeze": _read_reshape,
      "broadcast_in_dim": _read_broadcast,
    },
    nir=nir_forms.moving(_run_reshape),
  ),
  Operation(
    name="transpose",
    run=_run_transpose,
    form=forms.transpose,
    read={"transpose": _read_transpose},
    nir=nir_forms.moving(_run_transpose),
  ),
  Operation(
    name="slice",
    run=_run_slice,
    form=forms.cut,
    read={"slice": _read_slice, "split": _read_split, "unstack": _read_unstack},
    nir=nir_forms.moving(_run_slice),
  ),
  Operation(
    name="pad",
    run=_run_pad,
    form=forms.pad,
    read={"pad": _read_pad},
    nir=nir_forms.moving(_run_pad),
  ),
  Operation(
    name="concatenate",
    run=_run_concatenate,
    form=forms.concatenate,
    read={"concatenate": _read_concatenate, "stack": _read_stack},
    nir=nir_forms.moving(_run_concatenate),
  ),
)
