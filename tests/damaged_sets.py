"""A small set of TFDS and what may be done to it, for tests of damaged ones."""

import json

import pytest

from tcljax.data import load_dataset

SHARD = "photos-train.array_record-00000-of-00002"
LAST = "photos-validation.array_record-00001-of-00002"
INFO, FEATURES, NAMES = "dataset_info.json", "features.json", "label.labels.txt"
TEXT = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}


def load(folder, stream=False):
  return load_dataset(
    "photos",
    str(folder.parent.parent),
    test_split="validation",
    image_size=8,
    stream=stream,
    workers=0,
  )


def line(folder, stream=False):
  """What is told of a damaged set, without its place."""
  with pytest.raises(ValueError) as caught:
    load(folder, stream)
  assert "\n" not in str(caught.value)
  return str(caught.value).replace(f"{folder}/", "")


def replaced(data):
  return lambda path: path.write_bytes(data(path.read_bytes()))


def instead(make):
  """Another thing in the place of a file."""

  def change(path):
    path.unlink(missing_ok=True)
    make(path)

  return change


def middle_flipped(data):
  changed = bytearray(data)
  changed[64 : len(data) - 70_000 : 97] = bytes(len(changed[64 : len(data) - 70_000 : 97]))
  return bytes(changed)


def edited(edit):
  """A change of what a file of JSON holds."""

  def change(path):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))

  return change


def train(**fields):
  return edited(lambda info: info["splits"][0].update(fields))


def feature(name, **fields):
  return edited(lambda content: content["featuresDict"]["features"][name].update(fields))


def features(**fields):
  return edited(lambda content: content["featuresDict"]["features"].update(fields))
