"""Maximum pooling, of activations, of spikes and of input currents.

A maximum of spikes is not a spike train whose rate is the maximum of the rates: two neurons of
equal rate that fire in turn would pass twice too many. In its place spiking networks let one
neuron of each window through, the one that has fired most (Rueckauer et al., Front. Neurosci.
2017). If all spikes of the leader pass, those of earlier leaders stay counted when the lead
changes. Here a spike passes only where it makes the largest count of its window grow, so that
after every step

    spikes passed so far = maximum over the window of the spikes fired so far,

exactly, and as a neuron fires at most once a step, what passes is 0 or 1 in each.

Of input currents it is the same: the maximum of each step's currents has a mean that lies above
the maximum of their means, and stays there however many steps there are. So what passes is by how
much the largest sum of a window grows:

    current passed so far = maximum over the window of the currents so far.
"""

import dataclasses
import operator

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_choice, must_be
from tcljax.maths.shapes import check_axes, check_shape

SPIKES, CURRENTS = POOLED = ("spikes", "currents")

_UNROLLED = 8  # additions in one pass; of more steps the loop is shorter to compile


@dataclasses.dataclass(frozen=True, init=False)
class MaxPool:
  """Square windows over all axes between the batch and the channels.

  What is left over at the far edge is dropped.

  Attributes:
    window: length of a window's sides, in pixels.
    stride: pixels from one window to the next; by default `window`.
    padding: pixels of minus infinity around the image, fewer than `window`.
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
  """

  window: int
  stride: int
  padding: int
  of: str

  def __init__(
    self, window: int, stride: int | None = None, padding: int = 0, of: str = SPIKES
  ) -> None:
    stride = window if stride is None else stride
    for field, value in (("window", window), ("stride", stride), ("padding", padding)):
      try:
        object.__setattr__(self, field, operator.index(value))
      except TypeError:
        raise ValueError(f"MaxPool: {must_be(field, value, 'an integer')}") from None
    if self.window < 1 or self.stride < 1:
      raise ValueError(f"MaxPool: window={self.window} and stride={self.stride} must be at least 1")
    if not 0 <= self.padding < self.window:
      raise ValueError(
        f"MaxPool: padding={self.padding} must be at least 0 and below window={self.window}"
      )
    check_choice("MaxPool: of", of, POOLED)
    object.__setattr__(self, "of", of)


def max_pool(x: jax.Array, pool: MaxPool) -> jax.Array:
  """The maximum of each window and channel.

  Args:
    x: [B, H, W, C], or with more or fewer axes between the first and the last.
    pool: the windows.

  Returns:
    [B, H', W', C], H' = (H + 2 padding - window) // stride + 1, in the type of `x`.

  Raises:
    ValueError: if `x` has no axes to pool, or a window does not fit in.
  """
  check_axes("x", x, 3, f"images [B, H, W, C] for {pool}")
  spatial = x.shape[1:-1]
  if min(spatial) + 2 * pool.padding < pool.window:
    raise ValueError(
      f"{pool} does not fit into images of {'x'.join(map(str, spatial))} pixels: "
      "enlarge the images, or pool less often"
    )
  if pool.stride == pool.window and not pool.padding:
    return _of_tiles(x, pool.window)
  axes = len(spatial)
  return jax.lax.reduce_window(
    x,
    np.array(-np.inf, x.dtype),
    jax.lax.max,
    (1, *[pool.window] * axes, 1),
    (1, *[pool.stride] * axes, 1),
    ((0, 0), *[(pool.padding, pool.padding)] * axes, (0, 0)),
  )


def _of_tiles(x, side):
  """Windows that do not overlap, as axes of their own.

  On CPUs the gradient then takes a sixth of the time. And neurons that share a maximum, as counts
  of spikes often do, share its gradient.
  """
  spatial = [n // side for n in x.shape[1:-1]]
  for axis, n in enumerate(spatial, 1):
    x = jax.lax.slice_in_dim(x, 0, n * side, axis=axis)
  tiled = x.reshape(x.shape[0], *(m for n in spatial for m in (n, side)), x.shape[-1])
  return tiled.max(axis=tuple(range(2, 2 * len(spatial) + 1, 2)))


def running_maximum(x: jax.Array, sums: jax.Array, pool: MaxPool) -> tuple[jax.Array, jax.Array]:
  """By how much the largest sum of each window grows in each step.

  Args:
    x: what is added up: spikes of 0 and 1, or input currents, [K, B, H, W, C].
    sums: its sums before these steps, [B, H, W, C].
    pool: the windows.

  Returns:
    What passes in each step, [K, B, H', W', C], 0 or 1 of spikes, and the sums after these steps.
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
