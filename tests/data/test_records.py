"""Damaged examples: one line that names the file and the example, whoever reads them."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import jpeg_sets
import numpy as np
import pytest
from jpeg_sets import write_set
from running import ROOT, complaint
from tensorflow_datasets.proto import tf_example_pb2

from tcljax.commands import train
from tcljax.data import BadExample, evaluation_batches, load_dataset, training_batches
from tcljax.data.records import Records
from tcljax.data.streaming import LostWorker

SHARD = "photos-train.array_record-00000-of-00002"
VALIDATION = "photos-validation.array_record-00000-of-00002"
BAD = 2


def load(data_dir, **options):
  given = {"test_split": "validation", "image_size": 8, "workers": 0, **options}
  return load_dataset("photos", str(data_dir), **given)


def example(change):
  """A change of one example before it is stored."""

  def changed(record):
    stored = tf_example_pb2.Example.FromString(record)
    change(stored.features.feature)
    return stored.SerializeToString()

  return changed


def label(value, kind="int64_list"):
  def change(feature):
    del feature["label"]
    getattr(feature["label"], kind).value.extend(value)

  return example(change)


@pytest.fixture
def write(tmp_path, monkeypatch):
  """Writes a set in which the example `BAD` of one split was changed before it was stored."""

  def written(change, split="train"):
    original = jpeg_sets._serialized

    def serialized(data, number, name):
      record = original(data, number, name)
      return change(record) if name == jpeg_sets.name_of(split, BAD) else record

    with monkeypatch.context() as patch:
      patch.setattr(jpeg_sets, "_serialized", serialized)
      write_set(tmp_path, train=12, validation=6)
    return tmp_path

  return written


def flip(data_dir, name=SHARD):
  """A byte of the second example in a file, as a disk may do it; the first has 17 kB."""
  [path] = data_dir.rglob(name)
  data = bytearray(path.read_bytes())
  data[18_200] ^= 0xFF
  path.write_bytes(data)
  return data_dir


RECORDS = {
  "label of 2**40": (
    label([2**40]),
    "'train_002.JPEG' has label 1099511627776, classes are 0 to 4",
  ),
  "label below 0": (label([-(2**40)]), "'train_002.JPEG' has label -1099511627776, classes are"),
  "label too high": (label([5]), "'train_002.JPEG' has label 5, classes are 0 to 4"),
  "no label": (example(lambda feature: feature.pop("label")), "has no label"),
  "two labels": (label([1, 2]), "cannot be read: "),
  "label of bytes": (label([b"cat"], "bytes_list"), "cannot be read: "),
  "no image": (example(lambda feature: feature.pop("image")), "has no image"),
  "noise": (lambda record: b"\xff\x07" + record, "cannot be read: "),
  "cut": (lambda record: record[:-9], "cannot be read: "),
  "empty": (lambda record: b"", "has no image"),
}


@pytest.mark.parametrize("way", RECORDS)
def test_damaged_examples(write, way):
  change, message = RECORDS[way]
  data_dir = write(change)

  def check(read):
    with pytest.raises(BadExample) as caught:
      read()
    told = str(caught.value)
    assert message in told and f"{data_dir}/photos/1.0.0/{SHARD}" in told and "\n" not in told
    if "JPEG" not in message:
      assert told.startswith(f"example {BAD} of ")

  check(lambda: load(data_dir, stream=False))
  split = load(data_dir, stream=True).train
  check(lambda: list(evaluation_batches(split, 4)))
  check(lambda: [next(batches) for batches in [training_batches(split, 12, seed=0)]])
  # All else is as it was.
  others = split.take(np.array([i for i in range(12) if i != BAD]))
  assert len(next(evaluation_batches(others, 11))["label"]) == 11


def test_a_record_that_changed_on_disk(write):
  data_dir = flip(write(lambda record: record))
  with pytest.raises(BadExample, match=rf"^example 1 of .*{SHARD} cannot be read: Corrupted"):
    load(data_dir, stream=False)
  with pytest.raises(BadExample, match=rf"^example 1 of .*{SHARD} cannot be read: Corrupted"):
    list(evaluation_batches(load(data_dir, stream=True).train, 4))


def test_a_shard_that_goes_while_it_is_read(write):
  split = load(write(lambda record: record), stream=True).train
  [path] = split.source._parts[-1:]
  os.remove(path[0])
  with pytest.raises(BadExample, match=r"^example 0 of .*-00001-of-00002 cannot be read: "):
    list(evaluation_batches(split, 4))


def test_the_place_of_an_example():
  """Parts of shards, as 'train[40%:]+validation' takes them."""

  class Source:
    def __getitem__(self, number):
      raise RuntimeError(f"{number} is gone\nhere and there")

    def __getitems__(self, numbers):
      raise RuntimeError("some are gone")

  records = Records(Source(), [("a", 4, 2), ("b", 0, 3)])
  assert len(records) == 5
  for number, place in enumerate(["4 of a", "5 of a", "0 of b", "1 of b", "2 of b"]):
    with pytest.raises(BadExample) as caught:
      records.__getitems__([number])
    assert str(caught.value) == (
      f"example {place} cannot be read: {number} is gone; prepare the set again"
    )


def test_a_command_names_the_file(write, tmp_path, capsys):
  data_dir = write(label([2**40]))
  given = [
    "--config=imagenet_vgg16",
    "--config.data.name=photos",
    f"--config.data.data_dir={data_dir}",
    "--config.data.image_size=32",
    f"--workdir={tmp_path / 'run'}",
  ]
  assert train.main(["train.py", *given, "--config.data.stream=False"]) == 2
  assert f"{SHARD}" in complaint(capsys)
  shutil.rmtree(data_dir / "photos" / "1.0.0")
  assert train.main(["train.py", *given]) == 2
  assert f"{data_dir / 'photos'} has no folder of a version" in complaint(capsys)
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_fault_in_a_worker(write):
  data_dir = flip(write(label([2**40], "int64_list"), "validation"))
  data = load(data_dir, stream=True, workers=2)
  with pytest.raises(BadExample, match=rf"^example 1 of .*{SHARD} cannot be read: Corrupted"):
    list(evaluation_batches(data.train, 4))
  with pytest.raises(BadExample, match="has label 1099511627776, classes are 0 to 4"):
    next(training_batches(data.test, 6, seed=0))
  assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_worker_that_is_killed(write):
  batches = training_batches(load(write(lambda r: r), stream=True, workers=1).train, 4, seed=0)
  next(batches)
  [worker] = multiprocessing.active_children()
  os.kill(worker.pid, signal.SIGKILL)
  with pytest.raises(LostWorker, match=r"^a process that reads images has ended: .* code -9\b"):
    for _ in batches:
      pass
  assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_fault_in_a_worker_is_one_line_of_a_command(write, tmp_path):
  data_dir = flip(write(lambda record: record), VALIDATION)
  done = subprocess.run(
    [
      *(sys.executable, ROOT / "train.py", "--config=imagenet_vgg16", "--config.data.name=photos"),
      *(f"--config.data.data_dir={data_dir}", "--config.data.image_size=32"),
      *("--config.data.workers=2", "--config.train.steps=1", "--config.tune.steps=1"),
      *("--config.train.batch_size=8", "--config.tune.batch_size=8", "--config.tune.images=8"),
      *("--config.tune.at=()", "--config.snn.time_steps=2", "--config.eval.time_steps=2"),
      *("--config.model.stages=((4,),(8,))", "--config.model.dense=(16,)"),
      *("--config.eval.batch_size=8", f"--workdir={tmp_path / 'run'}"),
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  # Nor does Python warn of what is left.
  assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
  assert done.stderr.startswith("train: example 1 of ") and VALIDATION in done.stderr
