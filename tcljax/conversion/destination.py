"""Where a network may be written: what it takes the place of is a network, and nothing else."""

import pathlib
import shutil
import tempfile

from tcljax.conversion.description import CARD, STEP, WEIGHTS
from tcljax.conversion.places import ARCHIVE, is_archive, is_report, read_from
from tcljax.files import PARTIAL, checked_path

DESCRIPTION = "network.json"
# What convert.py adds for people, and what is left of it where writing was ended.
FIGURES = {f"{name}{end}" for name in ("results.json", "accuracy.png") for end in ("", PARTIAL)}
# All that a directory of ours may hold, which `save` may replace; earlier formats had the last.
FILES = {DESCRIPTION, WEIGHTS, STEP, CARD, "arrays.npz", *FIGURES}
_TOLD = 5  # names in an error


def check_output(directory: str | pathlib.Path, field: str = "output") -> pathlib.Path:
  """The resolved path of an output of `save`, its parents made.

  A network that an interrupted `save` had set aside is put back first.

  Args:
    directory: where a user wants a network.
    field: the name that the user knows it by.

  Raises:
    ValueError: if it is no path, cannot be written, or `save` would destroy something else than a
      network.
  """
  path = checked_path(field, directory).resolve()
  if not path.name:  # nothing can be written beside it and then renamed
    raise ValueError(f"{field}='{path}' is the root of all files: choose another directory")
  beside, replaced = besides(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not is_archive(path):
      _check_own(beside, WEIGHTS, field, path)
      _check_own(replaced, DESCRIPTION, field, path)
      if replaced.exists():
        if path.exists():
          shutil.rmtree(replaced)
        else:
          replaced.rename(path)
    with tempfile.TemporaryDirectory(dir=path.parent):
      pass
    if path.suffix == ARCHIVE and path.is_file():
      _check_replaceable(path)
      return path
    found = {entry.name for entry in path.iterdir()} if path.exists() else set()
    foreign = _foreign(path) if found else []
  except OSError as error:
    raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
  if foreign or (found and DESCRIPTION not in found):
    raise ValueError(
      f"output {path} holds {_listed(foreign or sorted(found))} and is not (only) "
      "a spiking network: choose another directory"
    )
  return path


def _check_own(there: pathlib.Path, needed: str, field: str, path: pathlib.Path) -> None:
  """Raises ValueError unless a folder beside a network is none, or what `save` has left there.

  Args:
    there: the folder.
    needed: the file that is there if any is.
    field: the name that a user knows the output by.
    path: of the output.
  """
  if there.is_symlink() or (there.exists() and not there.is_dir()):
    holds = "is a file or a link"
  elif there.is_dir() and (names := sorted(entry.name for entry in there.iterdir())):
    foreign = _foreign(there) or ([] if needed in names else names)
    holds = f"holds {_listed(foreign)}" if foreign else ""
  else:
    return
  if holds:
    raise ValueError(
      f"{field} {path} is written by way of {there}, which {holds}: move that away, or choose "
      "another directory"
    )


def besides(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Where the folder of a network is while it is written, and the one that was there meanwhile."""
  return path.with_name(path.name + PARTIAL), path.with_name(f"{path.name}.replaced")


def _foreign(path: pathlib.Path) -> list[str]:
  """Names of what is no part of a network in a folder."""
  return sorted(
    entry.name  # a directory by the name of a file is none of ours
    for entry in path.iterdir()
    if not is_report(entry) and (entry.name not in FILES or entry.is_dir())
  )


def _listed(names: list[str]) -> str:
  more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
  return ", ".join(names[:_TOLD]) + more


def _check_replaceable(path: pathlib.Path) -> None:
  """Raises ValueError unless a file is an archive of a network, of any format."""
  try:
    with read_from(path, FILES) as reading, reading(DESCRIPTION):
      pass
  except (ValueError, FileNotFoundError) as error:
    raise ValueError(
      f"output {path} is there and is no archive of a spiking network: choose another path"
    ) from error
