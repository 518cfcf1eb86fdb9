"""Image classification sets: the embedded digits, or any set prepared by TFDS.

They are held in memory as uint8, or streamed if they are too large for that. TFDS sets are read
straight from their directory, without TensorFlow and without a network.
"""

import dataclasses
import difflib
import functools
import os
import pathlib
import re
from typing import Any, cast

import numpy as np

from tcljax.data.decoding import MODES, check_label, covering_box, decode_named
from tcljax.data.splits import Examples, Split
from tcljax.data.streaming import AUTOMATIC, StreamedSplit, resolve_workers

# Above this a set is streamed.
_MEMORY_LIMIT = 8 << 30
# What has to be fetched by hand, behind a registration, before a set can be prepared.
_BY_HAND = {"imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")}
# Which examples are set aside must not depend on the seed of a run: a choice made on them holds
# for every seed.
_SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Three disjoint splits; `validation` is empty unless asked for.

  Attributes:
    name: as it was asked for.
    train: to train, calibrate and tune on.
    validation: training images set aside, for choices.
    test: for the reported numbers alone.
    num_classes: labels are 0 to `num_classes` - 1.
  """

  name: str
  train: Examples
  validation: Examples
  test: Examples
  num_classes: int


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
    name: "digits" (scikit-learn's 1,797 real 8x8 images, 20 % of them held out as test set), or
      the name of a TFDS set, "cifar10" or "dataset/config".
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
  if name == "digits":
    train, test, classes = _digits(train_split, test_split, image_size, stream)
  else:
    train, test, classes = _tfds(
      name, data_dir, train_split, test_split, image_size, stream, workers
    )
  if not 0 <= validation < len(train):
    raise ValueError(
      f"validation={validation} must be at least 0 and leave some of the "
      f"{len(train)} training images"
    )
  order = np.random.default_rng(_SPLIT_SEED).permutation(len(train))
  kept, aside = np.sort(order[validation:]), np.sort(order[:validation])
  return Dataset(name, train.take(kept) if validation else train, train.take(aside), test, classes)


def _digits(
  train_split: str, test_split: str, image_size: int, stream: bool
) -> tuple[Examples, Examples, int]:
  from sklearn import datasets, model_selection  # slow to import, and needed only here

  if (train_split, test_split) != ("train", "test"):
    raise ValueError(
      f"train_split={train_split!r}, test_split={test_split!r}: digits "
      "has the splits 'train' and 'test' and no parts of them"
    )
  if image_size not in (0, 8):
    raise ValueError(f"image_size={image_size}: the images of digits are 8x8")
  if stream:
    raise ValueError("stream=True: digits are not stored on disk, they stay in memory")
  images, labels = cast(tuple, datasets.load_digits(return_X_y=True))
  images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
  parts: Any = model_selection.train_test_split(  # arrays where it is given arrays
    images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=_SPLIT_SEED
  )
  return Split(parts[0], parts[2]), Split(parts[1], parts[3]), 10


def _tfds(
  name: str,
  data_dir: str | None,
  train_split: str,
  test_split: str,
  image_size: int,
  stream: bool,
  workers: int,
) -> tuple[Examples, Examples, int]:
  # Read from the directory, never by the builder's own name: that would look for TensorFlow, and
  # for the network where the set is not prepared.
  import tensorflow_datasets as tfds

  root = pathlib.Path(
    data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  ).expanduser()
  # TFDS declares neither the features of a set nor, behind decorators, what its methods take.
  builder: Any = tfds.builder_from_directory(str(_version_directory(name, root)))
  if builder.info.file_format is None or builder.info.file_format.value != "array_record":
    raise ValueError(
      f"data set {name!r} in {root} is not stored as ArrayRecord, which is what can "
      f"be read without TensorFlow; {_prepare_command(name, root)}"
    )
  features = builder.info.features
  missing = {"image", "label"} - set(features)
  if missing or not hasattr(features["label"], "num_classes"):
    raise ValueError(
      f"data set {name!r} is not for image classification: its features are "
      f"{', '.join(features)}; 'image' and 'label' are needed"
    )
  _check_disjoint(tfds, builder, train_split, test_split)
  height, width, channels = features["image"].shape
  if features["image"].np_dtype != np.uint8 or channels not in MODES:
    raise ValueError(
      f"data set {name!r} has images of {channels} channels of type "
      f"{np.dtype(features['image'].np_dtype)}: 1, 3 or 4 of uint8 can be read"
    )
  if image_size:
    height = width = image_size
  if None in (height, width):
    raise ValueError(f"the images of {name!r} differ in size: set image_size")
  classes, splits = features["label"].num_classes, (train_split, test_split)
  total = sum(builder.info.splits[s].num_examples for s in splits) * height * width * channels
  if stream or total > _MEMORY_LIMIT:
    if not image_size:
      raise ValueError(
        f"image_size=0: the images of {name!r} ({total / 2**30:.1f} GiB) are "
        "streamed, and cropped to one size; set it, for example to 224"
      )
    make = functools.partial(
      _stream, shape=(height, width, channels), classes=classes, workers=workers
    )
  else:
    make = functools.partial(_read, shape=(height, width, channels))
  # Left encoded by TFDS: it decodes whole images, and as many channels as they happen to have.
  sources = builder.as_data_source(
    split=list(splits), decoders={"image": tfds.decode.SkipDecoding()}
  )
  train, test = map(make, sources)
  return train, test, classes


def _version_directory(name: str, root: pathlib.Path) -> pathlib.Path:
  """The newest version of a prepared set, or a ValueError that says how to get one."""
  base = root / name
  versions = (
    [
      d
      for d in base.glob("*")
      if re.fullmatch(r"\d+\.\d+\.\d+", d.name) and (d / "dataset_info.json").exists()
    ]
    if base.is_dir()
    else []
  )
  if versions:
    return max(versions, key=lambda d: tuple(map(int, d.name.split("."))))
  import tensorflow_datasets as tfds

  known = tfds.list_builders(with_community_datasets=False)
  prepared = [d.name for d in root.iterdir() if d.is_dir()] if root.is_dir() else []
  if name.split("/")[0] in known:
    raise ValueError(f"data set {name!r} is not prepared in {root}; {_prepare_command(name, root)}")
  nearest = difflib.get_close_matches(
    name, ["digits", *prepared], n=1
  ) or difflib.get_close_matches(name, ["digits", *known], n=1, cutoff=0.0)
  raise ValueError(
    f"data set {name!r} is unknown; the nearest is {nearest[0]!r}. A config reads 'digits' or a "
    "set of TFDS; give arrays of your own to tcljax.calibrate, tune and evaluate"
  )


def _prepare_command(name: str, root: pathlib.Path) -> str:
  files = _BY_HAND.get(name.split("/")[0], ())
  first = (
    f"put {' and '.join(files)}, which need a registration, into "
    f"{root / 'downloads' / 'manual'}/ and then "
    if files
    else ""
  )
  return (
    f"{first}run: pip install 'tcljax[prepare]' && "
    f"tfds build {name} --file_format=array_record --data_dir={root}"
  )


def _check_disjoint(tfds: Any, builder: Any, *specs: str) -> None:
  """No image may serve both for training and for the reported numbers."""
  infos = dict(builder.info.splits)
  taken = []
  for spec in specs:
    try:
      parts = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    except Exception as error:  # TFDS raises ValueError, KeyError or AssertionError by the spec
      raise ValueError(
        f"data split {spec!r} is not understood; there are "
        f"{', '.join(infos)}, and parts such as 'train[:80%]'"
      ) from error
    ranges = [
      (
        part.splitname,
        part.from_ or 0,
        infos[part.splitname].num_examples if part.to is None else part.to,
      )
      for part in parts
    ]
    if sum(stop - start for _, start, stop in ranges) <= 0:
      raise ValueError(f"data split {spec!r} is empty")
    for split, start, stop in ranges:
      for other_spec, other_split, low, high in taken:
        if split == other_split and start < high and low < stop:
          raise ValueError(f"data splits {other_spec!r} and {spec!r} share images")
    taken += [(spec, *part) for part in ranges]


def _stream(source: Any, shape: tuple[int, int, int], classes: int, workers: int) -> StreamedSplit:
  """A split in the order in which it is stored, its images left encoded."""
  check_label(0, source[0], classes)  # some test splits have none, which is better told at once
  return StreamedSplit(source, np.arange(len(source)), shape, classes, workers)


def _read(source: Any, shape: tuple[int, int, int]) -> Split:
  """A split in the order of its examples' ids, which is the official one; else as it is stored.

  TFDS shuffles what it stores. The first images of a set should be those that others mean by it.
  """
  images = np.empty((len(source), *shape), np.uint8)
  labels = np.empty(len(source), np.int32)
  ids = []
  box = functools.partial(covering_box, target=(shape[1], shape[0]))
  for i, example in enumerate(source):
    images[i] = decode_named(i, example, box, shape)
    labels[i] = example["label"]
    ids.append(example.get("id", i))
  order = sorted(range(len(ids)), key=ids.__getitem__)
  return Split(images[order], labels[order])
