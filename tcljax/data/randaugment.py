"""RandAugment on the device (Cubuk et al., NeurIPS 2020): random operations of one strength.

Images are float32 on a scale from 0 to 255. The operations and their ranges are those of the paper;
what an operation does to an image is what Pillow does, so that published settings carry over.
"""

import jax
import jax.numpy as jnp

STRONGEST = 30  # magnitude at which every operation is at the end of its range
_LUMINANCE = (0.299, 0.587, 0.114)


def rand_augment(key: jax.Array, image: jax.Array, operations: int, magnitude: float) -> jax.Array:
  """Applies operations drawn at random, with replacement, one after the other.

  Args:
    key: of the draws.
    image: one image [H, W, C], from 0 to 255.
    operations: how many.
    magnitude: from 0 to `STRONGEST`; the direction of a turn, shift or change of light is random.

  Returns:
    The image [H, W, C], float32, from 0 to 255.
  """

  def apply(image, key):
    which, sign = jax.random.split(key)
    signed = jnp.where(jax.random.bernoulli(sign), 1.0, -1.0) * magnitude / STRONGEST
    chosen = jax.random.randint(which, (), 0, len(OPERATIONS))
    return jax.lax.switch(chosen, list(OPERATIONS.values()), image, signed), None

  image, _ = jax.lax.scan(apply, image.astype(jnp.float32), jax.random.split(key, operations))
  return image


def _warp(image, matrix, offset=(0.0, 0.0)):
  """The image whose pixel at p, from the centre, is the old one's nearest to matrix p + offset."""
  height, width, _ = image.shape
  centre = jnp.array([height - 1, width - 1]).reshape(2, 1, 1) / 2
  points = jnp.indices((height, width)) - centre
  source = jnp.tensordot(jnp.array(matrix), points, 1) + centre + jnp.array(offset).reshape(2, 1, 1)
  one_channel = lambda plane: jax.scipy.ndimage.map_coordinates(plane, list(source), order=0)
  return jax.vmap(one_channel, in_axes=-1, out_axes=-1)(image)


def _shear_x(image, s):
  return _warp(image, ((1.0, 0.0), (0.3 * s, 1.0)))


def _shear_y(image, s):
  return _warp(image, ((1.0, 0.3 * s), (0.0, 1.0)))


def _translate_x(image, s):
  return _warp(image, ((1.0, 0.0), (0.0, 1.0)), (0.0, 0.45 * s * image.shape[1]))


def _translate_y(image, s):
  return _warp(image, ((1.0, 0.0), (0.0, 1.0)), (0.45 * s * image.shape[0], 0.0))


def _rotate(image, s):
  angle = jnp.deg2rad(30.0 * s)
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  return _warp(image, ((cosine, sine), (-sine, cosine)))


def _grey(image):
  """Luminance, [H, W, 1]."""
  if image.shape[-1] != 3:
    return image.mean(axis=-1, keepdims=True)
  return (image * jnp.array(_LUMINANCE).reshape(1, 1, 3)).sum(axis=-1, keepdims=True)


def _blend(nothing, image, s):
  """Away from an image without the property, or towards it: by up to 0.9 of their difference."""
  return jnp.clip(nothing + (1.0 + 0.9 * s) * (image - nothing), 0.0, 255.0)


def _brightness(image, s):
  return _blend(jnp.zeros_like(image), image, s)


def _color(image, s):
  return _blend(jnp.broadcast_to(_grey(image), image.shape), image, s)


def _contrast(image, s):
  return _blend(jnp.full_like(image, _grey(image).mean()), image, s)


def _sharpness(image, s):
  height, width, _ = image.shape
  image = jnp.asarray(image)
  around = sum(image[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3))
  inner = (around + 4 * image[1:-1, 1:-1]) / 13
  return _blend(image.at[1:-1, 1:-1].set(inner), image, s)  # the border has no neighbours


def _posterize(image, s):
  # With up to 4 of 8 bits less.
  step = 2.0 ** jnp.round(4 * jnp.abs(s))
  return jnp.floor(image / step) * step


def _solarize(image, s):
  return jnp.where(image >= 255.0 * (1.0 - jnp.abs(s)), 255.0 - image, image)


def _autocontrast(image, s):
  del s
  low, high = (reduce(image, axis=(0, 1), keepdims=True) for reduce in (jnp.min, jnp.max))
  stretched = (image - low) * (255.0 / jnp.maximum(high - low, 1e-3))
  return jnp.where(high > low, stretched, image)


def _equalize(image, s):
  del s

  def one_channel(plane):
    pixels = jnp.round(plane).ravel()
    step = (pixels.size - jnp.sum(pixels == pixels.max())) // 255
    darker = jnp.searchsorted(jnp.sort(pixels), pixels)
    levels = jnp.minimum((step // 2 + darker) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, levels.astype(jnp.float32), pixels).reshape(plane.shape)

  return jax.vmap(one_channel, in_axes=-1, out_axes=-1)(image)


# Each takes an image and a strength from -1 to 1; where a direction means nothing, its size counts.
OPERATIONS = {
  "identity": lambda image, s: image,
  "shear_x": _shear_x,
  "shear_y": _shear_y,
  "translate_x": _translate_x,
  "translate_y": _translate_y,
  "rotate": _rotate,
  "brightness": _brightness,
  "color": _color,
  "contrast": _contrast,
  "sharpness": _sharpness,
  "posterize": _posterize,
  "solarize": _solarize,
  "autocontrast": _autocontrast,
  "equalize": _equalize,
}
