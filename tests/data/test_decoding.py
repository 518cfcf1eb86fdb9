"""From the bytes of an image to pixels: the part that is read, and images of every mode."""

import io

import numpy as np
import pytest
from jpeg_sets import SIZES
from PIL import Image

from tcljax.data import (
  decoding,
)


def test_random_boxes_lie_inside_and_are_as_announced():
  areas, ratios = [], []
  for width, height in (*SIZES, (500, 375)):
    rng = np.random.default_rng(7)
    for _ in range(200):
      left, top, w, h = decoding.random_box(rng, width, height)
      assert left >= 0 and top >= 0 and w > 0 and h > 0
      assert left + w <= width + 1e-9 and top + h <= height + 1e-9
      if (width, height) == (500, 375):
        areas.append(w * h / (500 * 375))
        ratios.append(w / h)
  # A box that would not fit is drawn again: large areas are rarer than small ones.
  assert 0.07 < min(areas) < 0.15 and max(areas) > 0.9 and 0.35 < np.mean(areas) < 0.54
  assert 0.73 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.36
  # Where none fits: the central part that is nearest to the ratios allowed.
  assert decoding.random_box(np.random.default_rng(0), 300, 20) == pytest.approx(
    (150 - 40 / 3, 0, 80 / 3, 20)
  )
  assert decoding.central_box(64, 128) == (4, 36, 56, 56)


def test_decoding_takes_the_part_asked_for():
  rows = np.arange(256, dtype=np.uint8)
  image = np.stack(np.broadcast_arrays(rows[:, None], rows[None, :], np.uint8(0)), axis=-1)
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG")
  found = decoding.decode(file.getvalue(), lambda w, h: (32, 128, 64, 64), (64, 64, 3))
  np.testing.assert_array_equal(found, image[128:192, 32:96])
  file = io.BytesIO()
  Image.fromarray(image).save(file, "JPEG", quality=100, subsampling=0)
  centre = lambda size: decoding.decode(file.getvalue(), decoding.central_box, (size, size, 3))
  # 224 pixels of 256 in 28, decoded at an eighth: means of 8x8 pixels.
  expected = image[16:240, 16:240].reshape(28, 8, 28, 8, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(centre(28)[2:-2, 2:-2], expected[2:-2, 2:-2], atol=2.5)
  np.testing.assert_allclose(centre(224), image[16:240, 16:240], atol=4)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA"])
def test_images_of_other_modes_become_rgb(mode):
  plain = Image.new("RGB", (40, 30), (90, 90, 90))
  file = io.BytesIO()
  plain.convert(mode).save(file, "JPEG" if mode in ("L", "CMYK") else "PNG")
  found = decoding.decode(file.getvalue(), decoding.central_box, (8, 8, 3))
  assert found.shape == (8, 8, 3)
  np.testing.assert_allclose(found, 90, atol=3)
  grey = decoding.decode(file.getvalue(), decoding.central_box, (8, 8, 1))
  assert grey.shape == (8, 8, 1)
  np.testing.assert_allclose(grey, 90, atol=3)
