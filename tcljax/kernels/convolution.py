"""Convolution in forms for which XLA's compiler for CPUs has fast code.

It has none where the image has fewer pixels than the kernel: a 3x3 kernel on 2x2 pixels, as in the
last stage of a VGG on CIFAR, runs at less than a hundredth of the rate of matrix products. As a
matrix product it does not. The gradient to the image is such a convolution too, of as many pixels
as the *output* has.

And it has none for other layouts than channels last. A gradient of a convolution is a convolution
with axes exchanged. In straight code the compiler chooses a layout that makes up for it; the
operands of a loop have theirs already, and the gradient to the image is then several times slower,
that to the kernel a hundred times. Written out in the layout of the forward pass, both are as fast
in a loop over time as outside. benchmarks/results/convolution_forms.md has the figures.

Where channels are many, 3x3 kernels take `winograd.convolve`, which multiplies less.
"""

import contextlib
import contextvars
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tcljax.kernels import targets, winograd

_as_written = contextvars.ContextVar("as_written", default=False)


@contextlib.contextmanager
def as_written() -> Iterator[None]:
  """Where `convolve` is traced as the convolution that it stands for, to be read and not run."""
  token = _as_written.set(True)
  try:
    yield
  finally:
    _as_written.reset(token)


def convolve(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **settings: Any,
) -> jax.Array:
  """`jax.lax.conv_general_dilated`, the same to rounding, and fast on CPUs for few pixels too.

  A Flax layer takes it as a field: `nn.Conv(64, (3, 3), conv_general_dilated=tcljax.convolve)`.

  Args:
    lhs: images, such as [B, H, W, C].
    rhs: the kernel, such as [h, w, C, features].
    window_strides: step of the window along each axis of the image.
    padding: "SAME", "VALID", or how many zeros before and after each axis.
    **settings: see `jax.lax.conv_general_dilated`.

  Returns:
    What `jax.lax.conv_general_dilated` returns for these arguments. On CPUs it can be
    differentiated in reverse mode only.

  Examples:
    >>> import flax.linen as nn
    >>> import jax
    >>> import tcljax
    >>> x = jax.random.normal(jax.random.key(0), (1, 2, 2, 8))
    >>> fast = nn.Conv(4, (3, 3), conv_general_dilated=tcljax.convolve)
    >>> variables = fast.init(jax.random.key(1), x)
    >>> expected = nn.Conv(4, (3, 3)).apply(variables, x)
    >>> bool(abs(fast.apply(variables, x) - expected).max() < 1e-5)
    True
  """
  if targets.platform() == "cpu" and not _as_written.get() and _is_plain(lhs, rhs, settings):
    image, window = lhs.shape[1:-1], rhs.shape[:-2]
    pads = (
      lax.padtype_to_pads(image, window, window_strides, padding)
      if isinstance(padding, str)
      else padding
    )
    pixels = [
      (n + sum(pad) - k) // stride + 1
      for n, pad, k, stride in zip(image, pads, window, window_strides, strict=True)
    ]
    if min(*image, *pixels) > 0:
      if min(map(math.prod, (image, pixels))) < math.prod(window):
        return _as_product(lhs, rhs, window_strides, pads, pixels, settings)
      if settings.get("preferred_element_type") is None:  # else gradients have a type of their own
        precision = settings.get("precision")
        precision = tuple(precision) if isinstance(precision, list) else precision
        return _channels_last(lhs, rhs, tuple(window_strides), tuple(map(tuple, pads)), precision)
  return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **settings)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _with_gradients(images, kernel, strides, pads, precision):
  """The convolution, whose gradients are convolutions in its own layout."""
  return _forward(images, kernel, strides, pads, precision)[0]


def _convolution(images, kernel, strides, pads, precision, **dilations):
  last = images.ndim - 1
  channels_last = (0, last, *range(1, last))
  return lax.conv_general_dilated(
    images,
    kernel,
    strides,
    pads,
    precision=precision,
    dimension_numbers=lax.ConvDimensionNumbers(
      channels_last, (last, last - 1, *range(last - 1)), channels_last
    ),
    **dilations,
  )


def _forward(images, kernel, strides, pads, precision):
  if winograd.suits(images, kernel, strides, pads):
    result = winograd.convolve(images, kernel, precision)
  else:
    result = _convolution(images, kernel, strides, pads, precision)
  return result, (images, kernel)


def _backward(strides, pads, precision, operands, to_result):
  images, kernel = operands
  image_pads, kernel_pads = [], []
  for n, m, k, stride, (before, _) in zip(
    images.shape[1:], to_result.shape[1:], kernel.shape, strides, pads, strict=False
  ):
    reach = (m - 1) * stride + 1  # from the first pixel of the result to the last, in the image
    image_pads.append((k - 1 - before, n + before - reach))
    kernel_pads.append((before, reach + k - 1 - n - before))
  return (
    _gradient_to_images(kernel, to_result, strides, image_pads, precision),
    _gradient_to_kernel(images, to_result, strides, kernel_pads, precision),
  )


# The barriers keep the compiler from writing transposed operands as axes exchanged.


def _gradient_to_images(kernel, to_result, strides, pads, precision):
  """Each output pixel goes where its window was: the kernel turned about, from result to image."""
  if winograd.suits(to_result, kernel, strides, pads):
    return winograd.convolve(to_result, kernel, precision, turned=True)
  turned = lax.optimization_barrier(jnp.flip(kernel, axis=range(kernel.ndim - 2)).swapaxes(-1, -2))
  return _convolution(to_result, turned, (1,) * len(strides), pads, precision, lhs_dilation=strides)


def _gradient_to_kernel(images, to_result, strides, pads, precision):
  """Each tap has seen the image at steps of the stride: the result's gradient is the window."""
  last = images.ndim - 1
  images, window = lax.optimization_barrier(
    (images.transpose(last, *range(1, last), 0), to_result.transpose(*range(1, last), 0, last))
  )
  to_kernel = _convolution(
    images, window, (1,) * len(strides), pads, precision, rhs_dilation=strides
  )
  return to_kernel.transpose(*range(1, last), 0, last)


_with_gradients.defvjp(_forward, _backward)
# JAX traces and differentiates one of the layers that have the same shapes.
_channels_last = jax.jit(_with_gradients, static_argnums=(2, 3, 4))


def _is_plain(lhs, rhs, settings):
  """Whether channels come last, and nothing is dilated, grouped or sharded."""
  last = lhs.ndim - 1
  images, kernel = (0, last, *range(1, last)), (last, last - 1, *range(last - 1))
  numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, settings.get("dimension_numbers"))
  dilations = [settings.get(key) or () for key in ("lhs_dilation", "rhs_dilation")]
  groups = [settings.get(key, 1) for key in ("feature_group_count", "batch_group_count")]
  return (
    numbers == lax.ConvDimensionNumbers(images, kernel, images)
    and settings.get("out_sharding") is None
    and all(n == 1 for n in itertools.chain(groups, *dilations))
  )


def _as_product(images, kernel, strides, pads, pixels, settings):
  """What each output pixel sees, its channels one after another, times the kernel."""
  taps = [
    _useful_taps(*axis)
    for axis in zip(kernel.shape[:-2], images.shape[1:-1], strides, pads, pixels, strict=True)
  ]
  kernel = kernel[tuple(slice(axis.start, axis.stop) for axis in taps)]
  padded = lax.pad(
    images,
    jnp.zeros((), images.dtype),  # which, unlike jnp.pad, also crops
    ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)),
  )
  seen = []
  for tap in itertools.product(*taps):
    ends = [k + (n - 1) * stride + 1 for k, n, stride in zip(tap, pixels, strides, strict=True)]
    seen.append(
      lax.slice(padded, (0, *tap, 0), (len(images), *ends, images.shape[-1]), (1, *strides, 1))
    )
  return lax.dot_general(
    jnp.concatenate(seen, axis=-1),
    kernel.reshape(-1, kernel.shape[-1]),
    (((images.ndim - 1,), (0,)), ((), ())),
    precision=settings.get("precision"),
    preferred_element_type=settings.get("preferred_element_type"),
  )


def _useful_taps(window, image, stride, pad, pixels):
  """The part of a kernel's axis that meets the image; the rest sees padding wherever it stands."""
  useful = [
    k for k in range(window) if any(0 <= k + stride * n - pad[0] < image for n in range(pixels))
  ] or [0]
  return range(useful[0], useful[-1] + 1)
