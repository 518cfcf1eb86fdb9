"""Splits of a data set: what pipelines need of one, and the kind that is held in memory."""

import dataclasses
import itertools
import operator
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from tcljax.data.orders import TrainingOrder
from tcljax.maths.inputs import as_inputs, as_labels, as_targets, check_all_finite, check_labels
from tcljax.maths.trees import (
  Path,
  Shapes,
  at,
  check_places,
  count,
  map_by_path,
  map_named,
  place,
  present,
  without_batch,
)

# `image`, `label` and what else there is of each example, as arrays or trees of arrays.
Batch = dict[str, Any]
# Closing it ends what reads images for it.
BatchStream = Generator[Batch, None, None]


class Examples(Protocol):
  """A split, in memory or streamed from disk."""

  def __len__(self) -> int: ...

  @property
  def image_shape(self) -> Shapes:
    """Of one image, [H, W, C] where they were loaded."""
    ...

  @property
  def image_dtype(self) -> Any:
    """What the images are stored as."""
    ...

  @property
  def outputs(self) -> Any:
    """What a network is to answer: "classes", "quantities", or a tree of these."""
    ...

  def check_labels(self, wanted: "LabelsByOutput") -> None:
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


# For each output of a network, the shape that labels of one example have, and how many classes.
LabelsByOutput = Mapping[Path, tuple[tuple[int, ...], int]]


@dataclasses.dataclass(frozen=True, eq=False)  # equal to itself alone, as it holds arrays
class Split:
  """Images [N, ...] (uint8 [N, H, W, C] where they were loaded) and their labels, in memory.

  All are given as anything that NumPy makes arrays of, and held as arrays of NumPy.

  Attributes:
    images: [N, ...], or a tree of such where a network takes several arrays.
    labels: class numbers, [N], or [N, ...] where a network answers at many positions of an image;
      targets, [N, ...], of quantities; None where there are none. Of several outputs a tree, which
      may leave some out.
    outputs: what a network is to answer: "classes", "quantities", or a tree of these.

  Raises:
    ValueError: if the images are no real numbers, or other ones in JAX, or the labels neither class
      numbers nor targets, for each image, or entries are masked, NaN or infinite.
  """

  images: Any
  labels: Any = None
  outputs: Any = "classes"

  def __post_init__(self) -> None:
    images = jax.tree.map(np.asarray, as_inputs("images", self.images))
    map_named(check_all_finite, "images", images)
    object.__setattr__(self, "images", images)
    if self.labels is not None:
      object.__setattr__(self, "labels", map_by_path(self._as_labels, "labels", self.labels))

  def _as_labels(self, path: Path, labels: Any) -> Any:
    """The labels of the output at a path; None where it has none."""
    if labels is None:
      return None
    kind = self.outputs if isinstance(self.outputs, str) else at(self.outputs, path)
    field = f"labels{place(path)}"
    found = (as_targets if kind == "quantities" else as_labels)(field, labels)
    check_all_finite(field, found)
    if len(self) != len(found):
      where = f" for output {place(path)}" if path else ""
      raise ValueError(f"{len(self)} images have {len(found)} labels{where}: give one each")
    return found

  def __len__(self) -> int:
    return count(self.images)

  @property
  def image_shape(self) -> Shapes:
    """Of one image."""
    return without_batch(self.images)

  @property
  def image_dtype(self) -> Any:
    """What the images are stored as."""
    return jax.tree.map(lambda images: images.dtype, self.images)

  @property
  def nbytes(self) -> int:
    """Bytes that the images take."""
    return sum(images.nbytes for images in jax.tree.leaves(self.images))

  @property
  def arrays(self) -> Batch:
    """`image`, and `label` if there are any: whole arrays, of which a batch holds some rows."""
    return {"image": self.images} | ({} if self.labels is None else {"label": self.labels})

  def check_labels(self, wanted: LabelsByOutput) -> None:
    """Raises ValueError if labels are none of a network, as `maths.inputs.check_labels` does."""
    found = present(self.labels)
    check_places("labels", found, [*wanted], "output")
    for path, labels in found.items():
      check_labels(f"labels{place(path)}", labels, *wanted[path])

  def take(self, positions: np.ndarray) -> "Split":
    """The split of the examples at these positions, in this order."""
    images, labels = jax.tree.map(lambda a: a[positions], (self.images, self.labels))
    return Split(images, labels, self.outputs)

  def training(self, order: TrainingOrder, start: int) -> BatchStream:
    """Endless batches, from step `start` on."""
    return self.evaluation(order[step] for step in itertools.count(start))

  def evaluation(self, parts: Iterable[np.ndarray]) -> BatchStream:
    """A batch for each array of positions."""
    arrays = self.arrays
    for part in parts:
      yield jax.tree.map(operator.itemgetter(part), arrays)
