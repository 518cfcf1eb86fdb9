"""Files that are never there half written: written beside their place, then renamed."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def written_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives the place to write to; on leaving without an error it becomes `path`."""
  beside = path.with_name(path.name + ".partial")
  try:
    yield beside
    beside.replace(path)
  finally:
    beside.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a whole text file."""
  with written_beside(path) as beside:
    beside.write_text(text)


def sync(path: pathlib.Path) -> None:
  """Waits until a file or a directory is on the disk and not in its cache alone."""
  if path.is_dir() and os.name == "nt":  # which opens no directories
    return
  descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
