import itertools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.data import (
  Preprocessing,
  Split,
  evaluation_batches,
  load_dataset,
  training_batches,
)

CIFAR = pathlib.Path(os.environ.get("TFDS_DATA_DIR", "")) / "cifar10"
needs_cifar = pytest.mark.skipif(
  not os.environ.get("TFDS_DATA_DIR") or not CIFAR.is_dir(),
  reason="TFDS_DATA_DIR does not hold cifar10",
)


def split(count):
  labels = np.arange(count, dtype=np.int32)
  return Split(
    np.broadcast_to(labels[:, None, None, None], (count, 2, 2, 1)).astype(np.uint8), labels
  )


def rows(images):
  return {image.tobytes() for image in images}


def test_digits_are_whole_and_disjoint():
  data = load_dataset("digits", validation=137)
  sizes = [len(part.labels) for part in (data.train, data.validation, data.test)]
  assert sizes == [1300, 137, 360] and data.num_classes == 10
  assert data.train.images.dtype == np.uint8 and data.train.images.max() == 255
  # All 1,797 images are distinct, so that a shared one would show.
  parts = [rows(part.images) for part in (data.train, data.validation, data.test)]
  assert len(set().union(*parts)) == sum(map(len, parts)) == 1797
  np.testing.assert_allclose(np.bincount(data.test.labels), 36, atol=1.01)  # stratified


def test_what_is_set_aside_does_not_depend_on_how_much():
  few, many = (load_dataset("digits", validation=n) for n in (50, 100))
  assert rows(few.validation.images) <= rows(many.validation.images)


def test_an_epoch_holds_every_example_once():
  batches = training_batches(split(10), batch_size=4, seed=0)
  order = np.concatenate([next(batches)["label"] for _ in range(10)])  # 4 epochs
  epochs = order.reshape(4, 10)
  for epoch in epochs:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
  assert not np.array_equal(epochs[0], epochs[1])
  other = next(training_batches(split(10), 4, seed=1))["label"]
  assert not np.array_equal(order[:4], other)


@pytest.mark.parametrize("start", [1, 3, 7])
def test_batches_can_be_taken_up_at_any_step(start):
  whole = list(itertools.islice(training_batches(split(10), 4, seed=3), 12))
  later = list(itertools.islice(training_batches(split(10), 4, seed=3, start_step=start), 5))
  for a, b in zip(whole[start:], later):
    np.testing.assert_array_equal(a["label"], b["label"])
    np.testing.assert_array_equal(a["image"], b["image"])


def test_evaluation_pads_and_masks():
  batches = list(evaluation_batches(split(10), 4))
  assert [len(b["label"]) for b in batches] == [4, 4, 4]
  mask = np.concatenate([b["mask"] for b in batches])
  labels = np.concatenate([b["label"] for b in batches])
  np.testing.assert_array_equal(labels[mask], np.arange(10))


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


@pytest.mark.parametrize(
  "options, message",
  [
    ({"name": "digit"}, "data set 'digit' is unknown; the nearest is 'digits'"),
    ({"name": "cifar11", "data_dir": "nowhere"}, "'cifar11' is unknown; the nearest is 'cifar10"),
    (
      {"name": "mnist", "data_dir": "nowhere"},
      "'mnist' is not prepared in nowhere; run: .*tfds build mnist --file_format=array_record",
    ),
    ({"name": "digits", "train_split": "train[:5]"}, "digits has the splits 'train' and 'test'"),
    ({"name": "digits", "image_size": 32}, "image_size=32: the images of digits are 8x8"),
    ({"name": "cifar10", "image_size": -3}, "image_size=-3 must be at least 1"),
    ({"name": "digits", "validation": 2000}, "validation=2000 must be at least 0 and leave"),
  ],
)
def test_bad_data_sets(options, message):
  with pytest.raises(ValueError, match=message):
    load_dataset(**options)


def test_bad_preprocessing():
  with pytest.raises(ValueError, match="shift=-1"):
    Preprocessing(shift=-1)
  with pytest.raises(ValueError, match=r"std=\(0.0,\) must be positive"):
    Preprocessing(std=(0.0,))


@needs_cifar
def test_cifar10_is_read_without_tensorflow():
  data = load_dataset("cifar10", train_split="train[:60]", test_split="test[10:40]", validation=10)
  assert data.train.images.shape == (50, 32, 32, 3) and data.test.images.shape == (30, 32, 32, 3)
  assert data.num_classes == 10 and 90 < data.train.images.mean() < 150
  small = load_dataset("cifar10", train_split="train[:4]", test_split="test[:4]", image_size=20)
  assert small.train.images.shape == (4, 20, 20, 3)


@needs_cifar
@pytest.mark.parametrize(
  "train, test, message",
  [
    ("train", "train[:10]", "'train' and 'train.:10.' share images"),
    ("train[:60%]", "train[50%:]", "share images"),
    ("train+test", "test", "share images"),
    ("valid", "test", "data split 'valid' is not understood; there are train, test"),
    ("train[:x]", "test", "is not understood"),
    ("train[3:3]", "test", "is empty"),
  ],
)
def test_splits_must_exist_and_be_disjoint(train, test, message):
  with pytest.raises(ValueError, match=message):
    load_dataset("cifar10", train_split=train, test_split=test)
