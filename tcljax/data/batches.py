"""Batches of a data set in memory: which examples come when, for this host.

Training order is a function of the seed and the step alone, so that a run can be taken up at any
step; evaluation covers every example exactly once, the last batch being padded and masked.
"""

from collections.abc import Iterator

import jax
import numpy as np

from tcljax.data.sources import Split


def _local(batch_size: int) -> slice:
  """This host's part of a batch."""
  size = batch_size // jax.process_count()
  return slice(jax.process_index() * size, (jax.process_index() + 1) * size)


def training_batches(
    split: Split, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[dict[str, np.ndarray]]:
  """Endless batches; each epoch is a new permutation of the split, and batches may span two.

  Args:
    split: what to draw from.
    batch_size: over all hosts.
    seed: of the permutations.
    start_step: number of batches to leave out, at no cost.

  Yields:
    Dictionaries of `image` and `label`, the part of this host.
  """
  count = len(split.labels)
  if not count:
    raise ValueError("there are no images to train on")
  order, epoch = None, None
  position = start_step * batch_size
  while True:
    indices = np.empty(batch_size, np.int64)
    filled = 0
    while filled < batch_size:
      if position // count != epoch:
        epoch = position // count
        order = np.random.default_rng([seed, epoch]).permutation(count)
      start = position % count
      take = min(batch_size - filled, count - start)
      indices[filled:filled + take] = order[start:start + take]
      filled, position = filled + take, position + take
    chosen = indices[_local(batch_size)]
    yield {"image": split.images[chosen], "label": split.labels[chosen]}


def evaluation_batches(split: Split, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
  """Every example once, in order.

  Args:
    split: what to go through.
    batch_size: over all hosts; all batches have this size.

  Yields:
    Dictionaries of `image`, `label`, `index` (position in the split) and `mask`, which is False
    for what only fills the last batch; the part of this host.
  """
  count = len(split.labels)
  if not count:
    raise ValueError("there are no images to evaluate on")
  for start in range(0, count, batch_size):
    index = np.arange(start, start + batch_size)[_local(batch_size)]
    inside = np.minimum(index, count - 1)
    yield {"image": split.images[inside], "label": split.labels[inside],
           "index": index, "mask": index < count}
