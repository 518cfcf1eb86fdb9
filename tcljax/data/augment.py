"""Images from uint8 to what a network takes, with augmentation, on the device."""

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_count, check_least
from tcljax.data.randaugment import STRONGEST, rand_augment


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """Normalisation, and the augmentation of training images.

  Attributes:
    mean: per channel, on a scale where white is 1; one value serves every channel.
    std: per channel, on the same scale, above 0; one value serves every channel.
    shift: largest shift of a crop in pixels, in either direction and axis; the border is black.
    flip: whether half of the images are mirrored left to right.
    cutout: side of the square that is set to the mean at a random place (DeVries & Taylor, 2017);
      0 for none.
    randaugment: number of RandAugment's operations, each drawn at random; 0 for none, 2 is usual.
    magnitude: their strength, from 0 to 30.
  """

  mean: tuple[float, ...] = (0.0,)
  std: tuple[float, ...] = (1.0,)
  shift: int = 0
  flip: bool = False
  cutout: int = 0
  randaugment: int = 0
  magnitude: float = 9.0

  def __post_init__(self) -> None:
    for field in ("shift", "cutout", "randaugment"):
      check_count(field, getattr(self, field), 0)
    check_least("magnitude", self.magnitude, 0)
    if self.magnitude > STRONGEST:
      raise ValueError(f"magnitude={self.magnitude} must be at most {STRONGEST}")
    for field in ("mean", "std"):
      values = getattr(self, field)
      if not all(isinstance(one, numbers.Real) and math.isfinite(one) for one in values):
        raise ValueError(f"{field}={values} must be finite numbers, one a channel")
    if not self.std or min(self.std) <= 0:
      raise ValueError(f"std={self.std} must be positive")

  def __call__(self, images: jax.Array | np.ndarray, key: jax.Array | None = None) -> jax.Array:
    """Normalised images [B, H, W, C] float32 from uint8 ones; augmented if a key is given.

    Or sequences [B, T, H, W, C]: what is drawn for an example is drawn once for all its frames.
    """
    if key is None:
      return self._normalize(images)
    batch, rank = images.shape[0], images.ndim
    keys = jax.random.split(key, 4)
    if self.shift:
      images = jax.vmap(self._crop)(jax.random.split(keys[0], batch), images)
    if self.flip:
      mirrored = jax.random.bernoulli(keys[1], shape=(batch, *[1] * (rank - 1)))
      images = jnp.where(mirrored, images[..., ::-1, :], images)
    if self.randaugment:
      images = jax.vmap(
        lambda key, image: rand_augment(key, image, self.randaugment, self.magnitude)
      )(jax.random.split(keys[3], batch), images)
    images = self._normalize(images)
    if self.cutout:
      images = jax.vmap(self._cut_out)(jax.random.split(keys[2], batch), images)
    return images

  def _normalize(self, images: Any) -> jax.Array:  # arrays of NumPy give way to those of JAX
    shape = (*[1] * (images.ndim - 1), -1)
    mean, std = (jnp.asarray(a, jnp.float32).reshape(shape) for a in (self.mean, self.std))
    return (images.astype(jnp.float32) / 255.0 - mean) / std

  def _crop(self, key, image):
    before = image.ndim - 3  # of a sequence the axis of its frames
    pad = (*[(0, 0)] * before, (self.shift, self.shift), (self.shift, self.shift), (0, 0))
    offset = jax.random.randint(key, (2,), 0, 2 * self.shift + 1)
    return jax.lax.dynamic_slice(jnp.pad(image, pad), (*[0] * before, *offset, 0), image.shape)

  def _cut_out(self, key, image):
    height, width, _ = image.shape[-3:]
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    top, left = centre - self.cutout // 2
    rows, columns = jnp.arange(height)[:, None, None], jnp.arange(width)[None, :, None]
    inside = (
      (rows >= top)
      & (rows < top + self.cutout)
      & (columns >= left)
      & (columns < left + self.cutout)
    )
    return jnp.where(inside.reshape(*[1] * (image.ndim - 3), *inside.shape), 0.0, image)
