"""Affine maps: convolutions, products with weights, scales and shifts, sums of branches."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import forms
from tcljax.graph.record import Kind, Made, Operation, Refused, Symbol, integers
from tcljax.kernels.convolution import convolve

AFFINE = "affine"  # whose arrays, `scale` and `shift`, are what other operations take up


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


def _read_conv(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, kernel = inputs
  if isinstance(kernel, Symbol) or not isinstance(x, Symbol):
    raise Refused
  last = x.ndim - 1
  channels_last = (0, last, *range(1, last))
  kernel_layout = (last, last - 1, *range(last - 1))
  numbers = params["dimension_numbers"]
  if (
    tuple(numbers.lhs_spec) != channels_last
    or tuple(numbers.out_spec) != channels_last
    or tuple(numbers.rhs_spec) != kernel_layout
    or params["batch_group_count"] != 1
  ):
    raise Refused
  keys = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "feature_group_count")
  return Made("conv", (x,), {"kernel": kernel}, {key: integers(params[key]) for key in keys})


def _run_dense(x: jax.Array, *, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
  return _with_bias(x @ kernel, bias)


def _read_dot_general(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, kernel = inputs
  (x_axes, kernel_axes), batch_axes = params["dimension_numbers"]
  if (
    isinstance(kernel, Symbol)
    or tuple(x_axes) != (x.ndim - 1,)
    or x.ndim < 2
    or any(batch_axes)
    or kernel.ndim != 2
  ):
    raise Refused
  kernel = np.asarray(kernel)
  return Made("dense", (x,), {"kernel": kernel if kernel_axes[0] == 0 else kernel.T})


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


def affine(x: Symbol, scale: Any = 1.0, shift: Any = 0.0) -> Made:
  """The node x * scale + shift, its constants kept as small as broadcasting allows.

  Raises:
    Refused: if the constants differ from example to example.
  """
  arrays = {"scale": _per_example(scale, x.ndim), "shift": _per_example(shift, x.ndim)}
  return Made(AFFINE, (x,), arrays)


def _per_example(constant, ndim):
  """The constant without its batch axis; axes along which it is constant have size 1."""
  constant = np.asarray(constant, np.float64)
  if constant.ndim == 0:
    return constant.reshape((1,) * (ndim - 1))
  if constant.shape[0] > 1 and not np.all(constant == constant[:1]):
    raise Refused
  constant = constant[0]
  for axis in range(constant.ndim):
    first = constant.take([0], axis)
    constant = first if np.all(constant == first) else constant
  return constant


def _one_symbol(inputs):
  """The symbol and the constant of two inputs, whatever their order."""
  x, y = inputs
  if isinstance(x, Symbol) and isinstance(y, Symbol):
    raise Refused
  return (x, y) if isinstance(x, Symbol) else (y, x)


def _read_add_constant(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, constant = _one_symbol(inputs)
  return affine(x, shift=constant)


def _read_sub_constant(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, constant = _one_symbol(inputs)
  if x is inputs[0]:
    return affine(x, shift=-np.asarray(constant))
  return affine(x, scale=-1.0, shift=constant)


def _read_mul(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, constant = _one_symbol(inputs)
  return affine(x, scale=constant)


def _read_div(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, y = inputs
  if isinstance(y, Symbol):
    raise Refused
  return affine(x, scale=1.0 / np.asarray(y))


def _read_neg(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  return affine(inputs[0], scale=-1.0)


def _read_unchanged(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  return Made(None, (inputs[0],))


def _read_alone(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  if len(inputs) != 1:  # several at once come out as several
    raise Refused
  return Made(None, (inputs[0],))


def _read_convert_element_type(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  if not jnp.issubdtype(params["new_dtype"], jnp.floating):
    raise Refused
  return Made(None, (inputs[0],))


def _fold_affine(
  arrays: Mapping[str, np.ndarray], scale: np.ndarray, shift: np.ndarray
) -> dict[str, np.ndarray]:
  return {"scale": arrays["scale"] * scale, "shift": arrays["shift"] * scale + shift}


def _both_symbols(inputs):
  if not all(isinstance(value, Symbol) for value in inputs):
    raise Refused
  return tuple(inputs)


def _read_add(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  return Made("add", _both_symbols(inputs))


def _read_sub(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  x, y = _both_symbols(inputs)
  return Made("add", (x, affine(y, scale=-1.0)))


OPERATIONS = (
  Operation(
    name="conv",
    run=_run_conv,
    form=forms.conv,
    read={"conv_general_dilated": _read_conv},
    kind=Kind.SYNAPSES,
    fold=_fold_into_weights,
  ),
  Operation(
    name="dense",
    run=_run_dense,
    form=forms.dense,
    read={"dot_general": _read_dot_general},
    kind=Kind.SYNAPSES,
    fold=_fold_into_weights,
  ),
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
      # The scale 1 and the shift 0, which need no node.
      "copy": _read_unchanged,
      "copy_p": _read_unchanged,
      "stop_gradient": _read_unchanged,
      "sharding_constraint": _read_unchanged,
      "name": _read_unchanged,  # jax.ad_checkpoint.checkpoint_name
      "device_put": _read_alone,
      "optimization_barrier": _read_alone,
      "convert_element_type": _read_convert_element_type,
    },
    fold=_fold_affine,
  ),
  Operation(
    name="add",
    run=lambda x, y: x + y,
    form=forms.add,
    read={"add": _read_add, "sub": _read_sub},
  ),
)
