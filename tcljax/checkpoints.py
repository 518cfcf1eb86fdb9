"""Checkpoints of one training phase, written by Orbax: the newest few steps under one directory.

Orbax writes beside and renames, so a step that is listed was finished. A list of its files and
their sizes is kept next to it, so that one cut short later (a full disk, a broken copy) is told
from the start, in one line.
"""

import json
import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

_KEPT = 2


class CheckpointError(ValueError):
  """A checkpoint is missing, damaged, or not what was asked for."""


class Checkpoints:
  """The checkpoints under `directory`; create, use and `close`, or use as a context manager."""

  def __init__(self, directory: str | os.PathLike):
    self.directory = pathlib.Path(directory).absolute()
    self._manager = ocp.CheckpointManager(
        self.directory, item_handlers=ocp.PyTreeCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(max_to_keep=_KEPT, create=True))
    self._unlisted = None

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def latest_step(self) -> int | None:
    """The newest step on disk, None if there is none."""
    return self._manager.latest_step()

  def path(self, step: int) -> pathlib.Path:
    """Where the checkpoint of a step lies."""
    return self.directory / str(step)

  def save(self, step: int, state: Any) -> None:
    """Starts writing `state`, a dictionary of pytrees of arrays, as the checkpoint of `step`."""
    self._list_files()
    self._manager.save(step, args=ocp.args.PyTreeSave(state))
    self._unlisted = step

  def restore(self, abstract: Any) -> Any:
    """Reads the newest checkpoint.

    Args:
      abstract: `jax.ShapeDtypeStruct`s, with shardings, in the structure wanted; it may lack
        whole top-level entries or collections that the checkpoint has.

    Returns:
      The arrays, in the structure of `abstract`.

    Raises:
      CheckpointError: if there is none, if files are missing or cut short, if it lacks a
        collection of `variables`, or if its arrays have other shapes.
    """
    step = self.latest_step()
    if step is None:
      raise CheckpointError(
          f"no checkpoint in {self.directory}: run train.py with this workdir first")
    self._check_files(step)
    try:
      found = self._manager.item_metadata(step).tree
      for collection in abstract.get("variables", {}):
        if collection not in found.get("variables", {}):
          raise ValueError(f"it lacks the collection {collection!r}")
      return self._manager.restore(
          step, args=ocp.args.PyTreeRestore(
              abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
              partial_restore=True))
    except Exception as error:  # Orbax and TensorStore raise many kinds for one cause: bad files
      reason = str(error).partition("\n")[0]
      raise CheckpointError(
          f"checkpoint {self.path(step)} cannot be read: {reason}; {self._remedy(step)}") from error

  def close(self) -> None:
    """Waits until everything is written."""
    self._list_files()
    self._manager.close()

  def _remedy(self, step):
    earlier = [s for s in self._manager.all_steps() if s < step]
    resumes = f"resume from step {max(earlier)}" if earlier else "start this phase anew"
    return f"delete it to {resumes}"

  def _file_list(self, step):
    return self.directory / f"{step}.files.json"

  def _list_files(self):
    """Lists the files of the step saved last, and forgets the lists of deleted steps."""
    self._manager.wait_until_finished()
    if self._unlisted is None or jax.process_index() != 0:
      return
    root = self.path(self._unlisted)
    sizes = {str(f.relative_to(root)): f.stat().st_size for f in root.rglob("*") if f.is_file()}
    write_text(self._file_list(self._unlisted), json.dumps(sizes, indent=1))
    for file_list in self.directory.glob("*.files.json"):
      if not self.path(int(file_list.name.split(".")[0])).exists():
        file_list.unlink()
    self._unlisted = None

  def _check_files(self, step):
    if not self._file_list(step).exists():  # the process ended between the two writes
      return
    for name, size in json.loads(self._file_list(step).read_text()).items():
      file = self.path(step) / name
      found = file.stat().st_size if file.exists() else None
      if found != size:
        state = "is missing" if found is None else f"has {found} of {size} bytes"
        raise CheckpointError(
            f"checkpoint {self.path(step)} is damaged: {name} {state}; {self._remedy(step)}")


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file beside its place and renames it, so that it is never there half written."""
  beside = path.with_name(path.name + ".partial")
  beside.write_text(text)
  beside.replace(path)
