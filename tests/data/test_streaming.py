"""Sets that are read while they are used: what comes when, which part of it, and bad files."""

import itertools
import logging
import multiprocessing
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from jpeg_sets import NUM_CLASSES, Probe, name_of, write_set
from running import ROOT

from tcljax.data import (
  StreamedSplit,
  UnreadableImage,
  decoding,
  evaluation_batches,
  first_images,
  load_dataset,
  training_batches,
)
from tcljax.data.streaming import resolve_workers
from tcljax.runs.calibration import calibration_images


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A sound set, and one in which an image of each split is damaged."""
  path = tmp_path_factory.mktemp("sets")
  write_set(path, train=30, validation=13)
  write_set(
    path,
    name="damaged",
    train=6,
    validation=10,
    corrupt={name_of("train", 3), name_of("validation", 7)},
  )
  write_set(
    path, name="hopeless", train=3, validation=2, corrupt={name_of("train", i) for i in range(3)}
  )
  write_set(path, name="unlabelled", train=3, validation=2, label=lambda i: -1)
  return path


def load(data_dir, name="photos", **options):
  return load_dataset(
    **{
      "name": name,
      "data_dir": str(data_dir),
      "test_split": "validation",
      "image_size": 24,
      "stream": True,
      "workers": 0,
      **options,
    }
  )


def take(batches, count):
  taken = list(itertools.islice(batches, count))
  batches.close()
  return taken


def assert_equal(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.slow
def test_workers_change_nothing_and_are_gone_afterwards(data_dir):
  alone, helped = (load(data_dir, workers=n, validation=4) for n in (0, 2))
  assert [len(part) for part in (alone.train, alone.validation, alone.test)] == [26, 4, 13]
  batches = training_batches(helped.train, 8, seed=0)
  found = list(itertools.islice(batches, 5))
  assert len(multiprocessing.active_children()) == 2
  batches.close()
  assert not multiprocessing.active_children()
  assert_equal(found, take(training_batches(alone.train, 8, seed=0), 5))
  assert found[0]["image"].shape == (8, 24, 24, 3) and found[0]["image"].dtype == np.uint8
  # Of shared memory they would be arrays of Grain's own, and be lost where a process ends at once.
  assert {type(array) for batch in found for array in batch.values()} == {np.ndarray}
  batches = evaluation_batches(helped.test, 8)
  found = [next(batches)]
  del batches  # dropped half way
  assert not multiprocessing.active_children()
  assert_equal(found, list(evaluation_batches(alone.test, 8))[:1])


def test_an_epoch_holds_every_example_once_and_the_seed_fixes_it(data_dir):
  split = load(data_dir).train
  batches = take(training_batches(split, 10, seed=3), 6)
  labels = np.concatenate([b["label"] for b in batches])
  for epoch in labels.reshape(2, 30):
    np.testing.assert_array_equal(np.bincount(epoch), [6] * NUM_CLASSES)
  assert_equal(take(training_batches(split, 10, seed=3), 6), batches)
  other = take(training_batches(split, 10, seed=4), 3)
  assert not np.array_equal(np.concatenate([b["label"] for b in other]), labels[:30])
  # In the second epoch the same images in other crops.
  assert not {i.tobytes() for b in batches[:3] for i in b["image"]} >= {
    i.tobytes() for b in batches[3:] for i in b["image"]
  }


def test_taken_up_in_an_epoch_with_the_same_batch_and_nothing_else_read(data_dir, monkeypatch):
  split = load(data_dir).train
  whole = take(training_batches(split, 8, seed=1), 9)
  decoded = []
  original = decoding.decode
  monkeypatch.setattr(decoding, "decode", lambda *a: decoded.append(a) or original(*a))
  assert_equal(take(training_batches(split, 8, seed=1, start_step=5), 2), whole[5:7])
  assert len(decoded) == 2 * 8


def test_hosts_share_a_batch(data_dir, monkeypatch):
  data = load(data_dir)
  whole = take(training_batches(data.train, 8, seed=1), 5)
  judged = list(evaluation_batches(data.test, 8))
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  parts, shares = [], []
  for host in (0, 1):
    monkeypatch.setattr(jax, "process_index", lambda host=host: host)
    parts.append(take(training_batches(data.train, 8, seed=1), 5))
    shares.append(list(evaluation_batches(data.test, 8)))
  for both, expected in ((parts, whole), (shares, judged)):
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*both)]
    assert_equal(joined, expected)


def test_evaluation_covers_every_example_once(data_dir):
  batches = list(evaluation_batches(load(data_dir).test, 8))
  assert [len(b["label"]) for b in batches] == [8, 8]
  mask = np.concatenate([b["mask"] for b in batches])
  np.testing.assert_array_equal(np.concatenate([b["index"] for b in batches])[mask], np.arange(13))
  images = np.concatenate([b["image"] for b in batches])[mask]
  labels = np.concatenate([b["label"] for b in batches])[mask]
  np.testing.assert_array_equal(labels, np.arange(13) % NUM_CLASSES)
  assert len({image.tobytes() for image in images}) == 13
  np.testing.assert_array_equal(first_images(load(data_dir).test, 3), images[:3])


def test_calibration_sees_training_images_from_the_centre(data_dir):
  data = load(data_dir, validation=10)
  chosen = calibration_images(data, 7, seed=0)
  assert len(chosen) == 7 and len(calibration_images(data, 99, seed=0)) == 20
  images = first_images(chosen, 99)
  centres = {i.tobytes() for i in first_images(data.train, 99)}
  assert {i.tobytes() for i in images} <= centres and len(centres) == 20
  assert not centres & {i.tobytes() for i in first_images(data.validation, 99)}


def test_a_damaged_image_in_training_is_replaced_and_named_once(data_dir, caplog):
  sound, damaged = (
    load(data_dir, name, train_split="train[:6]").train for name in ("photos", "damaged")
  )
  expected = take(training_batches(sound, 4, seed=0), 6)
  with caplog.at_level(logging.WARNING):
    found = take(training_batches(damaged, 4, seed=0), 6)
  assert_equal(take(training_batches(damaged, 4, seed=0, start_step=2), 4), found[2:])
  assert len([r for r in caplog.records if "'train_003.JPEG' cannot be read" in r.message]) == 2
  assert "another takes its place, as for 1 so far" in caplog.text
  changed = 0
  for a, b in zip(found, expected):
    for i in range(4):
      same = np.array_equal(a["image"][i], b["image"][i])
      assert same or b["label"][i] == 3
      changed += not same
  assert changed == 4  # epochs; all else is in its place, in the same crops


@pytest.mark.slow
def test_damaged_images_where_none_can_take_their_place(data_dir):
  with pytest.raises(UnreadableImage, match=r"image 'validation_007.JPEG' cannot be read: \w+"):
    list(evaluation_batches(load(data_dir, "damaged", workers=2).test, 8))
  assert not multiprocessing.active_children()
  with pytest.raises(UnreadableImage, match="of 21 images drawn in turn none can be read"):
    next(training_batches(load(data_dir, "hopeless").train, 2, seed=0))


@pytest.mark.parametrize(
  "options, message",
  [
    ({"name": "unlabelled"}, "image 'train_000.JPEG' has label -1, classes are 0 to 4: choose"),
    ({"image_size": 0}, "the images of 'photos' differ in size: set image_size"),
    ({"workers": -2}, "workers=-2 must be a number of processes, 0 to decode in the main one"),
    ({"validation": 30}, "validation=30 must be at least 0 and leave some of the 30"),
    ({"name": "digits", "test_split": "test", "image_size": 0}, "stream=True: digits are not"),
    (
      {"name": "imagenet2012"},
      "'imagenet2012' is not prepared in .*; put ILSVRC2012_img_train.tar and "
      "ILSVRC2012_img_val.tar, which need a registration, into .*/downloads/manual/ and then run: "
      ".*tfds build imagenet2012 --file_format=array_record --data_dir=",
    ),
  ],
)
def test_bad_streamed_sets(data_dir, options, message):
  with pytest.raises(ValueError, match=message) as caught:
    load(data_dir, **options)
  assert "\n" not in str(caught.value)


def test_classes_that_the_network_lacks(data_dir):
  with pytest.raises(ValueError, match="has classes 0 to 4, the network has classes 0 to 3"):
    load(data_dir).test.check_labels({(): ((), 4)})
  load(data_dir).test.check_labels({(): ((), 5)})
  with pytest.raises(ValueError, match=r"has one class an image, the network \(8, 8\) of them"):
    load(data_dir).test.check_labels({(): ((8, 8), 5)})
  with pytest.raises(ValueError, match="has one class an image, the network 2 outputs"):
    load(data_dir).test.check_labels({("a",): ((), 5), ("b",): ((), 5)})


def test_small_sets_stay_in_memory_and_large_ones_do_not(data_dir, monkeypatch):
  small = load(data_dir, stream=False)
  assert small.train.images.shape == (30, 24, 24, 3)
  with pytest.raises(UnreadableImage, match=r"image 'train_003\.JPEG' cannot be read"):
    load(data_dir, "damaged", stream=False)
  monkeypatch.setattr("tcljax.data.sources._MEMORY_LIMIT", 43 * 24 * 24 * 3 - 1)
  assert not hasattr(load(data_dir, stream=False).train, "images")


def test_workers_touch_no_device():
  """Grain imports JAX for its trees where it is installed; no backend may start by that."""
  assert jax.devices() and Probe().__getitems__([0])[0]["label"] == 1
  split = StreamedSplit(Probe(), np.arange(4), (8, 8, 3), num_classes=2, workers=1)
  np.testing.assert_array_equal(next(evaluation_batches(split, 4))["label"], [0] * 4)


@pytest.mark.slow
def test_workers_end_with_a_process_that_is_killed(data_dir):
  code = (
    "import os, signal; from tcljax.data import load_dataset, training_batches; "
    f"split = load_dataset('photos', {str(data_dir)!r}, test_split='validation', "
    "image_size=8, stream=True, workers=1).train; "
    "batches = training_batches(split, 4, seed=0); next(batches); "
    "os.kill(os.getpid(), signal.SIGKILL)"
  )
  # A worker holds the other end of the pipes: they are read to their end once it is gone.
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=60, check=False
  )
  assert done.returncode == -signal.SIGKILL, done.stderr


def test_number_of_workers():
  assert resolve_workers(0) == 0 and resolve_workers(3) == 3
  assert 1 <= resolve_workers(-1) <= 32


def test_what_workers_import_is_free_of_jax():
  """Nor does a set in memory import Grain."""
  code = (
    "import sys, types; package = types.ModuleType('tcljax'); "
    f"package.__path__ = ['{ROOT}/tcljax']; sys.modules['tcljax'] = package; "
    f"data = types.ModuleType('tcljax.data'); data.__path__ = ['{ROOT}/tcljax/data']; "
    "sys.modules['tcljax.data'] = data; import tcljax.data.decoding; "
    "assert not {'jax', 'jaxlib', 'grain'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
  code = (
    "import sys; from tcljax.data import load_dataset; load_dataset('digits'); "
    "assert 'grain' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
