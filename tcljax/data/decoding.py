"""From stored examples to batches of equal images: what worker processes do.

Free of JAX, which is of no use in a worker and whose devices are not to be touched there.
"""

import functools
import io
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from tcljax.data.orders import TrainingOrder

# Of the image's area, and width by height: the random crops of Szegedy et al. (CVPR 2015).
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_TRIES = 10
# Of the shorter side, what the central crop of evaluation keeps.
_CENTRE = 224 / 256
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Images tried in the place of one that cannot be read; that none can be is no accident any more.
_REPLACEMENTS = 20

Box = tuple[float, float, float, float]


class BadExample(ValueError):
  """A stored example that cannot be used; the message names it."""


class UnreadableImage(BadExample):
  """An image file that is damaged, cut short, or none at all."""


def random_box(rng: np.random.Generator, width: int, height: int) -> Box:
  """A random part of an image: left, top, width, height in pixels.

  A uniform share of the area, 8 % to all of it, at a ratio of the sides from 3:4 to 4:3 that is
  uniform on a logarithmic scale. Where no such part fits, the largest one in the centre that has
  an admissible ratio.
  """
  for _ in range(_TRIES):
    area = rng.uniform(*_AREA) * width * height
    ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
  w = min(width, height * _RATIO[1])
  h = min(height, width / _RATIO[0])
  return (width - w) / 2, (height - h) / 2, w, h


def central_box(width: int, height: int) -> Box:
  """What is left when the shorter side is scaled to 256 and 224x224 are cut out of the centre."""
  side = _CENTRE * min(width, height)
  return (width - side) / 2, (height - side) / 2, side, side


def covering_box(width: int, height: int, target: tuple[int, int]) -> Box:
  """The largest part in the centre with the ratio of sides of `target`, its width and height."""
  scale = min(width / target[0], height / target[1])
  w, h = target[0] * scale, target[1] * scale
  return (width - w) / 2, (height - h) / 2, w, h


def decode(
  data: bytes, choose_box: Callable[[int, int], Box], shape: tuple[int, int, int]
) -> np.ndarray:
  """Decodes an image file and brings a part of it to uint8 of the given shape.

  A JPEG is decoded at a half, a quarter or an eighth of its size where that still has as many
  pixels as are wanted.

  Args:
    data: the file.
    choose_box: from the width and the height to the part that is taken.
    shape: [H, W, C] of the result; grey, palette and CMYK images become RGB for C = 3.

  Raises:
    UnreadableImage: if Pillow cannot decode the file.
  """
  rows, columns, channels = shape
  try:
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    left, top, w, h = choose_box(width, height)
    image.draft(MODES[channels], (math.ceil(columns * width / w), math.ceil(rows * height / h)))
    image.load()
  except UnidentifiedImageError as error:
    raise UnreadableImage("it is no image that Pillow knows") from error
  except Exception as error:  # of many kinds, by the format and the damage
    raise UnreadableImage(str(error).partition("\n")[0] or type(error).__name__) from error
  x, y = image.width / width, image.height / height
  box = (left * x, top * y, min((left + w) * x, image.width), min((top + h) * y, image.height))
  if image.mode != MODES[channels]:
    image = image.convert(MODES[channels])
  resized = image.resize((columns, rows), Image.Resampling.BILINEAR, box=box)
  return np.asarray(resized).reshape(shape)


def decode_named(
  number: int,
  example: dict[str, Any],
  choose_box: Callable[[int, int], Box],
  shape: tuple[int, int, int],
) -> np.ndarray:
  """`decode` of an example's image, with an error that names it."""
  try:
    return decode(example["image"], choose_box, shape)
  except UnreadableImage as error:
    raise UnreadableImage(
      f"image {_name(number, example)} cannot be read: {error}{_where(example)}"
    ) from None


class Batches:
  """Decoded batches by their number: what Grain hands to its workers.

  Args:
    source: examples by their number, each with `image` (the file's bytes) and `label`.
    rows: numbers of the examples of the split, in its order.
    order: for each batch the positions in the split.
    start: the first batch.
    image_shape: [H, W, C] of all images.
    num_classes: labels are 0 to `num_classes` - 1.

  With a `TrainingOrder` parts are chosen at random, as a function of seed, step and place in the
  batch alone. So is the image that takes the place of one that cannot be read. With any other order
  the parts are central and an unreadable image is an error.
  """

  def __init__(
    self,
    source: Any,
    rows: np.ndarray,
    order: TrainingOrder | Sequence[np.ndarray],
    start: int,
    image_shape: tuple[int, int, int],
    num_classes: int,
  ) -> None:
    self._source, self._rows, self._order, self._start = source, rows, order, start
    self._shape, self._num_classes = image_shape, num_classes

  def __len__(self) -> int:
    return len(self._order) - self._start

  def __getitem__(self, index: int) -> dict[str, Any]:
    """`image` [B, H, W, C] uint8, `label` [B], and `unreadable`: name and fault of each such one.

    Raises:
      UnreadableImage: if an image cannot be read and none may take its place, or none can.
      BadExample: if a label is not that of a class.
    """
    step = self._start + index
    rows = self._rows[self._order[step]]
    batch = {
      "image": np.empty((len(rows), *self._shape), np.uint8),
      "label": np.empty(len(rows), np.int32),
      "unreadable": [],
    }
    for i, example in enumerate(self._source.__getitems__(rows.tolist())):
      if isinstance(self._order, TrainingOrder):
        place = (self._order.seed, step, self._order.part.start + i)
        found = self._any_readable(int(rows[i]), example, place, batch["unreadable"])
      else:
        check_label(int(rows[i]), example, self._num_classes)
        found = (decode_named(int(rows[i]), example, central_box, self._shape), example["label"])
      batch["image"][i], batch["label"][i] = found
    return batch

  def _any_readable(
    self,
    row: int,
    example: dict[str, Any],
    place: tuple[int, int, int],
    unreadable: list[tuple[str, str]],
  ) -> tuple[np.ndarray, int]:
    """Image and label; what is drawn depends on `place` alone: seed, step, place in the batch."""
    for attempt in range(1 + _REPLACEMENTS):
      # Not 0 at the end: [seed, epoch], of the permutations, is the same as [seed, epoch, 0, 0].
      rng = np.random.default_rng([*place, attempt + 1])
      check_label(row, example, self._num_classes)
      try:
        box = functools.partial(random_box, rng)
        return decode(example["image"], box, self._shape), example["label"]
      except UnreadableImage as error:
        unreadable.append((_name(row, example), f"{error}{_where(example)}"))
      row = int(self._rows[rng.integers(len(self._rows))])
      example = self._source[row]
    raise UnreadableImage(
      f"of {1 + _REPLACEMENTS} images drawn in turn none can be read, the last "
      f"being {unreadable[-1][0]}: {unreadable[-1][1]}"
    )


def end_with_parent(worker: int, workers: int) -> None:
  """Makes this worker process end when its parent does, also by a signal that cannot be caught.

  Ctrl-C, which a terminal sends to workers too, is for the parent to see to.
  """
  del worker, workers  # what Grain tells each worker
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def watch():
    cast(BaseProcess, multiprocessing.parent_process()).join()  # None in the main process alone
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def check_label(number: int, example: dict[str, Any], num_classes: int) -> None:
  """Raises BadExample if the label of an example is that of no class."""
  label = example["label"]
  if not hasattr(label, "__index__") or np.ndim(label) or not 0 <= label < num_classes:
    raise BadExample(
      f"image {_name(number, example)} has label {label}, classes are 0 "
      f"to {num_classes - 1}: choose splits that have labels{_where(example)}"
    )


def _name(number: int, example: dict[str, Any]) -> str:
  """What the set itself calls the example; else its place among those that are stored."""
  for feature in ("file_name", "id"):
    if feature in example:
      name = example[feature]
      return repr(name.decode(errors="replace") if isinstance(name, bytes) else name)
  return f"number {number}"


def _where(example: dict[str, Any]) -> str:
  """The file that the example lies in, if it is known."""
  return f" (in {example['shard']})" if "shard" in example else ""
