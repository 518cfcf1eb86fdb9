"""Checkpoints: what is read back, and damaged ones, which are named and passed over."""

import errno
import json
import os
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import bits

from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import CheckpointError, Checkpoints
from tcljax.files import FileError

STATE = {
  "step": jnp.int32(7),
  "variables": {
    "params": {"kernel": jnp.arange(2000.0).reshape(40, 50)},
    "clipping": {"act": {"raw_threshold": jnp.ones(())}},
  },
  "opt_state": (jnp.zeros(3), {"mu": jnp.ones((2, 2))}),
}


@pytest.fixture
def abstract():
  return parallel.abstract_replicated(parallel.data_mesh(), STATE)


def write(directory, steps):
  with Checkpoints(directory) as checkpoints:
    for step in steps:
      checkpoints.save(step, {**STATE, "step": jnp.int32(step)})


def read(directory, abstract, told=None):
  with Checkpoints(directory, [].append if told is None else told.append) as checkpoints:
    return checkpoints.restore(abstract)


@pytest.fixture
def two(tmp_path):
  """Two steps, 1 and 2."""
  write(tmp_path / "a", [1, 2])
  return tmp_path / "a"


def files_of(directory, step):
  """All files of a checkpoint, its list among them."""
  files = [f for f in (directory / str(step)).rglob("*") if f.is_file() and f.stat().st_size]
  assert len(files) > 5
  return [*sorted(files), directory / f"{step}.files.json"]


def test_round_trip_and_pruning(tmp_path, abstract):
  write(tmp_path / "a", [1, 2, 3])
  found = read(tmp_path / "a", abstract)
  assert int(found["step"]) == 3
  jax.tree.map(np.testing.assert_array_equal, {**found, "step": STATE["step"]}, STATE)
  assert sorted(f.name for f in (tmp_path / "a").iterdir()) == [
    "2",
    "2.files.json",
    "3",
    "3.files.json",
  ]


@pytest.mark.parametrize("kept", [1, 3])
def test_the_newest_so_many_are_kept(tmp_path, abstract, kept):
  with Checkpoints(tmp_path / "a", kept=kept) as checkpoints:
    for step in range(1, 6):
      checkpoints.save(step, STATE)
  assert sorted(int(f.name) for f in (tmp_path / "a").iterdir() if f.is_dir()) == [
    *range(6 - kept, 6)
  ]


def test_a_part_can_be_read(tmp_path, abstract):
  write(tmp_path / "a", [1])
  part = {"variables": {"clipping": abstract["variables"]["clipping"]}}
  found = read(tmp_path / "a", part)
  assert jax.tree.structure(found) == jax.tree.structure(part)


def test_every_file_cut_short_or_missing_is_named_and_the_step_passed_over(two, abstract):
  *files, file_list = files_of(two, 2)
  for file in files:
    whole, name = file.read_bytes(), re.escape(str(file.relative_to(two / "2")))
    file.write_bytes(whole[: len(whole) // 2])
    assert int(read(two, abstract, told := [])["step"]) == 1
    assert re.fullmatch(
      rf"checkpoint .*/a/2 is damaged: {name} has {len(whole) // 2} of {len(whole)} bytes; "
      "step 1 is used instead",
      told[0],
    )
    file.unlink()
    assert int(read(two, abstract, told := [])["step"]) == 1
    assert f"{file.name} is missing; step 1 is used" in told[0]
    file.write_bytes(whole)
  assert int(read(two, abstract, told := [])["step"]) == 2 and told == []
  file_list.unlink()
  assert int(read(two, abstract, told)["step"]) == 1
  assert "a/2 is damaged: its list of files 2.files.json is missing" in told[0]


def test_forty_flipped_bits_are_harmless_or_named(two, abstract):
  """Of unchanged length, which sizes alone do not tell."""
  rng, files = np.random.default_rng(0), files_of(two, 2)
  whole = {step: bits(read_step(two, abstract, step)) for step in (1, 2)}
  for n in range(40):
    file = files[n % len(files)]
    contents = file.read_bytes()
    flipped = bytearray(contents)
    flipped[rng.integers(len(flipped))] ^= 1 << rng.integers(8)
    file.write_bytes(flipped)
    found = read(two, abstract, told := [])
    assert bits(found) == whole[1 if told else 2], (file, told)
    if file.suffix != ".json":  # of a list, a space may be another now
      assert told and f"{file.name} has changed since it was written; step 1" in told[0]
    file.write_bytes(contents)
  assert bits(read(two, abstract)) == whole[2]


def read_step(directory, abstract, step):
  with Checkpoints(directory) as checkpoints:
    checkpoints._looked, checkpoints._newest = True, step
    return checkpoints.restore(abstract)


@pytest.mark.parametrize(
  "text, message",
  [
    ("[]", "2.files.json is no list of its files"),
    ("{}", "2.files.json is no list of its files"),
    ("null", "2.files.json is no list of its files"),
    ('{"d": 3}', "2.files.json has no size and hash of d"),
    ('{"d": {"bytes": "3"}}', "2.files.json has no size and hash of d"),
    ('{"gone": {"bytes": 3, "sha256": ""}}', "gone is missing"),
    ('{"\\u0000": {"bytes": 3, "sha256": ""}}', "\x00 (is missing|cannot be read)"),
    ('{"cut sho', "2.files.json cannot be read: Unterminated string"),
    ("[" * 100_000, "2.files.json cannot be read: it is nested too deeply"),
    (b"\xff\xfe", "2.files.json cannot be read: it is no text in UTF-8"),
    (os.mkdir, "2.files.json cannot be read: it is no file"),
    (os.mkfifo, "2.files.json cannot be read: it is no file"),
  ],
)
def test_a_list_that_is_none_makes_its_step_untrusted(two, abstract, text, message):
  (two / "2.files.json").unlink()
  if callable(text):
    text(two / "2.files.json")
  else:
    (two / "2.files.json").write_bytes(text if isinstance(text, bytes) else text.encode())
  assert int(read(two, abstract, told := [])["step"]) == 1
  assert re.search(message, told[0]) and "\n" not in told[0]


def test_what_is_passed_over_is_written_again(two, abstract):
  """As by a run that was killed between the checkpoint and its list, and started again."""
  (two / "2.files.json").unlink()
  with Checkpoints(two) as checkpoints:
    assert checkpoints.latest_step() == 1
    checkpoints.save(2, {**STATE, "step": jnp.int32(22)})
    assert checkpoints.latest_step() == 2 and checkpoints.damage() == ""
  assert int(read(two, abstract, told := [])["step"]) == 22 and told == []
  # An earlier step than the one passed over, which is then no longer the newest either.
  write(two, [4])
  shutil.rmtree(two / "4" / "default")
  with Checkpoints(two) as checkpoints:
    checkpoints.save(3, {**STATE, "step": jnp.int32(33)})
  assert int(read(two, abstract)["step"]) == 33 and not (two / "4").exists()


def test_where_none_is_whole(two, abstract):
  for step in (1, 2):
    (two / f"{step}.files.json").write_text("{")
  with Checkpoints(two, (told := []).append) as checkpoints:
    assert checkpoints.latest_step() is None
    assert [line.split("; ")[1] for line in told] == ["this phase starts anew"] * 2
    with pytest.raises(CheckpointError, match=r"a/2 is damaged: .*; checkpoint .*a/1 is damaged"):
      checkpoints.restore(abstract)
    checkpoints.save(1, STATE)
  assert int(read(two, abstract)["step"]) == 7


def test_all_hosts_go_by_what_the_main_one_finds(two, monkeypatch):
  """Another host reads no hashes; it takes the step that it is given."""
  (two / "2.files.json").unlink()
  given = []
  monkeypatch.setattr(parallel, "agreed", lambda number: given.append(number) or 1)
  for main in (True, False):
    monkeypatch.setattr(parallel, "is_main_host", lambda main=main: main)
    with Checkpoints(two, (told := []).append) as checkpoints:
      assert checkpoints.latest_step() == 1 and bool(told) == main
  assert given == [1, -1]


def test_missing_collection_wrong_shape_and_nothing_at_all(tmp_path, abstract):
  with pytest.raises(CheckpointError, match=r"no checkpoint in .*a: run train.py"):
    read(tmp_path / "a", abstract)
  write(tmp_path / "a", [1])
  more = {
    **abstract,
    "variables": {**abstract["variables"], "batch_stats": abstract["variables"]["params"]},
  }
  with pytest.raises(
    CheckpointError,
    match="it lacks variables/batch_stats/kernel; its files are as they were written: is it of "
    "another network or version\\? choose another workdir",
  ):
    read(tmp_path / "a", more)
  with pytest.raises(CheckpointError, match="it lacks optimizer"):
    read(tmp_path / "a", {**abstract, "optimizer": abstract["step"]})
  for shape in ((9, 50), (40, 60), (40,)):
    kernel = jax.ShapeDtypeStruct(
      shape, jnp.float32, sharding=jax.tree.leaves(abstract)[0].sharding
    )
    other = {"variables": {"params": {"kernel": kernel}}}
    with pytest.raises(CheckpointError, match="1 cannot be read") as raised:
      read(tmp_path / "a", other)
    assert "\n" not in str(raised.value)


def test_a_step_deleted_by_hand_can_be_written_again(two, abstract):
  shutil.rmtree(two / "2")
  (two / "2.files.json").write_text('{"gone": 3}')
  (two / "notes.files.json").write_text("not ours")
  write(two, [2])
  assert int(read(two, abstract)["step"]) == 2
  assert (two / "notes.files.json").read_text() == "not ours"


def test_a_folder_that_cannot_hold_checkpoints(tmp_path):
  (tmp_path / "a").write_text("a file")
  with pytest.raises(CheckpointError, match=r"/a cannot hold checkpoints: ") as raised:
    Checkpoints(tmp_path / "a")
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_and_earlier_steps_stay(two, abstract, monkeypatch, number):
  def full(*_, **__):
    raise OSError(number, os.strerror(number))

  with Checkpoints(two) as checkpoints:
    with monkeypatch.context() as patch:
      patch.setattr(pathlib.Path, "write_text", full)
      with pytest.raises(FileError, match=r"3\.files\.json cannot be written: ") as raised:
        checkpoints.save(3, STATE)
      assert os.strerror(number) in str(raised.value)
    with monkeypatch.context() as patch:
      patch.setattr(checkpoints._manager, "save", full)
      with pytest.raises(FileError, match=r"a/4 cannot be written: .* same command goes on"):
        checkpoints.save(4, STATE)
  assert int(read(two, abstract)["step"]) == 2


def test_checkpoints_of_an_earlier_version_are_refused_and_stay(two, abstract):
  listed = {str(f.relative_to(two / "2")): 1 for f in files_of(two, 2)[:-1]}
  (two / "2.files.json").write_text(json.dumps(listed))
  before = sorted(two.rglob("*"))
  with pytest.raises(
    CheckpointError, match="of an earlier version, whose lists of files hold no h"
  ):
    read(two, abstract)
  with pytest.raises(CheckpointError, match="choose another workdir"):
    write(two, [3])
  assert sorted(two.rglob("*")) == before
