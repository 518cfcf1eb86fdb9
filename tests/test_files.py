"""Files: whole or not there, read with suspicion, held by one process."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import pytest
from no_paths import no_paths
from running import ROOT

from tcljax.files import (
  FileError,
  checked_path,
  kind_and_why,
  locked,
  not_written,
  read_json,
  read_text,
  write_text,
  writing,
  written_beside,
)


def test_what_is_written_is_synced_before_it_takes_its_place(tmp_path, monkeypatch):
  """Else a machine that loses its power may keep the name and lose what is in it."""
  done, path = [], tmp_path / "a.txt"
  path.write_text("before")
  fsync, replace = os.fsync, pathlib.Path.replace

  def synced(descriptor):
    done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return fsync(descriptor)

  def replaced(source, target):
    done.append("renamed")
    return replace(source, target)

  monkeypatch.setattr(os, "fsync", synced)
  monkeypatch.setattr(pathlib.Path, "replace", replaced)
  write_text(path, "after\u00e9")
  assert done == [f"{path}.partial", "renamed", str(tmp_path)]
  assert read_text(path) == "after\u00e9" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("before")
  with pytest.raises(FileError, match=r"a\.txt cannot be written: No space left on device; what "):
    with written_beside(path) as beside:
      beside.write_text("half")
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  with pytest.raises(KeyError), written_beside(path) as beside:
    beside.write_text("half")
    raise KeyError
  assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  "reason, remedy",
  [
    (OSError(errno.ENOSPC, "No space left on device"), "No space .*: make room on the disk, and"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "make room in your quota"),
    (OSError(errno.EFBIG, "File too large"), "raise the limit of a file's size"),
    (OSError(errno.EROFS, "Read-only file system"), "Read-only file system; .*: mend this"),
    ("RESOURCE_EXHAUSTED: [No space left on device]", "written: No space left on device; what was"),
    ("INTERNAL: something", "written: INTERNAL: something; what was saved before stays: mend this"),
  ],
)
def test_the_remedy_is_that_of_the_reason(reason, remedy):
  with pytest.raises(FileError, match=remedy):
    raise not_written(pathlib.Path("a"), reason)


def test_errors_that_are_none_of_the_disk_stay(tmp_path):
  with pytest.raises(KeyError), writing(tmp_path):
    raise KeyError
  with pytest.raises(FileNotFoundError):
    read_json(tmp_path / "none")


def in_another_process(path):
  code = (
    "import pathlib, sys, time; from tcljax.files import locked\n"
    f"with locked(pathlib.Path({str(path)!r}), 'workdir w'):\n"
    "  print('held', flush=True); time.sleep(60)"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
  )
  assert process.stdout and process.stdout.readline() == "held\n"
  return process


def test_a_lock_is_held_by_one_process_and_dies_with_it(tmp_path):
  path = tmp_path / ".lock"
  process = in_another_process(path)
  try:
    with pytest.raises(FileError, match=rf"workdir w is in use by process {process.pid} on "):
      with locked(path, "workdir w"):
        pass
  finally:
    process.kill()
    process.communicate()
  assert path.exists()  # left over, and held by nobody
  with locked(path, "workdir w"):
    assert str(os.getpid()) in path.read_text()
    with pytest.raises(FileError, match="wait until it has ended"), locked(path, "workdir w"):
      pass
  assert not path.exists()
  with pytest.raises(FileError, match="lock cannot be written: No such file or directory"):
    with locked(tmp_path / "none" / ".lock", "workdir w"):
      pass


def test_what_is_no_path_is_told(tmp_path):
  for value, message in no_paths(tmp_path):
    with pytest.raises(ValueError, match=f"^output{message}"):
      checked_path("output", value)
  (tmp_path / "link").symlink_to("nowhere")
  for good in (tmp_path, tmp_path / "new", tmp_path / "link", "runs", "/"):
    assert checked_path("output", good) == pathlib.Path(good)


def raised(error):
  with pytest.raises(type(error)) as caught:
    raise error
  return caught.value


def test_an_error_is_told_in_one_line_whether_or_not_it_says_anything():
  assert kind_and_why(raised(ValueError("first\nsecond"))) == "ValueError: first"
  assert kind_and_why(KeyError()) == "KeyError"  # which was raised nowhere
  told = kind_and_why(raised(AssertionError()))
  assert re.fullmatch(r"AssertionError at `raise error` \(test_files\.py:\d+\)", told)
