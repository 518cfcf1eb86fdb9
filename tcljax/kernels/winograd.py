"""Convolution with 3x3 kernels in 16 multiplications for every 4 pixels, where it takes 36.

Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray, CVPR 2016): tiles of 4x4 pixels of the image
and the kernel are transformed by additions, multiplied, and transformed back. The products over the
channels are matrix products. The result differs from that of the sum by rounding alone.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

# Measured on CPUs. With fewer channels the additions cost more than the multiplications that they
# save, and with fewer tiles of four pixels the kernel's transform does.
_LEAST_CHANNELS, _LEAST_TILES_TIMES_CHANNELS = 32, 8192
# Values of one of the 16 arrays of tiles: what stays in the caches, and what is worth two threads.
_MOST_AT_ONCE, _LEAST_AT_ONCE = 2**18, 2**16


def suits(
  images: jax.Array,
  kernel: jax.Array,
  strides: tuple[int, ...],
  pads: tuple[tuple[int, int], ...],
) -> bool:
  """Whether `convolve` can do this convolution, and does it faster.

  Args:
    images: [B, H, W, C].
    kernel: [h, w, C, features].
    strides: step of the window along each axis of the image.
    pads: how many zeros before and after each axis.
  """
  if kernel.shape[:-2] != (3, 3) or kernel.dtype != jnp.float32 or images.dtype != jnp.float32:
    return False
  count, height, width, _ = images.shape
  channels = min(kernel.shape[-2:])
  return (
    tuple(strides) == (1, 1)
    and all(tuple(pad) == (1, 1) for pad in pads)
    and height % 2 == 0 == width % 2
    and channels >= _LEAST_CHANNELS
    and count * height * width // 4 * channels >= _LEAST_TILES_TIMES_CHANNELS
  )


def convolve(
  images: jax.Array,
  kernel: jax.Array,
  precision: lax.PrecisionLike = None,
  turned: bool = False,
) -> jax.Array:
  """The convolution with stride 1 and a zero around the image.

  Args:
    images: [B, H, W, C], H and W even.
    kernel: [3, 3, C, features]; if it is to be turned, [3, 3, features, C].
    precision: of the matrix products.
    turned: whether the kernel is turned about, and from features to channels, as the gradient to
      the image has it. Products read it as it is; to transpose it takes longer than they do.

  Returns:
    [B, H, W, features].
  """
  count, height, width, channels = images.shape
  kernel = kernel[::-1, ::-1] if turned else kernel
  kernels = [_of_kernel(row) for row in _of_kernel(kernel)]  # of two axes
  portion = _portion(count, height * width // 4 * max(kernel.shape[-2:]))
  run = functools.partial(_filter, kernels=kernels, contracted=int(turned), precision=precision)
  if portion == count:
    return run(images)
  features = kernel.shape[-2 if turned else -1]
  in_place = features == channels  # then each portion's result takes the place of its images

  def take(i, results):
    start = i * portion
    taken = lax.dynamic_slice_in_dim(results if in_place else images, start, portion)
    return lax.dynamic_update_slice_in_dim(results, run(taken), start, axis=0)

  results = images if in_place else jnp.zeros((count, height, width, features), images.dtype)
  return lax.fori_loop(0, count // portion, take, results)


def _portion(count, values):
  """How many images to take at once, where each has so many values in each of its 16 arrays.

  Taken all together they would come from memory many times, and 32 arrays of that size be alive.
  """
  fitting = max(
    n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * values <= _MOST_AT_ONCE)
  )
  return fitting if fitting * values >= _LEAST_AT_ONCE else count


def _filter(images, kernels, contracted, precision):
  """Images filtered by transformed kernels, whose axis `contracted` is that of the channels."""
  count, height, width, channels = images.shape
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  products = []
  for rows, kernel_row in zip(_of_image(padded, 1), kernels, strict=True):
    for tiles, kernel in zip(_of_image(rows, 2), kernel_row, strict=True):
      product = lax.dot_general(
        tiles.reshape(-1, channels), kernel, (((1,), (contracted,)), ((), ())), precision=precision
      )
      products.append(product.reshape(count, height // 2, width // 2, -1))
  rows = [_of_result(products[i : i + 4], axis=3) for i in range(0, 16, 4)]  # [B, H/2, W/2, 2, O]
  return _of_result(rows, axis=2).reshape(count, height, width, -1)


def _of_image(x, axis):
  """Four values for each tile of four pixels, tiles two pixels apart, along one axis."""
  tiles = x.shape[axis] // 2 - 1
  a, b, c, d = (lax.slice_in_dim(x, i, i + 2 * tiles - 1, 2, axis) for i in range(4))
  return a - c, b + c, c - b, b - d


def _of_kernel(kernel):
  """Four values for the three taps along the first axis, which goes."""
  a, b, c = kernel
  return a, (a + b + c) / 2, (a - b + c) / 2, c


def _of_result(products, axis):
  """Two pixels from four products, side by side along a new axis."""
  a, b, c, d = products
  return jnp.stack([a + b + c, b - c - d], axis)
