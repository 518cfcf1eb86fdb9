"""Splits of a data set: what pipelines need of one, and the kind that is held in memory."""

import dataclasses
import itertools
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from tcljax.data.orders import TrainingOrder
from tcljax.maths.inputs import as_inputs, as_labels, as_targets, check_labels

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

  @property
  def quantities(self) -> bool:
    """Whether a network is to answer quantities, and not classes."""
    ...

  def check_labels(self, shape: tuple[int, ...], num_classes: int) -> None:
    """Raises ValueError if labels are none of a network, as `maths.inputs.check_labels` does."""
    ...

  def take(self, positions: np.ndarray) -> "Examples":
    """The split of the examples at these positions, in this order."""
    ...

  def training(self, order: TrainingOrder, start: int) -> BatchStream:
    """Endless batches for training, from step `start` on: `image`, and `label` if there are any."""
    ...

  def evaluation(self, parts: Sequence[np.ndarray]) -> BatchStream:
    """A batch, as for training, for each array of positions; nothing about it is random."""
    ...


@dataclasses.dataclass(frozen=True, eq=False)  # equal to itself alone, as it holds arrays
class Split:
  """Images [N, ...] (uint8 [N, H, W, C] where they were loaded) and their labels, in memory.

  All are given as anything that NumPy makes arrays of, and held as arrays of NumPy.

  Attributes:
    images: [N, ...].
    labels: class numbers, [N], or [N, ...] where a network answers at many positions of an image;
      targets, [N, ...], of quantities; None where there are none.
    quantities: whether a network is to answer quantities, and not classes.

  Raises:
    ValueError: if the images are no real numbers, or other ones in JAX, or the labels neither class
      numbers nor targets, for each image, or entries are masked.
  """

  images: np.ndarray
  labels: Any = None
  quantities: bool = False

  def __post_init__(self) -> None:
    object.__setattr__(self, "images", np.asarray(as_inputs("images", self.images)))
    if self.labels is None:
      return
    labels = as_targets(self.labels) if self.quantities else as_labels(self.labels)
    object.__setattr__(self, "labels", labels)
    if len(self.images) != len(self.labels):
      raise ValueError(f"{len(self.images)} images have {len(self.labels)} labels: give one each")

  def __len__(self) -> int:
    return len(self.images)

  @property
  def image_shape(self) -> tuple[int, ...]:
    """Of one image."""
    return self.images.shape[1:]

  @property
  def image_dtype(self) -> np.dtype:
    """What the images are stored as."""
    return self.images.dtype

  @property
  def arrays(self) -> Batch:
    """`image`, and `label` if there are any: whole arrays, of which a batch holds some rows."""
    return {"image": self.images} | ({} if self.labels is None else {"label": self.labels})

  def check_labels(self, shape: tuple[int, ...], num_classes: int) -> None:
    """Raises ValueError if labels are none of a network, as `maths.inputs.check_labels` does."""
    if self.labels is not None:
      check_labels(self.labels, shape, num_classes)

  def take(self, positions: np.ndarray) -> "Split":
    """The split of the examples at these positions, in this order."""
    labels = None if self.labels is None else self.labels[positions]
    return Split(self.images[positions], labels, self.quantities)

  def training(self, order: TrainingOrder, start: int) -> BatchStream:
    """Endless batches, from step `start` on."""
    return self.evaluation(order[step] for step in itertools.count(start))

  def evaluation(self, parts: Iterable[np.ndarray]) -> BatchStream:
    """A batch for each array of positions."""
    arrays = self.arrays
    for part in parts:
      yield {name: array[part] for name, array in arrays.items()}
