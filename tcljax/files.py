"""Files that are never there half written: written beside their place, then renamed."""

import contextlib
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
