"""The layers among PyTorch's core operations (ATen) in JAX: products, norms, pooling, resizing.

Arrays are those of PyTorch, images channels first; arguments are named and ordered as ATen has them
(https://docs.pytorch.org/docs/stable/torch.compiler_ir.html).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax


def _numbers(count: int) -> tuple[str, str, str]:
  spatial = "DHW"[-count:]
  return f"NC{spatial}", f"OI{spatial}", f"NC{spatial}"


def _each(value: Any, count: int) -> list[int]:
  """One number an axis; PyTorch takes one for all too."""
  value = [value] if isinstance(value, int) else list(value)
  return value * count if len(value) == 1 else value


def convolution(x, weight, bias, stride, padding, dilation, *more):
  """Convolution or transposed convolution, [N, C, ...].

  `more` holds whether it is transposed, what is added to its output then, and the groups.
  """
  transposed, output_padding, groups = more
  axes = weight.ndim - 2
  stride, padding, dilation, extra = (
    _each(value, axes) for value in (stride, padding, dilation, output_padding)
  )
  if not transposed:
    y = lax.conv_general_dilated(
      x,
      weight,
      stride,
      [(n, n) for n in padding],
      rhs_dilation=dilation,
      dimension_numbers=_numbers(axes),
      feature_group_count=groups,
    )
  else:  # the gradient of a convolution: its kernel turned over, [in, out / groups, ...]
    parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    kernel = jnp.flip(parts.swapaxes(1, 2), range(3, 3 + axes))
    kernel = kernel.reshape(-1, *kernel.shape[2:])
    reach = [d * (n - 1) for d, n in zip(dilation, weight.shape[2:])]
    y = lax.conv_general_dilated(
      x,
      kernel,
      [1] * axes,
      [(r - p, r - p + m) for r, p, m in zip(reach, padding, extra)],
      lhs_dilation=stride,
      rhs_dilation=dilation,
      dimension_numbers=_numbers(axes),
      feature_group_count=groups,
    )
  return y if bias is None else y + bias.reshape(1, -1, *[1] * axes)


def batch_norm(x, weight, bias, mean, variance, momentum, eps):
  """With running statistics; what else PyTorch returns is of training."""
  del momentum
  along = lambda a: a.reshape(1, -1, *[1] * (x.ndim - 2))
  scale = 1 / jnp.sqrt(variance + eps)
  scale = scale if weight is None else scale * weight
  shift = -mean * scale if bias is None else bias - mean * scale
  return x * along(scale) + along(shift), None, None


def max_pool(x, kernel_size, stride=(), padding=0, dilation=1, ceil_mode=False):
  """Maxima of windows; their places are left out."""
  axes = len(_each(kernel_size, 1)) if not isinstance(kernel_size, int) else x.ndim - 2
  size, dilation, padding = (_each(v, axes) for v in (kernel_size, dilation, padding))
  stride = _each(stride, axes) if stride else size
  ends = _ends(x.shape[-axes:], size, stride, padding, dilation, ceil_mode)
  lead = x.ndim - axes
  y = lax.reduce_window(
    x,
    -jnp.inf,
    lax.max,
    (*[1] * lead, *size),
    (*[1] * lead, *stride),
    (*[(0, 0)] * lead, *zip(padding, ends)),
    window_dilation=(*[1] * lead, *dilation),
  )
  return y, None


def _ends(shape, size, stride, padding, dilation, ceil_mode):
  """What is padded at the far ends; where a last window begins within, ceil_mode keeps it."""
  ends = []
  for n, k, s, p, d in zip(shape, size, stride, padding, dilation):
    left = (n + 2 * p - d * (k - 1) - 1) % s
    more = s - left if ceil_mode and left else 0
    begins = ((n + 2 * p + more - d * (k - 1) - 1) // s) * s
    ends.append(p + (more if begins < n + p else 0))
  return ends


def avg_pool(
  x, kernel_size, stride=(), padding=0, ceil_mode=False, count_include_pad=True, divisor=None
):
  """Means of windows."""
  axes = len(_each(kernel_size, 1)) if not isinstance(kernel_size, int) else x.ndim - 2
  size, padding = _each(kernel_size, axes), _each(padding, axes)
  stride = _each(stride, axes) if stride else size
  ends = _ends(x.shape[-axes:], size, stride, padding, [1] * axes, ceil_mode)
  lead = x.ndim - axes

  def total(x, padding):
    window, strides = ((*[1] * lead, *of) for of in (size, stride))
    return lax.reduce_window(x, 0.0, lax.add, window, strides, (*[(0, 0)] * lead, *padding))

  ones = np.ones((*[1] * lead, *x.shape[-axes:]), np.float32)
  padding = list(zip(padding, ends))
  if divisor is not None:
    count = float(divisor)
  elif count_include_pad:  # but not what ceil_mode adds beyond the padding
    sides = [(low, min(low, high)) for low, high in padding]
    rest = [(0, high - end) for (_, high), (_, end) in zip(padding, sides)]
    count = total(np.pad(ones, [(0, 0)] * lead + sides, constant_values=1), rest)
  else:
    count = total(ones, padding)
  return total(x, padding) / count


def adaptive_avg_pool(x, output_size):
  """Means of as many parts as are asked for, along each of the last axes."""
  for axis, n in zip(range(x.ndim - len(output_size), x.ndim), output_size):
    size = x.shape[axis]
    starts = [i * size // n for i in range(n)]
    ends = [-(-(i + 1) * size // n) for i in range(n)]
    means = np.zeros((size, n), np.float32)
    for i, (a, b) in enumerate(zip(starts, ends)):
      means[a:b, i] = 1 / (b - a)
    if n == 1:
      x = x.mean(axis, keepdims=True)
    else:
      x = jnp.moveaxis(jnp.tensordot(x, means, ((axis,), (0,))), -1, axis)
  return x


def adaptive_max_pool(x, output_size):
  """Maxima of as many equal parts as are asked for, along each of the last axes.

  Raises:
    ValueError: if the parts are not equal.
  """
  sizes = x.shape[x.ndim - len(output_size) :]
  if any(size % n for size, n in zip(sizes, output_size)):
    raise ValueError(f"adaptive maximum pooling of {sizes} to {output_size} has unequal parts")
  return max_pool(x, [size // n for size, n in zip(sizes, output_size)])


def upsample(x, places: Sequence[np.ndarray], shares: Sequence[np.ndarray]):
  """Along each of the last axes the sum of entries at these places, with these shares."""
  for i, (at, share) in enumerate(zip(places, shares)):
    axis = x.ndim - len(places) + i
    shape = [-1 if k == axis else 1 for k in range(x.ndim)]
    shares_here = [np.float32(s).reshape(shape) for s in share]
    parts = [jnp.take(x, one, axis) * s for one, s in zip(at, shares_here)]
    x = sum(parts[1:], parts[0])
  return x


def upsample_nearest(x, size, scale_factors: Any = None):
  """The nearest entry below, as PyTorch's nearest has it."""
  axes = x.ndim - 2
  size = size or [math.floor(n * s) for n, s in zip(x.shape[2:], scale_factors)]
  for i in range(axes):
    n = x.shape[2 + i]
    scale = 1 / scale_factors[i] if scale_factors else n / size[i]
    x = jnp.take(x, np.minimum(np.floor(np.arange(size[i]) * scale), n - 1).astype(int), 2 + i)
  return x


def upsample_bilinear(x, size, align_corners, scale_factors: Any = None):
  """Linear between the nearest entries, on each axis."""
  axes = x.ndim - 2
  size = size or [math.floor(n * s) for n, s in zip(x.shape[2:], scale_factors)]
  places, shares = [], []
  for i in range(axes):
    n, m = x.shape[2 + i], size[i]
    if align_corners:
      at = np.arange(m) * ((n - 1) / max(m - 1, 1))
    else:
      scale = 1 / scale_factors[i] if scale_factors else n / m
      at = np.maximum((np.arange(m) + 0.5) * scale - 0.5, 0)
    low = np.minimum(np.floor(at).astype(int), n - 1)
    share = at - low
    places.append(np.stack([low, np.minimum(low + 1, n - 1)]))
    shares.append(np.stack([1 - share, share]))
  return upsample(x, places, shares)


def pad(x, padding, mode="constant", value=0.0):
  """PyTorch gives the last axis first, (before, after) of each."""
  pairs = [(padding[i], padding[i + 1]) for i in range(0, len(padding), 2)][::-1]
  pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
  if mode == "constant":
    return lax.pad(x, jnp.asarray(value or 0.0, x.dtype), [(a, b, 0) for a, b in pairs])
  return jnp.pad(x, pairs, mode=mode)


def layer_norm(x, shape, weight, bias, eps):
  """Statistics of each example itself."""
  axes = tuple(range(x.ndim - len(shape), x.ndim))
  deviation = x - x.mean(axes, keepdims=True)
  y = deviation * lax.rsqrt((deviation * deviation).mean(axes, keepdims=True) + eps)
  for value, compute in ((weight, jnp.multiply), (bias, jnp.add)):
    y = (
      y if value is None else compute(y, value.reshape((1,) * (x.ndim - len(shape)) + value.shape))
    )
  return y, None, None


def group_norm(x, weight, bias, n, channels, pixels, groups, eps):
  """Statistics of each example and group of channels."""
  del n, channels, pixels
  parts = x.reshape(x.shape[0], groups, -1)
  parts = layer_norm(parts, parts.shape[2:], None, None, eps)[0]
  along = lambda a: a.reshape(1, -1, *[1] * (x.ndim - 2))
  y = parts.reshape(x.shape)
  y = y if weight is None else y * along(weight)
  return (y if bias is None else y + along(bias)), None, None
