"""Splits of a data set: what pipelines need of one, and the kind that is held in memory."""

import dataclasses
import itertools
from collections.abc import Generator, Iterable, Sequence
from typing import Protocol

import numpy as np

from tcljax.data.orders import TrainingOrder
from tcljax.maths.inputs import as_inputs, as_labels

Batch = dict[str, np.ndarray]
# Closing it ends what reads images for it.
BatchStream = Generator[Batch, None, None]


class Examples(Protocol):
  """A split, in memory or streamed from disk."""

  def __len__(self) -> int: ...

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Of one image, [H, W, C] where they were loaded."""
    ...

  @property
  def image_dtype(self) -> np.dtype:
    """What the images are stored as."""
    ...

  def check_classes(self, num_classes: int) -> None:
    """Raises ValueError if a label is no class of a network with `num_classes` outputs."""
    ...

  def take(self, positions: np.ndarray) -> "Examples":
    """The split of the examples at these positions, in this order."""
    ...

  def training(self, order: TrainingOrder, start: int) -> BatchStream:
    """Endless batches of `image` and `label` for training, from step `start` on."""
    ...

  def evaluation(self, parts: Sequence[np.ndarray]) -> BatchStream:
    """A batch of `image` and `label` for each array of positions; nothing about it is random."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)  # equal to itself alone, as it holds arrays
class Split:
  """Images [N, ...] (uint8 [N, H, W, C] where they were loaded) and class numbers [N], in memory.

  Both are given as anything that NumPy makes arrays of, and held as arrays of NumPy.

  Raises:
    ValueError: if the images are no real numbers, or other ones in JAX, or the labels not class
      numbers, one for each, or entries are masked.
  """

  images: np.ndarray
  labels: np.ndarray

  def __post_init__(self) -> None:
    object.__setattr__(self, "images", np.asarray(as_inputs("images", self.images)))
    object.__setattr__(self, "labels", as_labels(self.labels))
    if len(self.images) != len(self.labels):
      raise ValueError(f"{len(self.images)} images have {len(self.labels)} labels: give one each")

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Of one image."""
    return self.images.shape[1:]

  @property
  def image_dtype(self) -> np.dtype:
    """What the images are stored as."""
    return self.images.dtype

  def check_classes(self, num_classes: int) -> None:
    """Raises ValueError if a label is no class of a network with `num_classes` outputs."""
    if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < num_classes:
      raise ValueError(
        f"labels run from {self.labels.min()} to {self.labels.max()}, the network "
        f"has classes 0 to {num_classes - 1}"
      )

  def take(self, positions: np.ndarray) -> "Split":
    """The split of the examples at these positions, in this order."""
    return Split(self.images[positions], self.labels[positions])

  def training(self, order: TrainingOrder, start: int) -> BatchStream:
    """Endless batches of `image` and `label`, from step `start` on."""
    return self.evaluation(order[step] for step in itertools.count(start))

  def evaluation(self, parts: Iterable[np.ndarray]) -> BatchStream:
    """A batch of `image` and `label` for each array of positions."""
    for part in parts:
      yield {"image": self.images[part], "label": self.labels[part]}
