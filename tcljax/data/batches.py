"""Batches of a split: which examples come when, for this host.

Training order is a function of the seed and the step alone, so that a run can be taken up at any
step; evaluation covers every example exactly once, the last batch being padded and masked.
"""

import contextlib
from typing import Any

import jax
import numpy as np

from tcljax.data.orders import TrainingOrder
from tcljax.data.splits import Batch, BatchStream, Examples


def _local(batch_size: int) -> slice:
  """This host's part of a batch."""
  size = batch_size // jax.process_count()
  return slice(jax.process_index() * size, (jax.process_index() + 1) * size)


def training_batches(
  split: Examples, batch_size: int, seed: int, start_step: int = 0
) -> BatchStream:
  """Endless batches; each epoch is a new permutation of the split, and batches may span two.

  Close the iterator when done: that of a streamed split has worker processes.

  Args:
    split: what to draw from.
    batch_size: over all hosts.
    seed: of the permutations and, where the split is streamed, of the crops.
    start_step: number of batches to leave out, at no cost.

  Returns:
    An iterator of dictionaries of `image` and `label`, the part of this host.

  Raises:
    ValueError: if the split is empty, or a batch larger than it.
  """
  return split.training(training_order(split, batch_size, seed), start_step)


def check_enough(field: str, batch_size: int, count: int) -> None:
  """Raises ValueError unless a batch of this size can be drawn from so many training images."""
  if not count:
    raise ValueError("there are no images to train on")
  if batch_size > count:
    raise ValueError(f"{field}={batch_size} is more than the {count} training images there are")


def training_order(split: Examples, batch_size: int, seed: int) -> TrainingOrder:
  """Which examples of a split this host takes in each step.

  Raises:
    ValueError: if the split is empty, or a batch larger than it.
  """
  check_enough("batch_size", batch_size, len(split))
  return TrainingOrder(len(split), batch_size, seed, _local(batch_size))


def evaluation_batches(split: Examples, batch_size: int, everywhere: bool = False) -> BatchStream:
  """Every example once, in order.

  Args:
    split: what to go through.
    batch_size: over all hosts; all batches have this size.
    everywhere: whether every host has all of a batch.

  Yields:
    Dictionaries of `image`, `label`, `index` (position in the split) and `mask`, which is False
    for what only fills the last batch; the part of this host.
  """
  count = len(split)
  if not count:
    raise ValueError("there are no images to evaluate on")
  part = slice(None) if everywhere else _local(batch_size)
  indices = [np.arange(start, start + batch_size)[part] for start in range(0, count, batch_size)]
  inside = [np.minimum(index, count - 1) for index in indices]
  with contextlib.closing(split.evaluation(inside)) as batches:
    for batch, index in zip(batches, indices):
      yield {**batch, "index": index, "mask": index < count}


def first_examples(split: Examples, count: int) -> Batch:
  """The first examples of a split, or all of them if there are fewer, as evaluation sees them."""
  with contextlib.closing(split.evaluation([np.arange(len(split))[:count]])) as batches:
    return next(batches)


def first_images(split: Examples, count: int) -> Any:
  """The images of `first_examples`."""
  return first_examples(split, count)["image"]
