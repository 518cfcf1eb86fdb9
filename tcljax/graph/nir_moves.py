"""Numbers of an image that move as no convolution moves them, by two convolutions.

The first makes each number a channel of an image of one pixel. The second is padded so far that
each pixel that it sends has weights of its own. So images can be turned, mirrored and scaled pixel
by pixel; the weights are as many as those of a product, which is too many for large images.
"""

import math
from typing import NamedTuple

import numpy as np

from tcljax.graph.record import Refused
from tcljax.graph.symmetric import Axis
from tcljax.graph.wires import Wire

_MOST = 2**24  # weights of one convolution


class Convolution(NamedTuple):
  """One of the two.

  Attributes:
    kernel: [k..., C, D].
    bias: [D].
    axes: one for each k.
  """

  kernel: np.ndarray
  bias: np.ndarray
  axes: list[Axis]


def one_by_one(wire: Wire, shift: np.ndarray) -> tuple[Convolution, Convolution]:
  """The convolutions that together send what a wire sends, and a shift, in order.

  Args:
    wire: from an image to an image of as many axes; one that sends nothing leaves the shift alone.
    shift: in the shape of the value.

  Raises:
    Refused: if one of both is no image, or if they are too large.
  """
  channels, *sent = wire.shape
  *pixels, outer = wire.places.shape
  if len(sent) != len(pixels) or not 1 <= len(pixels) <= 2:
    raise Refused(
      f"it makes a value of {len(pixels) + 1} axes of one of {len(sent) + 1}, and NIR has no such "
      "operation"
    )
  used = np.unique(wire.places[wire.sent])
  count = len(used) + bool(np.any(shift))
  numbers = count * max(math.prod(wire.shape), math.prod(wire.places.shape))
  if numbers > _MOST:
    raise Refused(
      f"it moves or scales numbers as no convolution does, which takes {numbers} weights, and "
      f"{_MOST} are the most"
    )
  first, bias = np.zeros((*sent, channels, count)), np.zeros(count)
  channel, *pixel = np.unravel_index(used, wire.shape)
  first[(*pixel, channel, np.arange(len(used)))] = 1
  second = np.zeros((*pixels, count, outer))
  *pixel, channel = np.nonzero(wire.sent)
  of = np.searchsorted(used, wire.places[wire.sent])
  second[(*pixel, of, channel)] = wire.scale[wire.sent]
  if np.any(shift):
    bias[-1] = 1
    second[..., -1, :] = shift
  axes = [Axis(1, n, low=n - 1) for n in pixels]
  return (
    # In strides, so that any padding fits.
    Convolution(first, bias, [Axis(n, 1, stride=2) for n in sent]),
    Convolution(np.flip(second, (*range(len(pixels)),)), np.zeros(outer), axes),
  )
