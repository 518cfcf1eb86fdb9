"""Maximum pooling, of activations, of spikes and of input currents.

A maximum of spikes is not a spike train whose rate is the maximum of the rates: two neurons of
equal rate that fire in turn would pass twice too many. In its place spiking networks let one
neuron of each window through, the one that has fired most (Rueckauer et al., Front. Neurosci.
2017). If all spikes of the leader pass, those of earlier leaders stay counted when the lead
changes. Here a spike passes only where it makes the largest count of its window grow, so that
after every step

    spikes passed so far = maximum over the window of the spikes fired so far,

exactly, and as a binary neuron fires at most once a step, what passes is 0 or 1 in each. Of neurons
that send bursts it may be more, and of neurons that take spikes back less than 0.

Of input currents it is the same: the maximum of each step's currents has a mean that lies above
the maximum of their means, and stays there however many steps there are. So what passes is by how
much the largest sum of a window grows:

    current passed so far = maximum over the window of the currents so far.
"""

import dataclasses
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_choice, in_a_line
from tcljax.maths.shapes import check_axes, check_shape

SPIKES, CURRENTS = POOLED = ("spikes", "currents")
SAME = "SAME"

_UNROLLED = 8  # additions in one pass; of more steps the loop is shorter to compile

PerAxis = int | tuple[int, ...]  # one value for all axes, or one an axis
Pair = tuple[int, int]  # pixels at the low and at the high end of an axis


class Windows(NamedTuple):
  """Windows of images whose size is known, an entry for each axis between batch and channels."""

  sizes: tuple[int, ...]
  strides: tuple[int, ...]
  padding: tuple[Pair, ...]


@dataclasses.dataclass(frozen=True, init=False)
class MaxPool:
  """Windows over all axes between the batch and the channels.

  An integer is for every axis, a tuple has one entry for each. What is left over at the far edge is
  dropped.

  Attributes:
    window: length of a window's sides, in pixels.
    stride: pixels from one window to the next; by default `window`.
    padding: pixels of minus infinity around the image, fewer than `window`. The entry of an axis is
      an integer, for both ends, or a pair (low, high). "SAME" is what Flax and TensorFlow pad by
      that name: a window for every `stride` pixels begun, and where the padding is odd, one more at
      the high end. How much that is depends on the image.
    of: what the spiking network pools. "spikes": every pixel has a neuron, and of a window as many
      spikes pass as its neuron fired that fired most. "currents": every window has one neuron,
      whose input is the largest of the currents added up so far. Other activations are the same.

  Raises:
    ValueError: naming the field, its value and the remedy.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> act = tcljax.ReLU(name="act1", max_pool=tcljax.MaxPool(2))
    >>> images = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> act.apply({}, images)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    >>> act = tcljax.ReLU(name="act1", max_pool=tcljax.MaxPool((3, 2), 2, "SAME"))
    >>> act.apply({}, images)[0, :, :, 0].tolist()
    [[9.0, 11.0], [13.0, 15.0]]
  """

  window: PerAxis
  stride: PerAxis
  padding: int | str | tuple[int | Pair, ...]
  of: str

  def __init__(
    self,
    window: PerAxis,
    stride: PerAxis | None = None,
    padding: int | str | tuple[int | Pair, ...] = 0,
    of: str = SPIKES,
  ) -> None:
    set_field = lambda field, value: object.__setattr__(self, field, value)
    set_field("window", _integers("window", window))
    set_field("stride", self.window if stride is None else _integers("stride", stride))
    set_field("padding", _padding(padding))
    if min(_entries(self.window) + _entries(self.stride), default=0) < 1:
      raise ValueError(f"MaxPool: window={self.window} and stride={self.stride} must be at least 1")
    tuples = (self.window, self.stride, self.padding)
    counts = {len(value) for value in tuples if isinstance(value, tuple)}
    if len(counts) > 1:
      raise ValueError(
        f"MaxPool: window={self.window}, stride={self.stride} and padding={self.padding} must have "
        "one entry an axis, all as many: give an integer for what is the same on all axes"
      )
    if self.padding != SAME:
      windows = self._windows(max(counts, default=1))
      for size, ends in zip(windows.sizes, windows.padding):
        if not 0 <= min(ends) <= max(ends) < size:
          raise ValueError(
            f"MaxPool: padding={self.padding} must be at least 0 and below window={self.window}"
          )
    check_choice("MaxPool: of", of, POOLED)
    set_field("of", of)

  def along(self, pixels: tuple[int, ...]) -> Windows:
    """The windows of images of so many pixels along each axis, "SAME" worked out.

    Raises:
      ValueError: if images have other axes than the windows.
    """
    for value in (self.window, self.stride, self.padding):
      if isinstance(value, tuple) and len(value) != len(pixels):
        raise ValueError(
          f"{self} does not fit images of {_pixels(pixels)}: its tuples must have {len(pixels)} "
          "entries, one for each axis between the batch and the channels"
        )
    return self._windows(len(pixels), pixels)

  def _windows(self, axes, pixels=()):
    """Of so many axes; those of "SAME" need the pixels."""
    spread = lambda value: value if isinstance(value, tuple) else (value,) * axes
    sizes, strides = spread(self.window), spread(self.stride)
    if self.padding == SAME:
      return Windows(sizes, strides, tuple(map(_same, pixels, sizes, strides)))
    return Windows(sizes, strides, tuple(map(_ends, spread(self.padding))))


def _integers(field: str, value: Any) -> PerAxis:
  """An integer, or a tuple of integers, of Python."""
  try:
    return tuple(map(_integer, value)) if isinstance(value, (tuple, list)) else _integer(value)
  except TypeError:
    raise ValueError(
      f"MaxPool: {field}={in_a_line(value)} must be an integer, or a tuple of one integer an axis"
    ) from None


def _padding(value: Any) -> int | str | tuple[int | Pair, ...]:
  """The same of a padding, whose entries may be pairs."""

  def entry(value):
    if not isinstance(value, (tuple, list)):
      return _integer(value)
    low, high = map(_integer, value)
    return low, high

  if isinstance(value, str) and value == SAME:
    return value
  try:
    return tuple(map(entry, value)) if isinstance(value, (tuple, list)) else _integer(value)
  except (TypeError, ValueError):
    raise ValueError(
      f"MaxPool: padding={in_a_line(value)} must be an integer, a tuple of one integer or one pair "
      f"(low, high) an axis, or {SAME!r}; 0 is none"
    ) from None


def _integer(value):
  if isinstance(value, (bool, np.bool_)):
    raise TypeError
  return operator.index(value)


def _entries(value):
  return value if isinstance(value, tuple) else (value,)


def _pixels(pixels):
  return f"{'x'.join(map(str, pixels))} pixels"


def _ends(entry):
  return entry if isinstance(entry, tuple) else (entry, entry)


def _same(pixels, size, stride):
  padding = max((-(-pixels // stride) - 1) * stride + size - pixels, 0)
  return padding // 2, padding - padding // 2


def max_pool(x: jax.Array, pool: MaxPool) -> jax.Array:
  """The maximum of each window and channel.

  Args:
    x: [B, H, W, C], or with more or fewer axes between the first and the last.
    pool: the windows.

  Returns:
    [B, H', W', C], H' = (H + low + high - window) // stride + 1, in the type of `x`.

  Raises:
    ValueError: if `x` has no axes to pool, or other ones than the windows, or a window does not fit
      in.
  """
  check_axes("x", x, 3, f"images [B, H, W, C] for {pool}")
  pixels = x.shape[1:-1]
  windows = pool.along(pixels)
  if any(n + sum(ends) < size for n, ends, size in zip(pixels, windows.padding, windows.sizes)):
    raise ValueError(
      f"{pool} does not fit into images of {_pixels(pixels)}: enlarge the images, or pool less "
      "often"
    )
  if windows.strides == windows.sizes and not any(map(any, windows.padding)):
    return _of_tiles(x, windows.sizes)
  return jax.lax.reduce_window(
    x,
    np.array(-np.inf, x.dtype),
    jax.lax.max,
    (1, *windows.sizes, 1),
    (1, *windows.strides, 1),
    ((0, 0), *windows.padding, (0, 0)),
  )


def _of_tiles(x, sizes):
  """Windows that do not overlap, as axes of their own.

  On CPUs the gradient then takes a sixth of the time. And neurons that share a maximum, as counts
  of spikes often do, share its gradient.
  """
  counts = [n // size for n, size in zip(x.shape[1:-1], sizes)]
  for axis, (n, size) in enumerate(zip(counts, sizes), 1):
    x = jax.lax.slice_in_dim(x, 0, n * size, axis=axis)
  tiled = x.reshape(x.shape[0], *(m for pair in zip(counts, sizes) for m in pair), x.shape[-1])
  return tiled.max(axis=tuple(range(2, 2 * len(counts) + 1, 2)))


def running_maximum(x: jax.Array, sums: jax.Array, pool: MaxPool) -> tuple[jax.Array, jax.Array]:
  """By how much the largest sum of each window grows in each step.

  Args:
    x: what is added up: numbers of spikes, or input currents, [K, B, H, W, C].
    sums: its sums before these steps, [B, H, W, C].
    pool: the windows.

  Returns:
    What passes in each step, [K, B, H', W', C], and the sums after these steps.
    Added up over all steps so far, what passed is `max_pool` of the sums. The gradient to `x` is
    that of this difference of maxima.

  Raises:
    ValueError: if the sums are not those of one step of `x`, or a window does not fit in.
  """
  check_axes("x", x, 4, "[K, B, H, W, C]")
  check_shape("sums", sums, x.shape[1:], "one step of x")
  # One step after the other, so that no bit depends on how many there are in a call.

  def add(sums, step):
    return sums + step, sums + step

  _, after = jax.lax.scan(add, sums, x, unroll=len(x) <= _UNROLLED)
  largest = jax.vmap(lambda sums: max_pool(sums, pool))(jnp.concatenate([sums[None], after]))
  return largest[1:] - largest[:-1], after[-1]
