"""Checkpoints of one training phase, written by Orbax: the newest few steps under one directory.

Orbax writes beside and renames. A list of a checkpoint's files, with their sizes and hashes, is
then written next to it. What does not agree with its list is damaged, by a full disk, a broken copy
or a flipped bit, and what has no list was not finished: such a checkpoint is named and passed over,
and the newest one that is whole takes its place.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from tcljax.distributed import parallel
from tcljax.files import FileError, not_written, read_json, sync, why, write_text

_EARLIER_VERSION = -2  # in place of a step


class CheckpointError(FileError):
  """A checkpoint is missing, damaged, or not what was asked for."""


class Checkpoints:
  """The checkpoints under `directory`; create, use and `close`, or use as a context manager.

  Args:
    directory: of the phase; made where there is none.
    tell: called with a line for each damaged checkpoint that is passed over, on the main host.
    kept: how many of the newest stay when another is written.
    without: what happens where none is whole, as that line says it.

  Raises:
    CheckpointError: if the directory cannot be used.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    tell: Callable[[str], None] = lambda line: None,
    kept: int = 2,
    without: str = "this phase starts anew",
  ) -> None:
    self.directory = pathlib.Path(directory).absolute()
    self._tell, self._without = tell, without
    self._looked, self._newest = False, None
    # Of the steps after the newest whole one, what is wrong with them; known to the main host.
    self._damage: dict[int, str] = {}
    try:
      if self.directory.exists() and not self.directory.is_dir():  # which Orbax takes as empty
        raise ValueError("it is no directory")
      self._manager = ocp.CheckpointManager(
        self.directory,
        item_handlers=ocp.PyTreeCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(
          max_to_keep=kept, create=True, enable_async_checkpointing=False
        ),
      )
    except Exception as error:  # Orbax raises many kinds
      raise CheckpointError(f"{self.directory} cannot hold checkpoints: {why(error)}") from error

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()

  def latest_step(self) -> int | None:
    """The newest step on disk that is whole, None if there is none; on every host the same."""
    if not self._looked:
      self._look()
    return self._newest

  def damage(self) -> str:
    """What is wrong with the checkpoints that `latest_step` passes over; empty where none is."""
    self.latest_step()
    return "; ".join(self._damage.values())

  def path(self, step: int) -> pathlib.Path:
    """Where the checkpoint of a step lies."""
    return self.directory / str(step)

  def save(self, step: int, state: Mapping[str, Any]) -> None:
    """Writes `state`, a dictionary of pytrees of arrays, as the checkpoint of `step`.

    Raises:
      FileError: if it cannot be written; earlier ones stay.
    """
    newest = self.latest_step()
    try:
      for passed_over in self._manager.all_steps():
        if newest is None or passed_over > newest:
          self._manager.delete(passed_over)
      if parallel.is_main_host():
        self._file_list(step).unlink(missing_ok=True)  # of a checkpoint deleted by hand
      self._manager.save(step, args=ocp.args.PyTreeSave(state))
      if parallel.is_main_host():
        self._list_files(step)
    except (FileError, jax.errors.JaxRuntimeError):  # the latter where another host was lost
      raise
    except Exception as error:  # Orbax and TensorStore raise many kinds, plain Exception too
      reason = error if isinstance(error, OSError) else why(error)
      raise not_written(self.path(step), reason) from error
    self._newest = step
    self._damage.clear()

  def structure(self) -> dict[str, Any]:
    """What the newest checkpoint holds, by name, in nested dictionaries; empty without one.

    Raises:
      CheckpointError: if it cannot be read.
    """
    step = self.latest_step()
    if step is None:
      return {}
    try:
      return self._manager.item_metadata(step).tree
    except Exception as error:  # as in `save`
      raise self._unreadable(step, error) from error

  def restore(self, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the newest checkpoint that is whole.

    Args:
      abstract: `jax.ShapeDtypeStruct`s, with shardings, in the structure wanted; it may lack
        whole top-level entries or collections that the checkpoint has.

    Returns:
      The arrays, in the structure of `abstract`.

    Raises:
      CheckpointError: if there is none, if it lacks something that is wanted, or if its arrays have
        other shapes.
    """
    step = self.latest_step()
    if step is None:
      raise CheckpointError(
        self.damage() or f"no checkpoint in {self.directory}: run train.py with this workdir first"
      )
    try:
      restored: Any = self._manager.restore(
        step,
        args=ocp.args.PyTreeRestore(
          abstract,
          restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
          partial_restore=True,
        ),
      )
      for path, leaf in jax.tree_util.tree_leaves_with_path(restored):
        if isinstance(leaf, jax.ShapeDtypeStruct):  # what Orbax leaves where it found nothing
          raise ValueError(f"it lacks {'/'.join(str(getattr(k, 'key', k)) for k in path)}")
    except jax.errors.JaxRuntimeError:  # where another host was lost
      raise
    except Exception as error:  # as in `save`
      raise self._unreadable(step, error) from error
    return restored

  def close(self) -> None:
    """Ends the manager's threads."""
    self._manager.close()

  def _unreadable(self, step: int, error: Exception) -> CheckpointError:
    reason = why(error).partition(". ")[0]  # further sentences are about Orbax's arguments
    return CheckpointError(
      f"checkpoint {self.path(step)} cannot be read: {reason}; its files are as they were "
      "written: is it of another network or version? choose another workdir"
    )

  def _look(self) -> None:
    """Finds the newest step that is whole; the main host looks, and all go by what it found."""
    newest = None
    if parallel.is_main_host():
      for step in sorted(self._manager.all_steps(), reverse=True):
        if self._is_of_an_earlier_version(step):
          newest = _EARLIER_VERSION
          break
        damage = self._damage_of(step)
        if damage is None:
          newest = step
          break
        self._damage[step] = f"checkpoint {self.path(step)} is damaged: {damage}"
    found = parallel.agreed(-1 if newest is None else newest)
    if found == _EARLIER_VERSION:
      raise CheckpointError(
        f"the checkpoints in {self.directory} are of an earlier version, whose lists of files hold "
        "no hashes: choose another workdir, or finish with the version that wrote them"
      )
    self._looked, self._newest = True, None if found < 0 else found
    instead = f"step {found} is used instead" if found >= 0 else self._without
    for line in self._damage.values():
      self._tell(f"{line}; {instead}")

  def _file_list(self, step: int) -> pathlib.Path:
    return self.directory / f"{step}.files.json"

  def _list_files(self, step: int) -> None:
    """Lists the files of a step, which are then on the disk, and forgets lists of deleted ones."""
    root = self.path(step)
    found = sorted(root.rglob("*"))
    listed = {str(f.relative_to(root)): _described(f) for f in found if f.is_file()}
    for path in (*found, root, self.directory):
      sync(path)
    write_text(self._file_list(step), json.dumps(listed, indent=1))
    for file_list in self.directory.glob("*.files.json"):
      name = file_list.name.split(".")[0]
      if name.isdecimal() and not self.path(int(name)).exists():
        with contextlib.suppress(OSError):
          file_list.unlink()

  def _is_of_an_earlier_version(self, step: int) -> bool:
    """Whether the list of a step holds sizes alone; what is whole is then not known."""
    try:
      listed = read_json(self._file_list(step))
    except (FileNotFoundError, FileError):
      return False
    sizes = listed if isinstance(listed, dict) else {}
    known = [isinstance(n, int) and (self.path(step) / f).is_file() for f, n in sizes.items()]
    return bool(known) and all(known)

  def _damage_of(self, step: int) -> str | None:
    """What is wrong with a step, None if it is whole."""
    path = self._file_list(step)
    try:
      listed = read_json(path)
    except FileNotFoundError:
      return f"its list of files {path.name} is missing"
    except FileError as error:
      return str(error)
    if not isinstance(listed, dict) or not listed:
      return f"{path.name} is no list of its files"
    for name, described in listed.items():
      file = self.path(step) / name
      if not isinstance(described, dict) or set(described) != {"bytes", "sha256"}:
        return f"{path.name} has no size and hash of {name}"
      try:
        if not file.is_file():
          return f"{name} is missing"
        if (found := file.stat().st_size) != described["bytes"]:
          return f"{name} has {found} of {described['bytes']} bytes"
        if _described(file) != described:
          return f"{name} has changed since it was written"
      except (OSError, ValueError) as error:  # ValueError for names that can be of no file
        return f"{name} cannot be read: {why(error)}"
    return None


def _described(file: pathlib.Path) -> dict[str, Any]:
  with file.open("rb") as opened:
    found = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"bytes": opened.tell(), "sha256": found}
