"""Splits that are read from disk while they are used, by worker processes."""

import dataclasses
import gc
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from tcljax.data.decoding import BadExample, Batches, end_with_parent
from tcljax.data.orders import TrainingOrder
from tcljax.data.records import one_line
from tcljax.data.splits import BatchStream, LabelsByOutput

AUTOMATIC = -1
# A worker has about four finished batches in memory; more workers than this are asked for by their
# number.
_MOST_WORKERS = 32
# Batches come through pipes, never through shared memory. Pipes are faster up to some megabytes and
# as fast beyond; shared memory would be left behind by a process that ends at once, and containers
# have little of it.
_NEVER = 1 << 62
_log = logging.getLogger(__name__)


class LostWorker(BadExample):
  """A process that reads examples was ended from outside."""


def resolve_workers(workers: int) -> int:
  """The number of processes; automatically one for each core this process may run on.

  Raises:
    ValueError: if it is neither `AUTOMATIC` nor a number from 0 on.
  """
  if workers < AUTOMATIC:
    raise ValueError(
      f"workers={workers} must be a number of processes, 0 to decode in the "
      f"main one, or {AUTOMATIC} for one a core"
    )
  if workers != AUTOMATIC:
    return workers
  own = getattr(os, "sched_getaffinity", None)  # not on every system
  return min(_MOST_WORKERS, len(own(0)) if own else os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class StreamedSplit:
  """Encoded images on disk, decoded and cropped to one size when a batch is made of them.

  Attributes:
    source: examples by their number, each with `image` (a file's bytes) and `label`; it has
      `__getitem__` and `__getitems__`, and can be pickled.
    rows: numbers of the examples of this split, [N].
    image_shape: [H, W, C] of the images as they are handed out, H = W.
    num_classes: labels are 0 to `num_classes` - 1.
    workers: processes that decode; 0 decodes in this one.
  """

  source: Any
  rows: np.ndarray
  image_shape: tuple[int, int, int]
  num_classes: int
  workers: int

  def __len__(self) -> int:
    return len(self.rows)

  @property
  def image_dtype(self) -> np.dtype:
    """What the decoded images are."""
    return np.dtype(np.uint8)

  @property
  def outputs(self) -> str:
    """What a network is to answer: classes."""
    return "classes"

  def check_labels(self, wanted: LabelsByOutput) -> None:
    """Raises ValueError if the set has classes that a network lacks, or one that it looks for."""
    if [*wanted] != [()]:
      raise ValueError(f"the data set has one class an image, the network {len(wanted)} outputs")
    shape, num_classes = wanted[()]
    if shape:
      raise ValueError(f"the data set has one class an image, the network {shape} of them")
    if self.num_classes > num_classes:
      raise ValueError(
        f"the data set has classes 0 to {self.num_classes - 1}, the network has "
        f"classes 0 to {num_classes - 1}"
      )

  def take(self, positions: np.ndarray) -> "StreamedSplit":
    """The split of the examples at these positions, in this order."""
    return dataclasses.replace(self, rows=self.rows[positions])

  def training(self, order: TrainingOrder, start: int) -> BatchStream:
    """Endless batches of random crops, from step `start` on; what came before is not read.

    An image that cannot be read is named in the log, once, and another takes its place.
    """
    return self._decoded(order, start)

  def evaluation(self, parts: Sequence[np.ndarray]) -> BatchStream:
    """A batch of central crops for each array of positions.

    Raises:
      UnreadableImage: while iterating, if one cannot be read.
    """
    return self._decoded(parts, 0)

  def _decoded(self, order: TrainingOrder | Sequence[np.ndarray], start: int) -> BatchStream:
    import grain  # only streamed sets need it, and it takes a second

    if not flags.FLAGS.is_parsed():  # Grain reads its own among absl's global flags
      flags.FLAGS.mark_as_parsed()
    batches = Batches(self.source, self.rows, order, start, self.image_shape, self.num_classes)
    # An element is a whole batch: one worker makes it, in one thread.
    pipeline = grain.MapDataset.source(batches).to_iter_dataset(
      grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    )
    options = grain.experimental.DatasetOptions(min_shm_size=_NEVER)
    iterator = iter(
      grain.experimental.WithOptionsIterDataset(pipeline, options).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=min(self.workers, len(batches))),
        worker_init_fn=end_with_parent,
      )
    )
    named = set()
    try:
      for batch in iterator:
        for name, fault in batch.pop("unreadable"):
          if name not in named:
            named.add(name)
            _log.warning(
              "training image %s cannot be read: %s; another takes its place, as for %d so far",
              name,
              fault,
              len(named),
            )
        yield batch
    except BadExample as error:
      raise error.with_traceback(None) from None  # Grain's frames, which hold batches
    except RuntimeError as error:  # what Grain makes of a process that is no longer there
      if not self.workers:
        raise
      raise LostWorker(
        f"a process that reads images has ended: {one_line(error)}. Is there enough memory? Fewer "
        "workers take less"
      ) from error
    finally:
      iterator.close()
      del iterator
      gc.collect()  # Grain leaves batches and queues in circles of references
