"""Classification sets: the embedded digits, still or moving, or any image set prepared by TFDS.

They are held in memory as uint8, or streamed if they are too large for that. TFDS sets are read
straight from their directory, without TensorFlow and without a network.
"""

import dataclasses
import functools
from typing import Any, cast

import numpy as np

from tcljax.data.decoding import check_label, covering_box, decode_named
from tcljax.data.events import frames_by_time
from tcljax.data.prepared import open_prepared
from tcljax.data.records import Records
from tcljax.data.saccades import record, sensor_size
from tcljax.data.splits import Examples, Split
from tcljax.data.streaming import AUTOMATIC, StreamedSplit, resolve_workers

# Above this a set is streamed.
_MEMORY_LIMIT = 8 << 30
# Which examples are set aside must not depend on the seed of a run: a choice made on them holds
# for every seed.
_SPLIT_SEED = 0
_EVENT_FRAMES, _MOST_FRAMES = 16, 1000


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Three disjoint splits; `validation` is empty unless asked for.

  Attributes:
    name: as it was asked for.
    train: to train, calibrate and tune on.
    validation: training images set aside, for choices.
    test: for the reported numbers alone.
    num_classes: labels are 0 to `num_classes` - 1.
    class_names: of the classes in their order; none where the set does not name them.
  """

  name: str
  train: Examples
  validation: Examples
  test: Examples
  num_classes: int
  class_names: tuple[str, ...] = ()

  @property
  def frames(self) -> int:
    """Frames of each example, [T, H, W, C]; 0 where examples are images."""
    shape = self.test.image_shape
    return shape[0] if len(shape) == 4 else 0


def load_dataset(
  name: str,
  data_dir: str | None = None,
  train_split: str = "train",
  test_split: str = "test",
  validation: int = 0,
  image_size: int = 0,
  stream: bool = False,
  workers: int = AUTOMATIC,
) -> Dataset:
  """Reads a data set.

  Args:
    name: "digits" (scikit-learn's 1,797 real 8x8 images, 20 % of them held out as test set),
      "event_digits" (the same as an event camera records them while they move, see
      `tcljax.data.saccades`, binned by time into 16 frames of 20x20 with two polarities, or into 8
      as "event_digits/8"), or the name of a TFDS set, "cifar10" or "dataset/config".
    data_dir: where TFDS sets lie; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    train_split: in TFDS notation, such as "train[:80%]".
    test_split: in TFDS notation; it shares no images with `train_split`.
    validation: number of training images to set aside, the same ones for every seed.
    image_size: side to which images are brought (shorter side scaled, centre cut out); 0 keeps
      their own size, which all must share. Streamed images are cropped to it: at random for
      training, else from the centre.
    stream: whether to read the images from disk while they are used; always so if they would take
      more than 8 GiB of memory. Such a set is in the order in which it is stored.
    workers: processes that decode what is streamed, on each host; 0 decodes in the main one, -1
      takes one for each core.

  Raises:
    ValueError: naming what is unknown, not prepared or unsuitable, and the remedy.
  """
  if image_size < 0:
    raise ValueError(f"image_size={image_size} must be at least 1, or 0 for the images' own")
  workers = resolve_workers(workers)
  kind, _, frames = name.partition("/")
  if kind == "event_digits":
    time_steps = _frames_of(name, frames)
    train, test, classes, names = _digits(kind, train_split, test_split, image_size, stream)
    train, test = _recorded(time_steps, train, test)
  elif name == "digits":
    train, test, classes, names = _digits(name, train_split, test_split, image_size, stream)
  else:
    train, test, classes, names = _tfds(
      name, data_dir, train_split, test_split, image_size, stream, workers
    )
  check_validation(validation, len(train))
  order = np.random.default_rng(_SPLIT_SEED).permutation(len(train))
  kept, aside = np.sort(order[validation:]), np.sort(order[:validation])
  kept_images = train.take(kept) if validation else train
  return Dataset(name, kept_images, train.take(aside), test, classes, names)


def check_validation(validation: int, count: int) -> None:
  """Raises ValueError unless so many of the training images can be set aside."""
  if not 0 <= validation < count:
    raise ValueError(
      f"validation={validation} must be at least 0 and leave some of the {count} training images"
    )


def _digits(
  name: str, train_split: str, test_split: str, image_size: int, stream: bool
) -> tuple[Split, Split, int, tuple[str, ...]]:
  from sklearn import datasets, model_selection  # slow to import, and needed only here

  if (train_split, test_split) != ("train", "test"):
    raise ValueError(
      f"train_split={train_split!r}, test_split={test_split!r}: {name} "
      "has the splits 'train' and 'test' and no parts of them"
    )
  side = 8 if name == "digits" else sensor_size(8)[0]
  if image_size not in (0, side):
    raise ValueError(f"image_size={image_size}: the images of {name} are {side}x{side}")
  if stream:
    raise ValueError(f"stream=True: {name} are not stored on disk, they stay in memory")
  images, labels = cast(tuple, datasets.load_digits(return_X_y=True))
  images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
  parts: Any = model_selection.train_test_split(  # arrays where it is given arrays
    images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=_SPLIT_SEED
  )
  return Split(parts[0], parts[2]), Split(parts[1], parts[3]), 10, tuple("0123456789")


def _frames_of(name: str, frames: str) -> int:
  """The number of frames that the name of a set of events ends in."""
  if not frames and "/" not in name:
    return _EVENT_FRAMES
  if not frames.isdecimal() or not 1 <= int(frames) <= _MOST_FRAMES:
    raise ValueError(
      f"name={name!r} must end in a number of frames from 1 to {_MOST_FRAMES}, such as "
      f"event_digits/{_EVENT_FRAMES}"
    )
  return int(frames)


def _recorded(frames: int, *splits: Split) -> tuple[Split, ...]:
  """Splits of digits as an event camera records them while they move."""
  rng = np.random.default_rng(_SPLIT_SEED)
  found = []
  for split in splits:
    size = sensor_size(split.image_shape[0])
    recorded = record(split.images[..., 0] / 255, rng)
    sequences = [frames_by_time(events, size, frames).astype(np.uint8) for events in recorded]
    found.append(Split(np.stack(sequences), split.labels))
  return tuple(found)


def _tfds(
  name: str,
  data_dir: str | None,
  train_split: str,
  test_split: str,
  image_size: int,
  stream: bool,
  workers: int,
) -> tuple[Examples, Examples, int, tuple[str, ...]]:
  prepared = open_prepared(name, data_dir)
  prepared.check_disjoint(train_split, test_split)
  sources = [prepared.records(split) for split in (train_split, test_split)]
  height, width, channels = prepared.image_shape
  if image_size:
    height = width = image_size
  if height is None or width is None:
    raise ValueError(f"the images of {name!r} differ in size: set image_size")
  total = sum(map(len, sources)) * height * width * channels
  if stream or total > _MEMORY_LIMIT:
    if not image_size:
      raise ValueError(
        f"image_size=0: the images of {name!r} ({total / 2**30:.1f} GiB) are "
        "streamed, and cropped to one size; set it, for example to 224"
      )
    make = functools.partial(_stream, workers=workers)
  else:
    make = _read
  shape, classes = (height, width, channels), prepared.num_classes
  train, test = (make(source, shape, classes) for source in sources)
  return train, test, classes, prepared.class_names


def _stream(
  source: Records, shape: tuple[int, int, int], classes: int, workers: int
) -> StreamedSplit:
  """A split in the order in which it is stored, its images left encoded."""
  check_label(0, source[0], classes)  # some test splits have none, which is better told at once
  return StreamedSplit(source, np.arange(len(source)), shape, classes, workers)


def _read(source: Records, shape: tuple[int, int, int], classes: int) -> Split:
  """A split in the order of its examples' ids, which is the official one; else as it is stored.

  TFDS shuffles what it stores. The first images of a set should be those that others mean by it.
  """
  images = np.empty((len(source), *shape), np.uint8)
  labels = np.empty(len(source), np.int32)
  ids = []
  box = functools.partial(covering_box, target=(shape[1], shape[0]))
  for i in range(len(source)):
    example = source[i]
    check_label(i, example, classes)
    images[i] = decode_named(i, example, box, shape)
    labels[i] = example["label"]
    ids.append(example.get("id", i))
  if len({type(one) for one in ids}) > 1 or np.ndim(ids[0]):  # they have no order
    return Split(images, labels)
  order = sorted(range(len(ids)), key=ids.__getitem__)
  return Split(images[order], labels[order])
