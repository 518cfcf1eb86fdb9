"""Normalisation and random changes of training images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.data import (
  Preprocessing,
)


def test_normalisation():
  images = np.array([[[[0, 255, 51]]]], np.uint8)
  found = Preprocessing((0.5, 0.0, 0.2), (0.5, 1.0, 0.1))(images)
  np.testing.assert_allclose(found, [[[[-1, 1, 0]]]], atol=1e-6)


def test_augmentation_shifts_flips_and_cuts_out():
  images = jnp.asarray(np.random.default_rng(0).integers(1, 256, (64, 6, 6, 1)), jnp.uint8)
  keys = jax.random.key(0)
  plain = Preprocessing()(images)
  flipped = Preprocessing(flip=True)(images, keys)
  mirrored = np.asarray(plain[:, :, ::-1])
  is_flipped = np.all(flipped == mirrored, axis=(1, 2, 3))
  is_plain = np.all(flipped == plain, axis=(1, 2, 3))
  assert np.all(is_flipped ^ is_plain) and 15 < is_flipped.sum() < 49
  shifted = np.asarray(Preprocessing(shift=1)(images, keys))
  padded = np.pad(np.asarray(plain), ((0, 0), (1, 1), (1, 1), (0, 0)))
  offsets = set()
  for image, border in zip(shifted, padded):
    hits = [
      (i, j)
      for i in range(3)
      for j in range(3)
      if np.array_equal(image, border[i : i + 6, j : j + 6])
    ]
    assert len(hits) == 1
    offsets.add(hits[0])
  assert len(offsets) == 9
  cut = np.asarray(Preprocessing(cutout=3)(images, keys))
  zeros = (cut == 0).sum(axis=(1, 2, 3))
  assert zeros.max() == 9 and zeros.min() >= 4  # at a corner, part of the square is outside
  np.testing.assert_array_equal(cut[cut != 0], np.asarray(plain)[cut != 0])


def test_what_is_drawn_for_a_sequence_holds_for_all_its_frames():
  image = np.random.default_rng(0).integers(0, 256, (16, 6, 6, 2)).astype(np.uint8)
  sequences = np.stack([image, image // 2, image], axis=1)
  preprocess = Preprocessing((0.1, 0.2), (0.5, 0.6), shift=1, flip=True, cutout=2)
  for key in (None, jax.random.key(0)):
    found = preprocess(sequences, key)
    for frame in (0, 2):
      np.testing.assert_array_equal(found[:, frame], preprocess(image, key))
    np.testing.assert_array_equal(found[:, 1], preprocess(image // 2, key))


def test_bad_preprocessing():
  with pytest.raises(ValueError, match="shift=-1"):
    Preprocessing(shift=-1)
  with pytest.raises(ValueError, match=r"std=\(0.0,\) must be positive"):
    Preprocessing(std=(0.0,))
