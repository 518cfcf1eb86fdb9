"""RandAugment's operations beside those of Pillow, and how they are drawn."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tcljax.data import Preprocessing
from tcljax.data.randaugment import OPERATIONS, STRONGEST, rand_augment


@pytest.fixture(scope="module")
def photo():
  """A coloured image with noise whose values do not fill the scale, [24, 32, 3]."""
  y, x = np.mgrid[:24, :32]
  waves = [np.sin(x / 5 + c) + np.cos(y / (3 + c)) for c in range(3)]
  noise = np.random.default_rng(0).normal(0, 5, (24, 32, 3))
  return np.uint8(np.clip(120 + 40 * np.stack(waves, axis=-1) + noise, 20, 230))


def pillow_affine(matrix):
  """Of (x, y) about the centre, to the nearest pixel; `matrix` as in Pillow, output to input."""

  def apply(image):
    a, b, c, d, e, f = matrix
    cx, cy = image.width / 2, image.height / 2
    return image.transform(
      image.size,
      Image.Transform.AFFINE,
      (a, b, c + cx - a * cx - b * cy, d, e, f + cy - d * cx - e * cy),
    )

  return apply


PILLOW = {
  ("brightness", 0.5): lambda i: ImageEnhance.Brightness(i).enhance(1.45),
  ("brightness", -1.0): lambda i: ImageEnhance.Brightness(i).enhance(0.1),
  ("color", -0.5): lambda i: ImageEnhance.Color(i).enhance(0.55),
  ("contrast", 1.0): lambda i: ImageEnhance.Contrast(i).enhance(1.9),
  ("sharpness", 0.5): lambda i: ImageEnhance.Sharpness(i).enhance(1.45),
  ("sharpness", -1.0): lambda i: ImageEnhance.Sharpness(i).enhance(0.1),
  ("posterize", 0.5): lambda i: ImageOps.posterize(i, 6),
  ("posterize", -1.0): lambda i: ImageOps.posterize(i, 4),
  ("solarize", 0.5): lambda i: ImageOps.solarize(i, 128),
  ("autocontrast", 0.5): ImageOps.autocontrast,
  ("equalize", 0.5): ImageOps.equalize,
  ("rotate", 0.5): pillow_affine(
    (np.cos(np.pi / 12), -np.sin(np.pi / 12), 0, np.sin(np.pi / 12), np.cos(np.pi / 12), 0)
  ),
  ("shear_x", 1.0): pillow_affine((1, 0.3, 0, 0, 1, 0)),
  ("shear_y", -0.5): pillow_affine((1, 0, 0, -0.15, 1, 0)),
}


@pytest.mark.parametrize("name, strength", PILLOW)
def test_operations_do_what_pillow_does(photo, name, strength):
  found = np.asarray(jax.jit(OPERATIONS[name])(photo.astype(np.float32), strength))
  wanted = np.asarray(PILLOW[name, strength](Image.fromarray(photo)), np.float32)
  assert np.abs(wanted - photo).max() > 2  # the operation shows
  off = np.abs(found - wanted) > 1.5  # Pillow rounds on the way, and at the end
  assert off.mean() < 0.01, off.mean()  # at a pixel's edge the nearest one is a matter of rounding


def test_translation_shifts_and_leaves_black(photo):
  strength = 8 / (0.45 * 32)
  found = np.asarray(OPERATIONS["translate_x"](photo.astype(np.float32), strength))
  np.testing.assert_array_equal(found[:, :-8], photo[:, 8:])
  assert not found[:, -8:].any()
  strength = -6 / (0.45 * 24)
  found = np.asarray(OPERATIONS["translate_y"](photo.astype(np.float32), strength))
  np.testing.assert_array_equal(found[6:], photo[:-6])
  assert not found[:6].any()


@pytest.mark.slow
def test_uniform_images_and_grey_ones_survive_every_operation():
  for image in (np.full((8, 8, 1), 77.0, np.float32), np.zeros((8, 8, 3), np.float32)):
    for name, operation in OPERATIONS.items():
      found = np.asarray(operation(image, 1.0))
      assert found.shape == image.shape and np.isfinite(found).all(), name
      assert found.min() >= 0 and found.max() <= 255, name


@pytest.mark.slow
def test_all_operations_are_drawn_and_magnitude_sets_their_strength(photo):
  augment = jax.jit(jax.vmap(lambda key, m: rand_augment(key, photo, 1, m), in_axes=(0, None)))
  keys = jax.random.split(jax.random.key(0), 200)
  distinct = len(np.unique(np.asarray(augment(keys, 15.0)).reshape(200, -1), axis=0))
  # Nine have two directions; identity, posterize, solarize, autocontrast and equalize have one.
  assert distinct == 2 * 9 + 5
  change = [np.abs(np.asarray(augment(keys, m)) - photo).mean() for m in (3.0, 10.0, STRONGEST)]
  assert change[0] < change[1] < change[2]


def test_preprocessing_augments_training_images_alone(photo):
  images = np.stack([photo] * 8)
  preprocess = Preprocessing((0.5,), (0.25,), randaugment=2, magnitude=9)
  key = jax.random.key(0)
  np.testing.assert_array_equal(preprocess(images), Preprocessing((0.5,), (0.25,))(images))
  found = np.asarray(preprocess(images, key))
  assert len(np.unique(found.reshape(8, -1), axis=0)) > 4
  np.testing.assert_array_equal(found, preprocess(images, key))
  assert found.min() >= -2.0 and found.max() <= 2.0


@pytest.mark.parametrize(
  "fields", [{"randaugment": -1}, {"randaugment": 2, "magnitude": 31}, {"magnitude": -1}]
)
def test_unusable_settings_are_refused(fields):
  with pytest.raises(ValueError, match="|".join(f"{k}={v}" for k, v in fields.items())):
    Preprocessing(**fields)
