"""Batches of sets in memory: each example once an epoch, from any step on, padded and masked."""

import itertools

import numpy as np
import pytest

from tcljax.data import (
  Split,
  evaluation_batches,
  training_batches,
)


def split(count):
  labels = np.arange(count, dtype=np.int32)
  return Split(
    np.broadcast_to(labels[:, None, None, None], (count, 2, 2, 1)).astype(np.uint8), labels
  )


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
