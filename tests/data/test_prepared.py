"""Sets of TFDS that are damaged: told in one line that names the file, before anything is read."""

import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
from damaged_sets import (
  FEATURES,
  INFO,
  LAST,
  NAMES,
  SHARD,
  TEXT,
  edited,
  feature,
  features,
  instead,
  line,
  load,
  middle_flipped,
  replaced,
  train,
)
from jpeg_sets import write_set

from tcljax.data.records import check_file, check_shards


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
  path = tmp_path_factory.mktemp("sound")
  write_set(path, train=12, validation=5)
  return path


@pytest.fixture
def folder(sound, tmp_path):
  """Of a version, in a copy that may be damaged."""
  return shutil.copytree(sound / "photos", tmp_path / "photos") / "1.0.0"


MISSING = {
  "deleted": (os.remove, "cannot be read, No such file or directory"),
  "link to nothing": (
    instead(lambda path: path.symlink_to("/nowhere")),
    "cannot be read, No such file or directory",
  ),
  "link to itself": (
    instead(lambda path: path.symlink_to(path)),
    "cannot be read, Too many levels of symbolic links",
  ),
  "folder": (instead(os.mkdir), "is no file"),
  "pipe": (instead(os.mkfifo), "is no file"),
  "device": (instead(lambda path: path.symlink_to("/dev/zero")), "is no file"),
}
SHARDS = {
  **MISSING,
  "empty": (replaced(lambda data: b""), "cannot be read, .*at least 64KB"),
  "zeroed": (replaced(lambda data: bytes(len(data))), "cannot be read, Corrupted"),
  "noise": (
    replaced(lambda data: np.random.default_rng(0).bytes(len(data))),
    "cannot be read, Corrupted",
  ),
  "half": (replaced(lambda data: data[: len(data) // 2]), "cannot be read, "),
  "cut": (replaced(lambda data: data[:-10]), "cannot be read, Invalid"),
  "flipped": (replaced(middle_flipped), "cannot be read, Corrupted"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [SHARD, LAST])
@pytest.mark.parametrize("way", SHARDS)
def test_damaged_shards(folder, way, name, stream):
  damage, message = SHARDS[way]
  damage(folder / name)
  told = line(folder, stream)
  assert told.endswith(": prepare the set again, or copy it anew")
  assert re.match(f"{name} {message}", told)


def test_a_shard_of_another_split(folder):
  shutil.copy(folder / LAST, folder / SHARD)
  assert line(folder).startswith(f"{SHARD} holds 3 examples, {INFO} says 6: ")
  assert line(folder, stream=True).startswith(f"{SHARD} holds 3 examples")


@pytest.mark.parametrize("name", [SHARD, INFO, FEATURES])
def test_files_that_may_not_be_read(folder, name, monkeypatch):
  """As those of another user; whoever runs the tests may read all."""
  original = pathlib.Path.open

  def refuse(path, *arguments, **options):
    if path.name == name:
      raise PermissionError(13, "Permission denied")
    return original(path, *arguments, **options)

  monkeypatch.setattr(pathlib.Path, "open", refuse)
  assert line(folder).startswith(f"{name} cannot be read, Permission denied: prepare the set again")


def test_a_sound_file_passes(folder):
  check_file(folder / INFO)
  check_shards([(str(folder / SHARD), 6)])


TEXTS = {
  "cut": (replaced(lambda data: data[:60]), "{} is no JSON, "),
  "empty": (replaced(lambda data: b""), "{} is no JSON, Expecting value"),
  "zeroed": (replaced(lambda data: bytes(len(data))), "{} is no JSON, "),
  "bytes": (replaced(lambda data: b"\xff\xfe" + data), "{} is no JSON, 'utf-8' codec"),
  "deep": (replaced(lambda data: b"[" * 100_000), "{} is no JSON, "),
  "a list": (replaced(lambda data: b"[]"), "{} holds a list, not an object"),
  "a text": (replaced(lambda data: b'"splits"'), "{} holds a str, not an object"),
}


@pytest.mark.parametrize("name", [INFO, FEATURES])
@pytest.mark.parametrize("way", TEXTS)
def test_descriptions_that_are_no_json(folder, name, way):
  damage, message = TEXTS[way]
  damage(folder / name)
  assert line(folder).startswith(message.format(name))


@pytest.mark.parametrize("name", [INFO, FEATURES])
@pytest.mark.parametrize("way", MISSING)
def test_descriptions_that_are_not_there(folder, name, way):
  damage, message = MISSING[way]
  damage(folder / name)
  assert line(folder).startswith(f"{name} {message}")


@pytest.mark.parametrize(
  "damage, message",
  [
    (train(shardLengths=["4", "6"]), f"{SHARD} holds 6 examples, {INFO} says 4"),
    (train(shardLengths=["6", "9"]), "photos-train.*0001-of-00002 holds 6 examples, "),
    (train(shardLengths=[str(10**15), "6"]), f"{SHARD} holds 6 examples, {INFO} says 1000000000"),
    (
      train(shardLengths=["12"]),
      "photos-train.array_record-00000-of-00001 cannot be read, No such",
    ),
    (train(shardLengths=["-3", "6"]), f"{INFO} does not describe a data set, its shardLengths"),
    (train(shardLengths=["many"]), f"{INFO} does not describe a data set, Failed to parse splits"),
    (train(shardLengths=[]), "data split 'train' is empty"),
    (train(name="trane"), "data split 'train' is not understood; there are trane, validation"),
    (train(filepathTemplate="{QWERTY}"), f"{INFO} does not describe the files of 'train', "),
    (edited(lambda info: info.pop("splits")), f"{INFO} does not describe a data set, its shard"),
    (edited(lambda info: info.pop("name")), f"{INFO} does not describe the files of 'train', "),
    (edited(lambda info: info.pop("version")), f"{INFO} does not describe a data set, Invalid ver"),
    (edited(lambda info: info.update(qwerty=1)), f"{INFO} does not describe a data set, .*qwerty"),
    (
      edited(lambda info: info.update(fileFormat="zip")),
      "data set 'photos' in .* is stored as zip",
    ),
    (edited(lambda info: info.pop("fileFormat")), "data set 'photos' in .* is stored as tfrecord"),
  ],
)
def test_splits_that_are_not_as_described(folder, damage, message):
  damage(folder / INFO)
  for stream in (False, True):
    assert re.match(message, line(folder, stream))


LABEL = {
  "pythonClassName": "tensorflow_datasets.core.features.class_label_feature.ClassLabel",
  "classLabel": {"numClasses": "5"},
}
SEQUENCE = {
  "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
  "sequence": {"feature": LABEL, "length": "-1"},
}


def image(**fields):
  return edited(
    lambda content: content["featuresDict"]["features"]["image"]["image"].update(fields)
  )


def shape(*sides):
  return image(shape={"dimensions": list(sides)})


def classes(number):
  return feature("label", classLabel={"numClasses": number})


UNSUITED = f"{FEATURES} is not of a set for image classification: its features are "


@pytest.mark.parametrize(
  "damage, message",
  [
    (edited(dict.clear), f"{FEATURES} does not describe features, "),
    (edited(lambda content: content.pop("featuresDict")), f"{FEATURES} does not describe features"),
    (replaced(lambda data: json.dumps(TEXT).encode()), f"{UNSUITED}Text"),
    (features(image=TEXT), f"{UNSUITED}file_name, image, label; an 'image' and a 'label', which"),
    (features(image=LABEL), UNSUITED),
    (features(label=TEXT), UNSUITED),
    (features(label=SEQUENCE), UNSUITED),
    (
      edited(lambda content: content["featuresDict"]["features"].pop("label")),
      f"{UNSUITED}file_name, image; an",
    ),
    (feature("label", pythonClassName="os.system"), f"{FEATURES} has the feature 'os.system', wh"),
    (
      feature("file_name", pythonClassName="tensorflow_datasets.nothing.Text"),
      f"{FEATURES} does not describe features, Unrecognized",
    ),
    (classes("0"), f"{FEATURES} says that there are 0 classes, it takes 1 to 1,000,000"),
    (classes("-5"), f"{FEATURES} says that there are -5 classes"),
    (classes(str(2**40)), f"{FEATURES} says that there are 1099511627776 classes"),
    (classes("ten"), f"{FEATURES} does not describe features, .*invalid literal"),
    (feature("label", classLabel={}), f"{FEATURES} says that there are (0|None) classes"),
    (shape("32", "32"), f"{FEATURES} does not describe features, Image shape should be"),
    (shape("0", "0", "3"), r"data set 'photos' has images of shape \(0, 0, 3\): it must be"),
    (shape("-7", "-7", "3"), f"{FEATURES} does not describe features, Unexpected shape"),
    (
      image(encodingFormat="png", shape={"dimensions": ["8", "8", "2"]}),
      "data set 'photos' has images of 2 channels of type uint8",
    ),
    (image(dtype="float32"), f"{FEATURES} does not describe features, Acceptable `dtype`"),
    (
      image(encodingFormat="png", dtype="uint16"),
      "data set 'photos' has images of 3 channels of type uint16",
    ),
    (image(dtype="quaternion"), f"{FEATURES} does not describe features, "),
  ],
)
def test_features_of_odd_kinds(folder, damage, message):
  damage(folder / FEATURES)
  for stream in (False, True):
    assert re.match(message, line(folder, stream))


@pytest.mark.parametrize(
  "damage, message",
  [
    (lambda path: path.write_text("a\nb\n"), "does not name the classes, ClassLabel number of nam"),
    (
      lambda path: path.write_text("a\na\nb\nc\nd\n"),
      "does not name the classes, Some label names",
    ),
    (lambda path: path.write_bytes(b"\xff\xfe\n" * 5), "does not name the classes, 'utf-8' codec"),
    (os.mkdir, "is no file"),
    (os.mkfifo, "is no file"),
    (lambda path: path.symlink_to("/nowhere"), "cannot be read, No such file or directory"),
  ],
)
def test_names_of_classes(folder, damage, message):
  (folder / NAMES).write_text("a\nb\nc\nd\ne\n")
  assert (load(folder).num_classes, load(folder).class_names) == (5, ("a", "b", "c", "d", "e"))
  (folder / NAMES).unlink()
  assert (load(folder).num_classes, load(folder).class_names) == (5, ())
  damage(folder / NAMES)
  assert line(folder).startswith(f"{NAMES} {message}")


def test_folders_without_a_version(folder, tmp_path, monkeypatch):
  shutil.rmtree(folder)
  assert line(folder).startswith(f"{tmp_path / 'photos'} has no folder of a version, such as 1.0.0")
  folder.write_text("")
  assert line(folder).startswith(f"{INFO} cannot be read, Not a directory")

  def refuse(path):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
  assert line(folder) == f"{tmp_path / 'photos'} cannot be read, Permission denied"


def test_another_version_is_read_if_the_newest_is_not_whole(folder):
  (folder.parent / "1.0.1").mkdir()
  assert len(load(folder).train) == 12
