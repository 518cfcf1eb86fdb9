"""Sets that TFDS has prepared: where they lie, and what they say of themselves.

Read from their directories, never by a builder's own name: that would look for TensorFlow, and for
the network where the set is not prepared.
"""

import dataclasses
import difflib
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tcljax.data.decoding import MODES
from tcljax.data.records import Records, check_file, check_shards, damaged, one_line

_INFO, _FEATURES = "dataset_info.json", "features.json"
# Beyond any set; a network with so many outputs could not be made.
_MOST_CLASSES = 1_000_000
_MOST_LETTERS = 2**20  # of all names of classes; a set of 22,000 classes has a third
# What has to be fetched by hand, behind a registration, before a set can be prepared.
_BY_HAND = {"imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")}


@dataclasses.dataclass(frozen=True)
class PreparedSet:
  """An image classification set on disk, stored as ArrayRecord.

  Attributes:
    directory: of the version that is read.
    builder: of TFDS; it declares neither the features of a set nor, behind decorators, what its
      methods take.
    image_shape: [H, W, C]; None for a side in which images differ.
    num_classes: labels are 0 to `num_classes` - 1.
  """

  directory: pathlib.Path
  builder: Any
  image_shape: tuple[int | None, int | None, int]
  num_classes: int

  @property
  def class_names(self) -> tuple[str, ...]:
    """Of the classes in their order; none where TFDS has numbers for want of names."""
    names = self.builder.info.features["label"].names
    numbered = all(name == str(number) for number, name in enumerate(names))
    return () if numbered or sum(map(len, names)) > _MOST_LETTERS else tuple(names)

  def check_disjoint(self, *specs: str) -> None:
    """No image may serve both for training and for the reported numbers.

    Raises:
      ValueError: if splits share images, or are empty or not understood.
    """
    import tensorflow_datasets as tfds

    infos = dict(self.builder.info.splits)
    taken = []
    for spec in specs:
      try:
        parts: Any = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
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

  def records(self, spec: str) -> Records:
    """The examples of a split, whose files are all there and hold as many as they should.

    Raises:
      ValueError: naming the first file that is missing or damaged.
    """
    import tensorflow_datasets as tfds

    try:
      files = self.builder.info.splits[spec].file_instructions
      # Left encoded by TFDS: it decodes whole images, and as many channels as they happen to have.
      source = self.builder.as_data_source(
        split=spec, decoders={"image": tfds.decode.SkipDecoding()}
      )
    except Exception as error:  # of many kinds, by the damage
      raise damaged(
        self.directory / _INFO, f"does not describe the files of {spec!r}, {one_line(error)}"
      ) from error
    check_shards((file.filename, file.examples_in_shard) for file in files)
    return Records(source, [(file.filename, file.skip, file.take) for file in files])


def open_prepared(name: str, data_dir: str | None) -> PreparedSet:
  """A prepared set whose description is sound and is that of image classification.

  Args:
    name: of the set, "cifar10" or "dataset/config".
    data_dir: where sets lie; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets.

  Raises:
    ValueError: naming what is not prepared, unsuitable or damaged, and the remedy.
  """
  import tensorflow_datasets as tfds

  root = pathlib.Path(
    data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  ).expanduser()
  directory = _version_directory(name, root)
  info = _read_object(directory / _INFO)
  stored_as = info.get("fileFormat", info.get("file_format"))
  if stored_as != "array_record":
    raise ValueError(
      f"data set {name!r} in {root} is stored as {stored_as or 'tfrecord'}, not as array_record, "
      f"which is what can be read without TensorFlow; {_prepare_command(name, root)}"
    )
  features = _read_features(directory)
  try:
    builder: Any = tfds.builder_from_directory(str(directory))
    lengths = [n for split in builder.info.splits.values() for n in split.shard_lengths]
    if not lengths or min(lengths) < 0:
      raise ValueError("its shardLengths are no numbers of examples")
  except Exception as error:  # of many kinds, by the damage
    raise damaged(directory / _INFO, f"does not describe a data set, {one_line(error)}") from error
  return PreparedSet(
    directory, builder, _image_shape(name, features), _num_classes(directory, features)
  )


def _read_features(directory: pathlib.Path) -> Any:
  """What the examples of a set hold, if that is an image and a class."""
  import tensorflow_datasets as tfds

  path = directory / _FEATURES
  content = _read_object(path)
  for class_name in _class_names(content):  # TFDS imports what it does not know
    if not class_name.startswith("tensorflow_datasets."):
      raise damaged(path, f"has the feature {class_name!r}, which is none of TFDS")
  connector: Any = tfds.features.FeatureConnector
  try:
    features = connector.from_json(content)
  except Exception as error:  # of many kinds, by the damage
    raise damaged(path, f"does not describe features, {one_line(error)}") from error
  kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
  found = features if isinstance(features, tfds.features.FeaturesDict) else {}
  for feature, kind in kinds.items():
    if feature not in found or not isinstance(found[feature], kind):
      raise ValueError(
        f"{path} is not of a set for image classification: its features are "
        f"{', '.join(sorted(found)) or one_line(features)}; "
        "an 'image' and a 'label', which is one class, are needed"
      )
  _read_names(directory, features["label"])
  return features


def _read_names(directory: pathlib.Path, label: Any) -> None:
  """Checks the names of the classes, which a set need not have; TFDS drops what is wrong there."""
  for path in sorted(directory.glob("*.labels.txt")):  # TFDS reads them all
    check_file(path)
  try:
    label.load_metadata(str(directory), "label")
  except Exception as error:  # of many kinds, by the damage
    raise damaged(
      directory / "label.labels.txt", f"does not name the classes, {one_line(error)}"
    ) from error


def _class_names(content: Any) -> Iterator[str]:
  """All classes of Python that a description of features names."""
  for key, value in content.items():
    if isinstance(value, dict):
      yield from _class_names(value)
    elif isinstance(value, str) and key in ("pythonClassName", "python_class_name", "type"):
      yield value


def _image_shape(name: str, features: Any) -> tuple[int | None, int | None, int]:
  shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
  if len(shape) != 3 or any(side is not None and side < 1 for side in shape):
    raise ValueError(f"data set {name!r} has images of shape {shape}: it must be [H, W, C]")
  if dtype != np.uint8 or shape[2] not in MODES:
    raise ValueError(
      f"data set {name!r} has images of {shape[2]} channels of type {dtype}: 1, 3 or 4 of uint8 "
      "can be read"
    )
  return tuple(shape)


def _num_classes(directory: pathlib.Path, features: Any) -> int:
  classes = features["label"].num_classes
  if classes is None or not 1 <= classes <= _MOST_CLASSES:
    raise damaged(
      directory / _FEATURES,
      f"says that there are {classes} classes, it takes 1 to {_MOST_CLASSES:,}",
    )
  return classes


def _read_object(path: pathlib.Path) -> dict[str, Any]:
  """A JSON file that holds an object."""
  check_file(path)
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, RecursionError, ValueError) as error:
    raise damaged(path, f"is no JSON, {one_line(error)}") from error
  if not isinstance(content, dict):
    raise damaged(path, f"holds a {type(content).__name__}, not an object of JSON")
  return content


def _version_directory(name: str, root: pathlib.Path) -> pathlib.Path:
  """The newest version of a prepared set, or a ValueError that says how to get one."""
  base = root / name
  try:
    entries = [d for d in base.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", d.name)]
    versions = [d for d in entries if (d / _INFO).exists()] or entries
  except (FileNotFoundError, NotADirectoryError):
    versions = []
  except OSError as error:
    raise ValueError(f"{base} cannot be read, {error.strerror}") from None
  if versions:
    return max(versions, key=lambda d: tuple(map(int, d.name.split("."))))
  import tensorflow_datasets as tfds

  known = tfds.list_builders(with_community_datasets=False)
  if name.split("/")[0] in known:
    raise ValueError(f"data set {name!r} is not prepared in {root}; {_prepare_command(name, root)}")
  if base.is_dir():
    raise ValueError(f"{base} has no folder of a version, such as 1.0.0: prepare the set again")
  prepared = [d.name for d in root.iterdir() if d.is_dir()] if root.is_dir() else []
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
    f"{first}run: pip install tensorflow && "
    f"tfds build {name} --file_format=array_record --data_dir={root}"
  )
