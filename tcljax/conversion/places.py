"""Where the files of a spiking network lie: in a folder, or in one archive.

An archive is a zip whose entries are stored as they are. Nothing in it is ever unpacked to the
disk: its files are read where they stand, and only by the names that files of a network have.
"""

import contextlib
import errno
import io
import os
import pathlib
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any, BinaryIO

from tcljax.checks import in_a_line
from tcljax.files import sync

ARCHIVE = ".zip"  # how the name of an archive ends; by custom ".tcljax.zip"
REPORT = "report"  # a folder of a page and its figures, which convert.py adds
_LONGEST = 400  # letters of an error that tells of a text somebody else wrote
_MOST_ENTRIES = 16
_PART = 2**18  # bytes that are read at a time; a list of entries is no longer
# Of zipfile, by what is wrong in an archive; these and those of files are all it is known to raise.
_OF_ZIPFILE = (
  zipfile.BadZipFile,
  RuntimeError,
  struct.error,
  EOFError,
  OverflowError,
  LookupError,
)

# Opens a file by its name: to be read, with its size, or to be written.
Reading = Callable[[str], AbstractContextManager[tuple[BinaryIO, int]]]
Writing = Callable[[str], AbstractContextManager[IO[bytes]]]


def is_archive(path: pathlib.Path) -> bool:
  """Whether a network at this path is, or would be, one file."""
  return path.is_file() or (path.suffix == ARCHIVE and not path.is_dir())


@contextlib.contextmanager
def read_from(path: pathlib.Path, names: Iterable[str]) -> Iterator[Reading]:
  """Gives what opens the files of a network at a path.

  What it opens ends with the file that it belongs to. It raises FileNotFoundError where there is no
  such file, and otherwise ValueError, with the name of the file, where it, or what is read in it,
  is not as it should be.

  Args:
    path: of a folder, or of an archive.
    names: all that an archive may hold.

  Raises:
    ValueError: if it is no archive that can be read.
    OSError: if it cannot be opened.
  """
  if not is_archive(path):
    yield lambda name: _named(name, _regular(path / name))
    return
  with _regular(path) as (file, size):
    try:
      opened = zipfile.ZipFile(_InParts(file))
    except (ValueError, *_OF_ZIPFILE) as error:
      raise ValueError(f"it is no archive of a network: {told(error)}") from error
    entries = {entry.filename: entry for entry in _checked(opened.infolist(), size, {*names})}
    yield lambda name: _named(name, _entry(opened, entries, name))


@contextlib.contextmanager
def _named(name: str, opened: AbstractContextManager[Any]) -> Iterator[Any]:
  """A file that is open, and errors of it that begin with its name."""
  try:
    with opened as file:
      yield file
  except FileNotFoundError:
    raise
  except (OSError, ValueError, *_OF_ZIPFILE) as error:
    raise ValueError(f"{name}: {told(error)}") from error


def _checked(entries: list[zipfile.ZipInfo], size: int, names: set[str]) -> list[zipfile.ZipInfo]:
  """The entries of an archive, which must be files of a network, stored as they are."""
  if len(entries) > _MOST_ENTRIES:
    raise ValueError(f"it has {len(entries)} entries, and {_MOST_ENTRIES} are the most")
  for number, entry in enumerate(entries):
    name = in_a_line(entry.filename)
    if entry.orig_filename not in names:
      raise ValueError(f"it holds {in_a_line(entry.orig_filename)}, which is no file of a network")
    if entry.filename in {other.filename for other in entries[:number]}:
      raise ValueError(f"it holds {name} twice")
    if entry.flag_bits & 1:
      raise ValueError(f"its entry {name} is encrypted: decrypt it, and load the folder")
    if entry.compress_type != zipfile.ZIP_STORED:
      raise ValueError(f"its entry {name} is compressed: unpack it, and load the folder")
    if entry.file_size != entry.compress_size or entry.file_size > size:
      raise ValueError(f"its entry {name} has another size than it says")
  return entries


@contextlib.contextmanager
def _entry(
  opened: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str
) -> Iterator[tuple[IO[bytes], int]]:
  if name not in entries:
    raise FileNotFoundError(errno.ENOENT, "No such entry", name)
  with opened.open(entries[name]) as file:
    yield file, entries[name].file_size


class _InParts:
  """A file of which zipfile gets no more at a time than a part, whatever an archive says."""

  def __init__(self, file: IO[bytes]) -> None:
    self._file = file
    self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

  def read(self, size: int | None = -1) -> bytes:
    """So many bytes, of a part at most."""
    return self._file.read(_PART if size is None or size < 0 else min(size, _PART))

  def close(self) -> None:
    """Nothing: who has opened the file closes it."""


@contextlib.contextmanager
def _regular(path: pathlib.Path) -> Iterator[tuple[io.BufferedReader, int]]:
  """Opens a regular file, or a link to one, and tells its size.

  Raises:
    ValueError: if it is something else. Pipes and devices, which may never end, are not waited for.
    OSError: if it cannot be opened.
  """
  # Of Unix alone; on Windows a file is opened as text without the last.
  flags = [getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")]
  with contextlib.ExitStack() as opened:
    descriptor = os.open(path, os.O_RDONLY | sum(flags))
    opened.callback(os.close, descriptor)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
      raise ValueError("it is not a regular file")
    yield opened.enter_context(open(descriptor, "rb", closefd=False)), found.st_size


def told(error: BaseException) -> str:
  """The first line of an error, no longer than people read."""
  if isinstance(error, OSError):
    return str(error.strerror)
  line = str(error).partition("\n")[0] or type(error).__name__
  return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."


@contextlib.contextmanager
def folder_written(path: pathlib.Path) -> Iterator[Writing]:
  """Makes a folder, and gives what opens its files to be written; then all are on the disk."""
  path.mkdir()
  written = [path]

  def open_file(name: str) -> IO[bytes]:
    written.insert(-1, path / name)
    return (path / name).open("wb")

  yield open_file
  for each in written:
    sync(each)


@contextlib.contextmanager
def archive_written(path: pathlib.Path) -> Iterator[Writing]:
  """The same of the entries of an archive, one open at a time."""
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

    def open_entry(name: str) -> Any:
      entry = zipfile.ZipInfo(name)  # of the first of all days: the bytes tell no time
      entry.external_attr = 0o644 << 16
      return archive.open(entry, "w", force_zip64=True)

    yield open_entry


def is_report(path: pathlib.Path) -> bool:
  """Whether this is a directory that holds nothing but what a report is made of."""
  if path.name != REPORT or path.is_symlink() or not path.is_dir():
    return False
  names = {str(inner.relative_to(path)) for inner in path.rglob("*") if not inner.is_dir()}
  return all(re.fullmatch(r"(index\.html|figures/\w+\.(png|json))(\.partial)?", n) for n in names)
