"""How each operation that JAX traces to becomes a node, where it is affine in the activations."""

import jax.numpy as jnp
import numpy as np

# Models are traced with two examples, so that the batch axis cannot be mistaken for an axis of size
# one.
BATCH = 2


class Symbol:
  """A value that depends on the input: the node that makes it, and its shape."""

  def __init__(self, name, shape):
    self.name, self.shape, self.ndim = name, tuple(shape), len(shape)


class AffinePrimitives:
  """One method a primitive, called with its inputs (symbols and constants) and its parameters.

  Each returns a symbol (nothing to do), (op, sources, arrays, settings), or None where this use of
  the primitive is not affine in the activations or mixes examples. Whoever inherits has `emit`,
  which adds a node and returns its symbol.
  """

  def _on_conv_general_dilated(self, inputs, params):
    x, kernel = inputs
    last = x.ndim - 1 if isinstance(x, Symbol) else 0
    spatial = tuple(range(1, last))
    numbers = params["dimension_numbers"]
    channels_last = (0, last) + spatial
    kernel_layout = (last, last - 1) + tuple(range(last - 1))
    if (
      isinstance(kernel, Symbol)
      or not isinstance(x, Symbol)
      or tuple(numbers.lhs_spec) != channels_last
      or tuple(numbers.out_spec) != channels_last
      or tuple(numbers.rhs_spec) != kernel_layout
      or params["batch_group_count"] != 1
    ):
      return None
    keys = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "feature_group_count")
    return "conv", [x], {"kernel": kernel}, {key: _plain(params[key]) for key in keys}

  def _on_dot_general(self, inputs, params):
    x, kernel = inputs
    (x_axes, kernel_axes), batch_axes = params["dimension_numbers"]
    if (
      isinstance(kernel, Symbol)
      or tuple(x_axes) != (x.ndim - 1,)
      or x.ndim < 2
      or any(batch_axes)
      or kernel.ndim != 2
    ):
      return None
    kernel = np.asarray(kernel)
    return "dense", [x], {"kernel": kernel if kernel_axes[0] == 0 else kernel.T}, {}

  def _on_reduce_window_sum(self, inputs, params):
    return self._pool("sum_pool", inputs, params)

  def _on_reduce_window_max(self, inputs, params):
    return self._pool("max_pool", inputs, params)  # no affine map: `trace` looks at who reads it

  def _pool(self, op, inputs, params):
    window = {
      key: _plain(params[key])
      for key in (
        "window_dimensions",
        "window_strides",
        "padding",
        "base_dilation",
        "window_dilation",
      )
    }
    if window["window_dimensions"][0] != 1 or window["window_strides"][0] != 1:
      return None
    return op, inputs, {}, window

  def _on_reduce_sum(self, inputs, params):
    return None if 0 in params["axes"] else ("sum", inputs, {}, {"axes": _plain(params["axes"])})

  def _on_reshape(self, inputs, params):
    return self._reshape(inputs, params["new_sizes"])

  def _on_squeeze(self, inputs, params):
    shape = inputs[0].shape
    return self._reshape(inputs, [n for i, n in enumerate(shape) if i not in params["dimensions"]])

  def _on_broadcast_in_dim(self, inputs, params):
    shape = inputs[0].shape
    adds_unit_axes = np.prod(params["shape"]) == np.prod(shape)
    return self._reshape(inputs, params["shape"]) if adds_unit_axes else None

  def _reshape(self, inputs, sizes):
    if not sizes or sizes[0] != BATCH:
      return None
    if tuple(sizes) == inputs[0].shape:
      return inputs[0]
    return "reshape", inputs, {}, {"shape": _plain(sizes[1:])}

  def _on_transpose(self, inputs, params):
    permutation = _plain(params["permutation"])
    return ("transpose", inputs, {}, {"permutation": permutation}) if permutation[0] == 0 else None

  def _on_slice(self, inputs, params):
    keys = ("start_indices", "limit_indices", "strides")
    start, limit, strides = (params[key] or (1,) * inputs[0].ndim for key in keys)
    if (start[0], limit[0], strides[0]) != (0, BATCH, 1):
      return None
    return (
      "slice",
      inputs,
      {},
      {"start": _plain(start[1:]), "limit": _plain(limit[1:]), "strides": _plain(strides[1:])},
    )

  def _on_pad(self, inputs, params):
    x, value = inputs
    padding = _plain(params["padding_config"])
    if not isinstance(x, Symbol) or isinstance(value, Symbol) or value != 0 or any(padding[0]):
      return None
    return "pad", [x], {}, {"padding": padding[1:]}

  def _on_concatenate(self, inputs, params):
    axis = params["dimension"]
    symbols = all(isinstance(value, Symbol) for value in inputs)
    return ("concatenate", inputs, {}, {"axis": axis}) if symbols and axis else None

  def _on_add(self, inputs, params):
    if all(isinstance(value, Symbol) for value in inputs):
      return "add", inputs, {}, {}
    x, constant = inputs if isinstance(inputs[0], Symbol) else inputs[::-1]
    return _affine(x, shift=constant)

  def _on_sub(self, inputs, params):
    x, y = inputs
    if not isinstance(y, Symbol):
      return _affine(x, shift=-np.asarray(y))
    if not isinstance(x, Symbol):
      return _affine(y, scale=-1.0, shift=x)
    negated = self.emit(*_affine(y, scale=-1.0), y.shape)
    return "add", [x, negated], {}, {}

  def _on_mul(self, inputs, params):
    if all(isinstance(value, Symbol) for value in inputs):
      return None
    x, constant = inputs if isinstance(inputs[0], Symbol) else inputs[::-1]
    return _affine(x, scale=constant)

  def _on_div(self, inputs, params):
    x, y = inputs
    return None if isinstance(y, Symbol) else _affine(x, scale=1.0 / np.asarray(y))

  def _on_neg(self, inputs, params):
    return _affine(inputs[0], scale=-1.0)

  def _identity(self, inputs, params):
    return inputs[0]

  def _on_convert_element_type(self, inputs, params):
    return inputs[0] if jnp.issubdtype(params["new_dtype"], jnp.floating) else None

  _on_copy = _on_copy_p = _on_stop_gradient = _on_sharding_constraint = _identity


def _affine(x, scale=1.0, shift=0.0):
  """x * scale + shift, the constants kept as small as broadcasting allows."""
  arrays = {"scale": _per_example(scale, x.ndim), "shift": _per_example(shift, x.ndim)}
  return None if any(a is None for a in arrays.values()) else ("affine", [x], arrays, {})


def _per_example(constant, ndim):
  """The constant without its batch axis, constant axes at size 1; None if it differs by example."""
  constant = np.asarray(constant, np.float64)
  if constant.ndim == 0:
    return constant.reshape((1,) * (ndim - 1))
  if constant.shape[0] > 1 and not np.all(constant == constant[:1]):
    return None
  constant = constant[0]
  for axis in range(constant.ndim):
    first = constant.take([0], axis)
    constant = first if np.all(constant == first) else constant
  return constant


def _plain(value):
  """Tuples of integers, whatever sequence types the primitive's parameters use."""
  return tuple(_plain(v) for v in value) if isinstance(value, (tuple, list)) else int(value)
