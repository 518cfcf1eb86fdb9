"""Scales, shifts and sums of branches."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms, nir_forms
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.record import Operation, Refused, Use
from tcljax.graph.store import AFFINE


def is_unknown(value: Any) -> bool:
  """Whether a value depends on the input: a symbol, or a comparison of one."""
  return not hasattr(value, "dtype")


def _one_symbol(use):
  """The symbol and the constant of two inputs, whatever their order."""
  x, y = use.inputs
  if not isinstance(x, Symbol):
    x, y = y, x
  if not isinstance(x, Symbol) or is_unknown(y):
    raise Refused
  return x, np.asarray(y).astype(np.float64)


def _read_add_constant(graph: Builder, use: Use) -> Symbol:
  x, constant = _one_symbol(use)
  return graph.affine(x, shift=constant)


def _read_sub_constant(graph: Builder, use: Use) -> Symbol:
  x, constant = _one_symbol(use)
  if x is use.inputs[0]:
    return graph.affine(x, shift=-constant)
  return graph.affine(x, scale=-1.0, shift=constant)


def _read_mul(graph: Builder, use: Use) -> Symbol:
  x, constant = _one_symbol(use)
  return graph.affine(x, scale=constant)


def _read_div(graph: Builder, use: Use) -> Symbol:
  x, y = use.inputs
  if is_unknown(y):
    raise Refused
  with np.errstate(divide="ignore"):
    return graph.affine(x, scale=1.0 / np.asarray(y).astype(np.float64))


def _read_neg(graph: Builder, use: Use) -> Symbol:
  return graph.affine(_only(use), scale=-1.0)


def _read_power(graph: Builder, use: Use) -> Symbol:
  if use.params["y"] != 1:
    raise Refused
  return _only(use)


def _only(use: Use) -> Symbol:
  (x,) = use.inputs
  if not isinstance(x, Symbol):
    raise Refused
  return x


def _read_unchanged(graph: Builder, use: Use) -> Any:
  """The scale 1 and the shift 0, of one value or of several at once."""
  return list(use.inputs) if len(use.shapes) > 1 else use.inputs[0]


def _read_convert_element_type(graph: Builder, use: Use) -> Symbol:
  if not jnp.issubdtype(use.params["new_dtype"], jnp.floating):
    raise Refused
  return _only(use)


def _read_by_values(graph: Builder, use: Use) -> Symbol:
  """What scales and shifts each number by itself, with constants: found from its values at 0 and 1.

  So `x.at[:, 0].set(c)` and `jnp.where(mask, x, c)` of a constant mask are read.
  """
  x = _of_one_symbol(use)
  if x.shape != tuple(use.shapes[0]):
    raise Refused
  at = [
    np.asarray(use.bind(*(np.full(x.shape, v, np.float32) if y is x else y for y in use.inputs)))
    for v in (0, 1, -2)
  ]
  at = [a.astype(np.float64) for a in at]
  if not np.allclose(at[2], 3 * at[0] - 2 * at[1], rtol=1e-5, atol=1e-5):
    raise Refused  # as of `x.at[0].apply(jnp.sin)`
  return graph.affine(x, scale=at[1] - at[0], shift=at[0])


def _of_one_symbol(use):
  """The only input that depends on the network's input, which must be the first."""
  x, *others = use.inputs
  if not isinstance(x, Symbol) or any(is_unknown(y) for y in others):
    raise Refused
  return x


def _read_chosen(graph: Builder, use: Use) -> Symbol:
  """A choice by constants between values, of which each number of the output takes one."""
  which, *cases = use.inputs
  if is_unknown(which) or not all(isinstance(c, Symbol) or not is_unknown(c) for c in cases):
    raise Refused
  which = np.broadcast_to(np.asarray(which).astype(np.int64), use.shapes[0])
  total, constant = None, np.zeros(use.shapes[0])
  for i, case in enumerate(cases):
    if not isinstance(case, Symbol):
      constant = np.where(which == i, np.asarray(case).astype(np.float64), constant)
    elif np.any(which == i):
      part = graph.affine(case, scale=(which == i).astype(np.float64))
      total = part if total is None else graph.add(total, part)
  if total is None:
    raise Refused
  return graph.affine(total, shift=constant)


def _fold_affine(
  arrays: Mapping[str, np.ndarray], scale: np.ndarray, shift: np.ndarray
) -> dict[str, np.ndarray]:
  return {"scale": arrays["scale"] * scale, "shift": arrays["shift"] * scale + shift}


def _arrivals_at_affine(spikes: jax.Array, *, scale: jax.Array, **_: Any) -> jax.Array:
  return spikes * (scale != 0)[None]


def _both_symbols(use):
  if not all(isinstance(value, Symbol) for value in use.inputs):
    raise Refused
  return use.inputs


def _read_add(graph: Builder, use: Use) -> Symbol:
  return graph.add(*_both_symbols(use))


def _read_sub(graph: Builder, use: Use) -> Symbol:
  x, y = _both_symbols(use)
  return graph.add(x, graph.affine(y, scale=-1.0))


OPERATIONS = (
  Operation(
    name=AFFINE,
    run=lambda x, *, scale, shift: x * scale[None] + shift[None],
    form=forms.affine,
    read={
      "add": _read_add_constant,
      "sub": _read_sub_constant,
      "mul": _read_mul,
      "div": _read_div,
      "neg": _read_neg,
      "integer_pow": _read_power,
      # The scale 1 and the shift 0, which need no node.
      "copy": _read_unchanged,
      "copy_p": _read_unchanged,
      "stop_gradient": _read_unchanged,
      "sharding_constraint": _read_unchanged,
      "reshard": _read_unchanged,
      "name": _read_unchanged,  # jax.ad_checkpoint.checkpoint_name
      "reduce_precision": _read_unchanged,
      "device_put": _read_unchanged,
      "optimization_barrier": _read_unchanged,
      "convert_element_type": _read_convert_element_type,
      # Constants in place of parts of it.
      "select_n": _read_chosen,
      "scatter": _read_by_values,
      "scatter-add": _read_by_values,
      "scatter-sub": _read_by_values,
      "scatter-mul": _read_by_values,
    },
    fold=_fold_affine,
    synaptic_operations=_arrivals_at_affine,
    nir=nir_forms.affine,
  ),
  Operation(
    name="add",
    run=lambda x, y: x + y,
    form=forms.add,
    read={"add": _read_add, "add_any": _read_add, "sub": _read_sub},
    nir=nir_forms.add,
  ),
)
