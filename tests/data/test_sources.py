"""Data sets: what they hold, splits that share no image, and what is told of other names."""

import numpy as np
import pytest
from real_data import needs_cifar

from tcljax.data import load_dataset


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
    ({"name": "event_digits", "image_size": 8}, "image_size=8: the images of event_digits are 20x"),
    ({"name": "event_digits/0"}, "name='event_digits/0' must end in a number of frames from 1 to"),
    ({"name": "event_digits/"}, "name='event_digits/' must end in a number of frames from 1 to"),
    ({"name": "digits/8"}, "'digits/8' is"),
    ({"name": "cifar10", "image_size": -3}, "image_size=-3 must be at least 1"),
    ({"name": "digits", "validation": 2000}, "validation=2000 must be at least 0 and leave"),
  ],
)
def test_bad_data_sets(options, message):
  with pytest.raises(ValueError, match=message):
    load_dataset(**options)


@needs_cifar
def test_cifar10_is_read_without_tensorflow():
  data = load_dataset("cifar10", train_split="train[:60]", test_split="test[10:40]", validation=10)
  assert data.train.images.shape == (50, 32, 32, 3) and data.test.images.shape == (30, 32, 32, 3)
  assert data.class_names[3] == "cat" and len(data.class_names) == data.num_classes == 10
  assert 90 < data.train.images.mean() < 150
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
