"""A convolution as one whose padding is the same at both ends and whose kernel is square.

NIR pads both ends alike, and works out shapes as if all axes of a kernel had the size of the first.
Zeros around a kernel make up for both, and change no sum.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Axis(NamedTuple):
  """How a kernel moves along one axis of an image.

  Attributes:
    size: of the image, in pixels.
    count: how many pixels come out.
    stride: from one window to the next.
    low: pixels of padding before the first; below 0 so many are left out.
    dilation: from one pixel of the window to the next.
  """

  size: int
  count: int
  stride: int = 1
  low: int = 0
  dilation: int = 1

  def last(self, k: int) -> int:
    """The last pixel that a kernel of k pixels reads, which may be one of padding."""
    return (self.count - 1) * self.stride + (k - 1) * self.dilation - self.low


class Symmetric(NamedTuple):
  """The same convolution with `padding` pixels at both ends of each axis.

  Attributes:
    kernel: [k..., C, D], all k being the same.
    padding: of each axis.
    dilation: of each axis.
  """

  kernel: np.ndarray
  padding: tuple[int, ...]
  dilation: tuple[int, ...]


def symmetric(kernel: np.ndarray, axes: Sequence[Axis]) -> Symmetric | None:
  """The smallest such convolution; None where one axis takes odd kernels alone and one even ones.

  Args:
    kernel: [k..., C, D].
    axes: one for each k.
  """
  sizes = kernel.shape[: len(axes)]
  dilation = tuple(axis.dilation for axis in axes)
  if len({*sizes}) == 1 and all(_padding(axis, sizes[0], 0) == axis.low for axis in axes):
    return Symmetric(kernel, tuple(axis.low for axis in axes), dilation)
  reach = [(k - 1) * axis.dilation + 1 for k, axis in zip(sizes, axes)]
  largest = max(2 * (axis.size + axis.count * axis.stride + abs(axis.low)) for axis in axes)
  for size in range(max(reach), max(reach) + largest + 1):
    slack = [size - n for n in reach]
    padding = [_padding(axis._replace(dilation=1), size, k) for axis, k in zip(axes, slack)]
    if None in padding:
      continue
    found = tuple(p for p in padding if p is not None)
    wide = np.zeros((*[size] * len(axes), *kernel.shape[len(axes) :]), kernel.dtype)
    starts = [p - axis.low for p, axis in zip(found, axes)]
    wide[tuple(slice(s, s + n, a.dilation) for s, n, a in zip(starts, reach, axes))] = kernel
    return Symmetric(wide, found, (1,) * len(axes))
  return None


def _padding(axis: Axis, size: int, slack: int) -> int | None:
  """The least padding with which a kernel of `size` gives as many pixels; None where none does.

  Args:
    axis: along which it moves.
    size: of the kernel, with zeros at its ends.
    slack: how many of them are such zeros.
  """
  over = (axis.count - 1) * axis.stride + (size - 1) * axis.dilation + 1 - axis.size
  least = max(0, axis.low, math.ceil(over / 2))
  most = min(axis.low + slack, math.floor((over + axis.stride - 1) / 2))
  return least if least <= most else None
