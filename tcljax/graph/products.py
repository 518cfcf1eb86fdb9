"""Convolutions and products with weights."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms, nir_forms
from tcljax.graph.affine import is_unknown
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.record import Kind, Operation, Refused, Use, integers
from tcljax.kernels.convolution import as_written, convolve


def _with_bias(x, bias):
  return x if bias is None else x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _run_conv(
  x: jax.Array, *, kernel: jax.Array, bias: jax.Array | None = None, **settings: Any
) -> jax.Array:
  spatial = "".join("DHW"[-(x.ndim - 2) :])
  y = convolve(
    x, kernel, dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"), **settings
  )
  return _with_bias(y, bias)


def _arrivals_at_conv(spikes: jax.Array, *, kernel: jax.Array, **settings: Any) -> jax.Array:
  settings.pop("bias", None)
  with as_written():  # other forms multiply fractions
    return _run_conv(spikes, kernel=_connections(kernel), **settings)


def _read_conv(graph: Builder, use: Use) -> Symbol:
  """A convolution in any layout; axes that are merged with the batch get a kernel of size 1."""
  x, kernel = use.inputs
  numbers, params = use.params["dimension_numbers"], use.params
  n, channels, *pixels = numbers.lhs_spec
  if not isinstance(x, Symbol) or is_unknown(kernel) or params["batch_group_count"] != 1:
    raise Refused
  if not x.has_batch(n):
    raise Refused
  for axis in (channels, *pixels):
    x = graph.whole(x, axis)
  merged = [k for k in x.axes[n] if k]
  order = [0, *merged, *(x.axes[axis][0] for axis in (*pixels, channels))]
  lead = [x.stored[k] for k in merged] if merged or pixels else [1]
  if len(lead) + len(pixels) > 3:
    raise Refused
  examples = tuple(order.index(k) for k in x.axes[n])
  sizes = [x.batch, *lead, *(x.shape[axis] for axis in (*pixels, channels))]
  x = graph.arranged(x, order, sizes, ())
  out, inner, *window = numbers.rhs_spec
  kernel = np.asarray(kernel).transpose(*window, inner, out)
  ones = (1,) * len(lead)
  settings: dict[str, Any] = {
    key: (*ones, *integers(params[key]))
    for key in ("window_strides", "lhs_dilation", "rhs_dilation")
  }
  settings["padding"] = (*[(0, 0)] * len(lead), *integers(params["padding"]))
  settings["feature_group_count"] = int(params["feature_group_count"])
  shape, (batch_out, channels_out, *pixels_out) = use.shapes[0], numbers.out_spec
  made = graph.node(
    "conv",
    (x.name,),
    (x.batch, *lead, *(shape[axis] for axis in pixels_out), shape[channels_out]),
    settings,
    {"kernel": kernel.reshape(*ones, *kernel.shape)},
  )
  axes = {batch_out: examples}
  axes |= {axis: (1 + len(lead) + i,) for i, axis in enumerate((*pixels_out, channels_out))}
  return Symbol(made, graph.shapes[made], tuple(axes[i] for i in range(len(shape))))


def _run_dense(x: jax.Array, *, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
  return _with_bias(x @ kernel, bias)


def _arrivals_at_dense(spikes: jax.Array, *, kernel: jax.Array, **_: Any) -> jax.Array:
  return _run_dense(spikes, kernel=_connections(kernel))


def _connections(kernel):
  """1 for each weight that is not 0."""
  return (kernel != 0).astype(jnp.float32)


def _read_dot_general(graph: Builder, use: Use) -> Symbol:
  """A product with weights that sums over any axes, on either side.

  Axes that both share (`dimension_numbers`' batch) are groups, each with weights of its own: a
  convolution of size 1 in groups. Shared examples have the same weights, or are refused.
  """
  (left, right), (left_shared, right_shared) = use.params["dimension_numbers"]
  x, weights = use.inputs
  first = isinstance(x, Symbol)
  if not first:
    x, weights = weights, x
    (left, right), (left_shared, right_shared) = (right, left), (right_shared, left_shared)
  if is_unknown(weights) or any(x.has_batch(axis) for axis in left):
    raise Refused
  weights = np.asarray(weights)
  free = [a for a in range(x.ndim) if a not in (*left, *left_shared)]
  free_of_weights = [a for a in range(weights.ndim) if a not in (*right, *right_shared)]
  groups = [a for a in left_shared if not x.has_batch(a)]
  for a, b in zip(left_shared, right_shared):
    if a not in groups:
      if x.axes[a] != (0,) or not np.all(weights == weights.take([0], b)):
        raise Refused
      weights = weights.take([0], b)
  sizes = tuple(weights.shape[a] for a in free_of_weights)
  group_axes = [b for a, b in zip(left_shared, right_shared) if a in groups]
  rest = [b for b in right_shared if b not in group_axes]  # of size 1 by now
  weights = weights.transpose(*group_axes, *right, *free_of_weights, *rest)
  shared = tuple(n for a in groups for n in x.sizes(a))
  inner = tuple(n for a in left for n in x.sizes(a))
  weights = weights.reshape(*shared, *inner, math.prod(sizes))
  # The weights follow the order in which the numbers are stored, so that none has to move.
  of_groups, summed = ([k for a in axes for k in x.axes[a]] for axes in (groups, left))
  sorted_axes = [*np.argsort(of_groups), *(len(of_groups) + np.argsort(summed)), weights.ndim - 1]
  weights = weights.transpose([int(i) for i in sorted_axes])
  of_groups, summed = sorted(of_groups), sorted(summed)
  kept = sorted({0, *(k for a in (*free, *left_shared) for k in x.axes[a])} - {*of_groups})
  order = [*kept, *of_groups, *summed]
  stored = [x.stored[k] for k in order]
  outer, middle = stored[: len(kept)], stored[len(kept) : len(kept) + len(of_groups)]
  count, terms = math.prod(middle), math.prod(stored[len(kept) + len(of_groups) :])
  if of_groups:
    flat = graph.arranged(x, order, (x.batch, math.prod(outer[1:]), count * terms), ())
    kernel = np.moveaxis(weights.reshape(count, terms, -1), 0, 1).reshape(1, terms, -1)
    settings = {
      **{key: (1,) for key in ("window_strides", "lhs_dilation", "rhs_dilation")},
      **{"padding": ((0, 0),), "feature_group_count": count},
    }
    shape = (*flat.stored[:2], kernel.shape[-1])
    made = graph.node("conv", (flat.name,), shape, settings, {"kernel": kernel})
  else:
    flat = graph.arranged(x, order, (*outer, terms), ())
    shape = (*outer, math.prod(sizes))
    made = graph.node("dense", (flat.name,), shape, arrays={"kernel": weights.reshape(terms, -1)})
  places = {k: i for i, k in enumerate([*kept, *of_groups])}
  mine = {a: tuple(places[k] for k in x.axes[a]) for a in (*free, *left_shared)}
  start = len(places)
  large = [i for i, n in enumerate(sizes) if n > 1]
  new = [(start + large.index(i),) if n > 1 else () for i, n in enumerate(sizes)]
  ends = [sizes[i] for i in large] or [1]
  both = ([mine[a] for a in free], new) if first else (new, [mine[a] for a in free])
  axes = (*(mine[a] for a in left_shared), *both[0], *both[1])
  flat = Symbol(made, graph.shapes[made], ())
  return graph.arranged(flat, range(len(flat.stored)), (*outer, *middle, *ends), axes)


def _fold_into_weights(
  arrays: Mapping[str, np.ndarray], scale: np.ndarray, shift: np.ndarray
) -> dict[str, np.ndarray]:
  """The kernel and the bias times a scale per channel, the bias moved by a shift per channel."""
  if any(n != 1 for a in (scale, shift) for n in a.shape[:-1]):  # differs over the image
    raise Refused
  channels = arrays["kernel"].shape[-1]
  if any(a.shape[-1] not in (1, channels) for a in (scale, shift)):  # one channel made into many
    raise Refused
  scale, shift = (np.broadcast_to(a.reshape(-1), (channels,)) for a in (scale, shift))
  bias = arrays.get("bias", np.zeros(channels)) * scale + shift
  return {"kernel": arrays["kernel"] * scale, "bias": bias}


OPERATIONS = (
  Operation(
    name="conv",
    run=_run_conv,
    form=forms.conv,
    read={"conv_general_dilated": _read_conv},
    kind=Kind.SYNAPSES,
    fold=_fold_into_weights,
    synaptic_operations=_arrivals_at_conv,
    nir=nir_forms.conv,
  ),
  Operation(
    name="dense",
    run=_run_dense,
    form=forms.dense,
    read={"dot_general": _read_dot_general},
    kind=Kind.SYNAPSES,
    fold=_fold_into_weights,
    synaptic_operations=_arrivals_at_dense,
    nir=nir_forms.dense,
  ),
)
