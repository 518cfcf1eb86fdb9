"""Which examples come when. Free of JAX: worker processes read it."""

import sys

import numpy as np


class TrainingOrder:
  """The examples of each training batch: endless, and a function of the seed and the step alone.

  Each epoch is a new permutation, and batches may span two.

  Args:
    count: how many examples there are.
    batch_size: over all hosts.
    seed: of the permutations.
    part: of each batch, what this host takes.
  """

  def __init__(self, count: int, batch_size: int, seed: int, part: slice) -> None:
    self.count, self.batch_size, self.seed, self.part = count, batch_size, seed, part
    self._epoch, self._permutation = -1, np.empty(0, np.int64)  # none so far

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, step: int) -> np.ndarray:
    """Positions in the split of this host's examples of a step, counted from 0."""
    positions = step * self.batch_size + np.arange(self.batch_size)[self.part]
    epochs = positions // self.count
    chosen = np.empty(len(positions), np.int64)
    for epoch in np.unique(epochs):
      inside = epochs == epoch
      chosen[inside] = self._permuted(int(epoch))[positions[inside] % self.count]
    return chosen

  def _permuted(self, epoch: int) -> np.ndarray:
    if epoch != self._epoch:
      self._epoch = epoch
      self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.count)
    return self._permutation
