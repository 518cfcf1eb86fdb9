"""How steps get their images: a batch from the host at a time, or all images on the device."""

from collections.abc import Callable
from typing import Any, Protocol, TypeGuard

import jax
import numpy as np
from jax.sharding import Mesh

from tcljax.data import Examples, Split
from tcljax.data.orders import TrainingOrder
from tcljax.data.splits import BatchStream
from tcljax.distributed import memory, parallel
from tcljax.kernels import targets
from tcljax.training.step import Metrics, StepFunction, TrainState

# Steps in one call where the images lie on the device. A call costs the host some milliseconds, as
# much as several steps of a small network; the metrics of as many steps are fetched together.
_STEPS_A_CALL = 64
# Of a device's memory, what the images may take that lie on it.
_SHARE_OF_MEMORY = 0.1


class Feed(Protocol):
  """Runs the next steps of training."""

  steps_a_call: int

  def __call__(
    self, state: TrainState, done: int, count: int, key: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """The state after `count` more steps, at most `steps_a_call`, where `done` are done already.

    The metrics are arrays of `count` values; scalars for a single step.
    """
    ...

  def close(self) -> None:
    """Ends what reads images."""
    ...


class OneByOne:
  """Runs steps on batches that the host makes, one call each.

  Args:
    step: from `train_step`.
    batches: numpy batches, the part of this host; the first is that of the next step.
    mesh: from `parallel.data_mesh`.
  """

  steps_a_call = 1

  def __init__(self, step: StepFunction, batches: BatchStream, mesh: Mesh) -> None:
    self._step, self._batches, self._mesh = step, batches, mesh

  def __call__(
    self, state: TrainState, done: int, count: int, key: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """The state after the next step, and its metrics."""
    del done, count
    return self._step(state, parallel.shard(self._mesh, next(self._batches)), key)

  def close(self) -> None:
    """Ends the iterator and what reads for it."""
    self._batches.close()


class OnDevice:
  """Runs steps on images that lie on every device, many in one call.

  Args:
    steps: from `train_steps`.
    split: in memory.
    order: which examples come when.
    mesh: from `parallel.data_mesh`.
  """

  steps_a_call = _STEPS_A_CALL

  def __init__(
    self, steps: Callable[..., Any], split: Split, order: TrainingOrder, mesh: Mesh
  ) -> None:
    self._steps, self._order = steps, order
    self._data = parallel.replicate(mesh, split.arrays)

  def __call__(
    self, state: TrainState, done: int, count: int, key: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """The state after `count` more steps, and their metrics, [count]."""
    # As many rows whatever the count, so that one program serves every count.
    rows = [self._order[done + min(i, count - 1)] for i in range(self.steps_a_call)]
    state, metrics = self._steps(
      state, self._data, np.stack(rows).astype(np.int32), np.int32(count), key
    )
    return state, {name: metric[:count] for name, metric in metrics.items()}

  def close(self) -> None:
    """Nothing reads images any more."""


def fits_on_device(split: Examples) -> TypeGuard[Split]:
  """Whether the images of a split may lie on each device: in memory, on one host, not on CPUs."""
  if not isinstance(split, Split) or targets.host_count() > 1 or targets.platform() == "cpu":
    return False
  return split.nbytes <= _SHARE_OF_MEMORY * (memory.of_a_device() or 0)
