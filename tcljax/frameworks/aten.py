"""PyTorch's core operations (ATen) in JAX, as far as networks need them for inference.

`torch.export` gives a network as a list of these. Layers stand in `aten_layers`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tcljax.frameworks.aten_layers import (
  adaptive_avg_pool,
  adaptive_max_pool,
  avg_pool,
  batch_norm,
  convolution,
  group_norm,
  layer_norm,
  max_pool,
  pad,
  upsample_bilinear,
  upsample_nearest,
)


def cut(x, axis=0, start=None, end=None, step=1):
  """Python's slice along one axis."""
  return x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]


def put(x, part, axis=0, start=None, end=None, step=1):
  """A part in place of Python's slice along one axis."""
  where = (slice(None),) * (axis % x.ndim) + (slice(start, end, step),)
  if step != 1:
    return x.at[where].set(part)
  at = [0] * x.ndim
  at[axis % x.ndim] = slice(start, end).indices(x.shape[axis])[0]
  return lax.dynamic_update_slice(x, part, at)


def _places(at):
  """What stands between brackets: whole axes where PyTorch has None."""
  return tuple(slice(None) if one is None else one for one in at)


def index_put(x, at, values, accumulate=False):
  """Values set or added at these indices."""
  where = x.at[_places(at)]
  return where.add(values) if accumulate else where.set(values)


def split(x, size, axis=0):
  """Parts of these sizes, or of one size."""
  n = x.shape[axis]
  sizes = [min(size, n - a) for a in range(0, n, size)] if isinstance(size, int) else size
  return jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis)


def mean(x, axes=None, keepdims=False, *, dtype=None):
  """Over all axes, or some."""
  return x.mean(tuple(axes) if axes else None, keepdims=keepdims, dtype=dtype)


def total(x, axes=None, keepdims=False, *, dtype=None):
  """The sum over all axes, or some."""
  return x.sum(tuple(axes) if axes else None, keepdims=keepdims, dtype=dtype)


def squeeze(x, axes=None):
  """Axes of size 1 left out: of these alone, where any are named; others of these stay."""
  axes = range(x.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
  return jnp.squeeze(x, tuple(axis for axis in axes if x.shape[axis] == 1))


def variance(x, axes=None, *, correction=1, keepdim=False):
  """Over all axes, or some; PyTorch divides by one less than their number."""
  return x.var(tuple(axes) if axes else None, ddof=correction, keepdims=keepdim)


def expand(x, sizes, *, implicit=False):
  """Axes of size 1 repeated; -1 leaves one as it is."""
  del implicit
  shape = (1,) * (len(sizes) - x.ndim) + x.shape
  sizes = [n if m == -1 else m for n, m in zip(shape, sizes)]
  return jnp.broadcast_to(x.reshape(shape), sizes)


def _of_two(compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
  """As PyTorch does, a factor of the second may be given, and shapes be broadcast."""

  def run(x, y, *, alpha=1):
    rank = max(np.ndim(x), np.ndim(y))
    x, y = (a if not np.ndim(a) else a.reshape((1,) * (rank - a.ndim) + a.shape) for a in (x, y))
    return compute(x, y if alpha == 1 else y * alpha)

  return run


def _reshape(x, sizes):
  return x.reshape([int(n) for n in sizes])


def _unchanged(x, *args, **kwargs):
  del args, kwargs
  return x


# By their names without the overload, `aten.add.Tensor` as "add".
OPERATIONS: dict[str, Callable[..., Any]] = {
  # Affine.
  "convolution": convolution,
  "_native_batch_norm_legit_no_training": batch_norm,
  "addmm": lambda bias, x, y, *, beta=1, alpha=1: (
    beta * bias[(None,) * (2 - bias.ndim)] + alpha * (x @ y)
  ),
  "mm": jnp.matmul,
  "bmm": jnp.matmul,
  "add": _of_two(jnp.add),
  "sub": _of_two(jnp.subtract),
  "rsub": _of_two(lambda x, y: y - x),
  "mul": _of_two(jnp.multiply),
  "div": _of_two(jnp.divide),
  "neg": jnp.negative,
  "mean": mean,
  "sum": total,
  "cumsum": lambda x, axis, *, dtype=None: jnp.cumsum(x, axis, dtype),
  "avg_pool1d": avg_pool,
  "avg_pool2d": avg_pool,
  "avg_pool3d": avg_pool,
  "_adaptive_avg_pool2d": adaptive_avg_pool,
  "_adaptive_avg_pool3d": adaptive_avg_pool,
  "upsample_nearest1d": lambda x, size, *s: upsample_nearest(x, size, [*s] if s and s[0] else None),
  "upsample_nearest2d": upsample_nearest,
  "upsample_bilinear2d": upsample_bilinear,
  # What moves numbers.
  "view": _reshape,
  "_unsafe_view": _reshape,
  "reshape": _reshape,
  "permute": lambda x, order: x.transpose(order),
  "t": lambda x: x.T,
  "transpose": lambda x, a, b: jnp.swapaxes(x, a, b),
  "unsqueeze": lambda x, axis: jnp.expand_dims(x, axis),
  "squeeze": squeeze,
  "cat": lambda xs, axis=0: jnp.concatenate(xs, axis),
  "stack": lambda xs, axis=0: jnp.stack(xs, axis),
  "slice": cut,
  "select": lambda x, axis, i: jnp.take(x, i % x.shape[axis], axis),
  "split": split,
  "split_with_sizes": split,
  "unbind": lambda x, axis=0: list(jnp.moveaxis(x, axis, 0)),
  "index_select": lambda x, axis, at: jnp.take(x, at, axis),
  "index": lambda x, at: x[_places(at)],
  "index_put": index_put,
  "diagonal": lambda x, offset=0, a=0, b=1: jnp.diagonal(x, offset, a, b),
  "flip": lambda x, axes: jnp.flip(x, tuple(axes)),
  "roll": lambda x, shifts, axes: jnp.roll(x, shifts, axes),
  "repeat": lambda x, times: jnp.tile(x, times),
  "expand": expand,
  "constant_pad_nd": lambda x, padding, value=0.0: pad(x, padding, "constant", value),
  **{f"reflection_pad{n}d": lambda x, padding: pad(x, padding, "reflect") for n in (1, 2, 3)},
  **{f"replication_pad{n}d": lambda x, padding: pad(x, padding, "edge") for n in (1, 2, 3)},
  "pixel_shuffle": lambda x, r: (
    x.reshape(x.shape[0], -1, r, r, *x.shape[2:])
    .transpose(0, 1, 4, 2, 5, 3)
    .reshape(x.shape[0], -1, x.shape[2] * r, x.shape[3] * r)
  ),
  **dict.fromkeys(("clone", "alias", "detach", "lift_fresh_copy", "contiguous"), _unchanged),
  **dict.fromkeys(("_assert_tensor_metadata", "_assert_scalar", "_assert_async"), _unchanged),
  "_to_copy": lambda x, *, dtype=None, **kwargs: x if dtype is None else x.astype(dtype),
  # Activations, and maxima.
  "relu": lambda x: jnp.maximum(x, 0),
  "hardtanh": lambda x, low=-1.0, high=1.0: jnp.clip(x, low, high),
  "relu6": lambda x: jnp.clip(x, 0.0, 6.0),
  "clamp": lambda x, low=None, high=None: jnp.clip(x, low, high),
  "clamp_min": lambda x, low: jnp.maximum(x, low),
  "clamp_max": lambda x, high: jnp.minimum(x, high),
  "maximum": _of_two(jnp.maximum),
  "minimum": _of_two(jnp.minimum),
  "abs": jnp.abs,
  "leaky_relu": lambda x, slope=0.01: jnp.where(x > 0, x, slope * x),
  "_prelu_kernel": lambda x, slope: jnp.where(x > 0, x, slope * x),
  "where": jnp.where,
  "gt": _of_two(jnp.greater),
  "ge": _of_two(jnp.greater_equal),
  "eq": _of_two(jnp.equal),
  "ne": _of_two(jnp.not_equal),
  "lt": _of_two(jnp.less),
  "le": _of_two(jnp.less_equal),
  "max_pool1d": max_pool,
  "max_pool2d_with_indices": max_pool,
  "max_pool3d_with_indices": max_pool,
  "amax": lambda x, axes=(), keepdims=False: x.max(tuple(axes), keepdims=keepdims),
  "amin": lambda x, axes=(), keepdims=False: x.min(tuple(axes), keepdims=keepdims),
  "adaptive_max_pool2d": adaptive_max_pool,
  "max": lambda x, axis, keepdims=False: (x.max(axis, keepdims=keepdims), None),
  "min": lambda x, axis, keepdims=False: (x.min(axis, keepdims=keepdims), None),
  # What no spikes can carry, so that it is refused by name and place.
  "sigmoid": jax.nn.sigmoid,
  "tanh": jnp.tanh,
  "exp": jnp.exp,
  "expm1": jnp.expm1,
  "exp2": jnp.exp2,
  "log": jnp.log,
  "log1p": jnp.log1p,
  "log2": jnp.log2,
  "log10": jnp.log10,
  "sin": jnp.sin,
  "cos": jnp.cos,
  "atan": jnp.arctan,
  "sign": jnp.sign,
  "floor": jnp.floor,
  "ceil": jnp.ceil,
  "round": lambda x, *, decimals=0: jnp.round(x, decimals),
  "erf": lax.erf,
  "reciprocal": jnp.reciprocal,
  "var": variance,
  "linalg_vector_norm": lambda x, order=2, axes=None, keepdims=False, **kwargs: (
    jnp.linalg.vector_norm(x, axis=axes and tuple(axes), keepdims=keepdims, ord=order)
  ),
  "sqrt": jnp.sqrt,
  "rsqrt": lax.rsqrt,
  "pow": _of_two(jnp.power),
  "gelu": lambda x, *, approximate="none": jax.nn.gelu(x, approximate=approximate == "tanh"),
  "silu": jax.nn.silu,
  "elu": lambda x, alpha=1.0, scale=1.0, *rest: scale * jax.nn.elu(x, alpha),  # and SELU
  "hardswish": jax.nn.hard_swish,
  "hardsigmoid": jax.nn.hard_sigmoid,
  "softplus": lambda x, beta=1.0, *rest: jax.nn.softplus(beta * x) / beta,
  "_softmax": lambda x, axis, half=False: jax.nn.softmax(x, axis),
  "_log_softmax": lambda x, axis, half=False: jax.nn.log_softmax(x, axis),
  "logical_not": jnp.logical_not,
  "any": lambda x, axes=None, keepdims=False: jnp.any(x, axes, keepdims=keepdims),
  "native_layer_norm": layer_norm,
  "native_group_norm": group_norm,
  "slice_scatter": put,
  "select_scatter": lambda x, part, axis, i: put(
    x, jnp.expand_dims(part, axis), axis, i % x.shape[axis], i % x.shape[axis] + 1
  ),
  "copy": lambda x, y, *rest: jnp.broadcast_to(y, x.shape),
  # Of sizes and types alone. What depends on no input at all is computed by PyTorch itself.
  "full_like": lambda x, value, *, dtype=None, **kwargs: jnp.full(x.shape, value, dtype or x.dtype),
  "sym_size": lambda x, axis: x.shape[axis],
  "sym_numel": lambda x: x.size,
}

_RANDOM = (
  "is random: let it depend on self.training, as torch.nn.Dropout does, or leave it out for "
  "inference"
)
_OF_THE_BATCH = (
  "takes statistics of its input: take torch.nn.BatchNorm2d with the running ones in place of "
  "InstanceNorm2d, track_running_stats=False or training=True, and train the network so"
)
# What a network does when it is trained alone.
NOT_FOR_INFERENCE: dict[str, str] = {
  **dict.fromkeys(("native_dropout", "dropout", "bernoulli", "rrelu_with_noise"), _RANDOM),
  **dict.fromkeys(("rand", "rand_like", "randn", "randn_like", "randint", "randperm"), _RANDOM),
  **dict.fromkeys(("normal", "uniform", "multinomial", "normal_functional"), _RANDOM),
  **dict.fromkeys(("poisson", "exponential", "geometric", "cauchy", "log_normal"), _RANDOM),
  **dict.fromkeys(("random", "binomial"), _RANDOM),
  **dict.fromkeys(
    ("_native_batch_norm_legit", "_native_batch_norm_legit_functional", "native_batch_norm"),
    _OF_THE_BATCH,
  ),
}
