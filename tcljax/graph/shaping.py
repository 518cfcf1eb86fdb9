"""Operations that move values and compute nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms
from tcljax.graph.record import Made, Operation, Refused, Symbol, integers


def _reshape(x, sizes):
  """The node that gives `x` these sizes, the batch included; none where it has them."""
  if not sizes or sizes[0] != x.batch:
    raise Refused
  if tuple(sizes) == x.shape:
    return Made(None, (x,))
  return Made("reshape", (x,), settings={"shape": integers(sizes[1:])})


def _read_reshape(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  return _reshape(inputs[0], params["new_sizes"])


def _read_squeeze(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  shape = inputs[0].shape
  return _reshape(inputs[0], [n for i, n in enumerate(shape) if i not in params["dimensions"]])


def _read_broadcast(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  if math.prod(params["shape"]) != math.prod(inputs[0].shape):  # more than axes of size 1
    raise Refused
  return _reshape(inputs[0], params["shape"])


def _read_transpose(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  permutation = integers(params["permutation"])
  if permutation[0] != 0:
    raise Refused
  return Made("transpose", tuple(inputs), settings={"permutation": permutation})


def _run_slice(x: jax.Array, *, start: Any, limit: Any, strides: Any) -> jax.Array:
  return jax.lax.slice(x, (0, *start), (x.shape[0], *limit), (1, *strides))


def _read_slice(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  keys = {"start": "start_indices", "limit": "limit_indices", "strides": "strides"}
  axes = {name: params[key] or (1,) * inputs[0].ndim for name, key in keys.items()}
  if tuple(of[0] for of in axes.values()) != (0, inputs[0].batch, 1):
    raise Refused
  return Made(
    "slice", tuple(inputs), settings={name: integers(of[1:]) for name, of in axes.items()}
  )


def _run_pad(x: jax.Array, *, padding: Any) -> jax.Array:
  return jax.lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *padding))


def _read_pad(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, value = inputs
  padding = integers(params["padding_config"])
  if not isinstance(x, Symbol) or isinstance(value, Symbol) or value != 0 or any(padding[0]):
    raise Refused
  return Made("pad", (x,), settings={"padding": padding[1:]})


def _read_concatenate(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  axis = params["dimension"]
  if not axis or not all(isinstance(value, Symbol) for value in inputs):
    raise Refused
  return Made("concatenate", tuple(inputs), settings={"axis": axis})


OPERATIONS = (
  Operation(
    name="reshape",
    run=lambda x, *, shape: x.reshape(-1, *shape),
    form=forms.reshape,
    read={
      "reshape": _read_reshape,
      "squeeze": _read_squeeze,
      "broadcast_in_dim": _read_broadcast,
    },
  ),
  Operation(
    name="transpose",
    run=lambda x, *, permutation: x.transpose(permutation),
    form=forms.transpose,
    read={"transpose": _read_transpose},
  ),
  Operation(name="slice", run=_run_slice, form=forms.cut, read={"slice": _read_slice}),
  Operation(name="pad", run=_run_pad, form=forms.pad, read={"pad": _read_pad}),
  Operation(
    name="concatenate",
    run=lambda *xs, axis: jnp.concatenate(xs, axis),
    form=forms.concatenate,
    read={"concatenate": _read_concatenate},
  ),
)
