"""Files that are whole or not there, that are read with suspicion, that one process holds."""

import contextlib
import errno
import json
import os
import pathlib
import socket
import stat
import traceback
from collections.abc import Iterator
from typing import Any

from tcljax.checks import must_be

try:
  import fcntl
except ImportError:  # no such locks on Windows
  fcntl = None

PARTIAL = ".partial"  # how the name of a file ends until it is whole
_REMEDIES = {
  errno.ENOSPC: "make room on the disk",
  errno.EDQUOT: "make room in your quota",
  errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
}


class FileError(ValueError):
  """A file cannot be read or written, or is in use; the message names it and says why."""


def not_written(path: pathlib.Path, reason: OSError | str) -> FileError:
  """The error of a file or folder that could not be written, in one line with the remedy."""
  remedy, text = "mend this", str(reason)
  if isinstance(reason, OSError):
    remedy, text = _REMEDIES.get(reason.errno or 0, remedy), reason.strerror or text
  else:  # libraries say in words what the system said
    for number, found in _REMEDIES.items():
      if os.strerror(number) in text:
        remedy, text = found, os.strerror(number)
  return FileError(
    f"{path} cannot be written: {text}; what was saved before stays: {remedy}, and the same "
    "command goes on from there"
  )


def checked_path(field: str, value: Any) -> pathlib.Path:
  """A path that a user gave, as it was given; whether something is there is not looked at.

  Raises:
    ValueError: if it is no path, is empty, is one that no file can have, or leads in a circle.
  """
  try:
    text = os.fspath(value)
  except TypeError:
    text = None
  if not isinstance(text, str):
    raise ValueError(must_be(field, value, "a path, such as 'runs/network'"))
  if not text:
    raise ValueError(f"{field}='' is empty: give a path, such as 'runs/network'")
  try:
    os.stat(text)
  except OSError as error:
    if error.errno == errno.ELOOP:
      raise ValueError(
        f"{field}={text!r} is or goes through a link that leads back to itself: remove the link, "
        "or give another path"
      ) from error
  except ValueError as error:  # a NUL, or half of a character
    raise ValueError(f"{field}={text!r} is a path that no file can have: {why(error)}") from error
  return pathlib.Path(text)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Turns errors of the disk into a FileError that names `path`."""
  try:
    yield
  except OSError as error:
    raise not_written(path, error) from error


@contextlib.contextmanager
def written_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives the place to write to; on leaving without an error it becomes `path`.

  Raises:
    FileError: if it cannot be written; what was at `path` stays.
  """
  beside = path.with_name(path.name + PARTIAL)
  with writing(path):
    try:
      yield beside
      sync(beside)
      beside.replace(path)
      sync(path.parent)
    finally:
      with contextlib.suppress(OSError):
        beside.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a whole text file.

  Raises:
    FileError: if it cannot be written; what was at `path` stays.
  """
  with written_beside(path) as beside:
    beside.write_text(text, encoding="utf-8")


def sync(path: pathlib.Path) -> None:
  """Returns once the contents of a file, or the names in a folder, are on the disk itself."""
  if path.is_dir():
    with contextlib.suppress(OSError):  # not every file system can
      _sync(path)
  else:
    _sync(path)


def _sync(path: pathlib.Path) -> None:
  descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def read_text(path: pathlib.Path) -> str:
  """The text of a file.

  Raises:
    FileNotFoundError: if there is none.
    FileError: if it is something else than a file, such as a pipe, or holds something else than
      text.
  """
  try:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
      raise FileError(f"{path} cannot be read: it is no file")
    return path.read_text(encoding="utf-8")
  except FileNotFoundError:
    raise
  except OSError as error:
    raise FileError(f"{path} cannot be read: {error.strerror}") from error
  except UnicodeDecodeError as error:
    raise FileError(f"{path} cannot be read: it is no text in UTF-8") from error


def read_json(path: pathlib.Path) -> Any:
  """What a file of JSON holds.

  Raises:
    FileNotFoundError: if there is none.
    FileError: if it is no file, or not JSON.
  """
  text = read_text(path)
  try:
    return json.loads(text)
  except (RecursionError, ValueError) as error:
    raise FileError(f"{path} cannot be read: {why(error)}") from error


def why(error: Exception) -> str:
  """The first line of what an error says, and something where it says nothing."""
  if isinstance(error, RecursionError):
    return "it is nested too deeply"
  return str(error).strip().partition("\n")[0] or type(error).__name__


def kind_and_why(error: Exception) -> str:
  """An error's kind and `why`; of one without a text, as of a bare assertion, its line of code."""
  kind, frames = type(error).__name__, traceback.extract_tb(error.__traceback__)
  if str(error).strip() or not frames:
    return f"{kind}: {why(error)}" if str(error).strip() else kind
  at = pathlib.Path(frames[-1].filename)
  packages = "site-packages" in at.parts
  file = at.as_posix().rpartition("/site-packages/")[2] if packages else at.name
  line = f" at `{frames[-1].line}`" if frames[-1].line else ""
  return f"{kind}{line} ({file}:{frames[-1].lineno})"


@contextlib.contextmanager
def locked(path: pathlib.Path, what: str) -> Iterator[None]:
  """Holds a lock file until left, or until the process ends in whatever way.

  On a file system without locks, and on Windows, nothing is held.

  Args:
    path: of the lock file, which is removed on leaving.
    what: is locked, for people: "workdir runs/digits".

  Raises:
    FileError: if another process holds it.
  """
  if fcntl is None:
    yield
    return
  with writing(path):
    while (descriptor := _taken(path, what)) is None:
      pass
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      path.unlink(missing_ok=True)
    os.close(descriptor)


def _taken(path: pathlib.Path, what: str) -> int | None:
  """The lock file, open and held; None if it was removed by who held it, and is to be made anew."""
  assert fcntl is not None
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
    os.close(descriptor)
    raise FileError(
      f"{what} is in use by {holder}: wait until it has ended, stop it, or choose another place"
    ) from None
  except OSError:  # a file system without locks
    return descriptor
  try:
    same = os.path.samestat(os.stat(path), os.fstat(descriptor))
  except FileNotFoundError:
    same = False
  if not same:
    os.close(descriptor)
    return None
  with contextlib.suppress(OSError):  # who holds it is told where that can be written
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
  return descriptor
