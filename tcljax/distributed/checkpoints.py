"""Checkpoints of one training phase, written by Orbax: the newest few steps under one directory.

Orbax writes beside and renames, so a step that is listed was finished. A list of its files and
their sizes is kept next to it, so that one cut short later (a full disk, a broken copy) is told
from the start, in one line.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from tcljax.distributed import parallel
from tcljax.files import write_text

_KEPT = 2


class CheckpointError(ValueError):
  """A checkpoint is missing, damaged, or not what was asked for."""


class Checkpoints:
  """The checkpoints under `directory`; create, use and `close`, or use as a context manager."""

  def __init__(self, directory: str | os.PathLike) -> None:
    self.directory = pathlib.Path(directory).absolute()
    self._manager = ocp.CheckpointManager(
      self.directory,
      item_handlers=ocp.PyTreeCheckpointHandler(),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=_KEPT, create=True, enable_async_checkpointing=False
      ),
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()

  def latest_step(self) -> int | None:
    """The newest step on disk, None if there is none."""
    return self._manager.latest_step()

  def path(self, step: int) -> pathlib.Path:
    """Where the checkpoint of a step lies."""
    return self.directory / str(step)

  def save(self, step: int, state: Mapping[str, Any]) -> None:
    """Writes `state`, a dictionary of pytrees of arrays, as the checkpoint of `step`."""
    if parallel.is_main_host():
      self._file_list(step).unlink(missing_ok=True)  # of a checkpoint deleted by hand
    self._manager.save(step, args=ocp.args.PyTreeSave(state))
    if parallel.is_main_host():
      self._list_files(step)

  def structure(self) -> dict[str, Any]:
    """What the newest checkpoint holds, by name, in nested dictionaries; empty without one.

    Raises:
      CheckpointError: if files are missing or cut short.
    """
    step = self.latest_step()
    if step is None:
      return {}
    self._check_files(step)
    try:
      return self._manager.item_metadata(step).tree
    except Exception as error:  # as in `restore`
      raise self._unreadable(step, error) from error

  def restore(self, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the newest checkpoint.

    Args:
      abstract: `jax.ShapeDtypeStruct`s, with shardings, in the structure wanted; it may lack
        whole top-level entries or collections that the checkpoint has.

    Returns:
      The arrays, in the structure of `abstract`.

    Raises:
      CheckpointError: if there is none, if files are missing or cut short, if it lacks
        something that is wanted, or if its arrays have other shapes.
    """
    step = self.latest_step()
    if step is None:
      raise CheckpointError(
        f"no checkpoint in {self.directory}: run train.py with this workdir first"
      )
    self._check_files(step)
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
    except Exception as error:  # Orbax and TensorStore raise many kinds, plain Exception too
      raise self._unreadable(step, error) from error
    return restored

  def close(self) -> None:
    """Ends the manager's threads."""
    self._manager.close()

  def _unreadable(self, step: int, error: Exception) -> CheckpointError:
    reason = str(error).partition("\n")[0]
    return CheckpointError(
      f"checkpoint {self.path(step)} cannot be read: {reason}; if its files "
      f"are damaged, {self._remedy(step)}"
    )

  def _remedy(self, step: int) -> str:
    earlier = [s for s in self._manager.all_steps() if s < step]
    resumes = f"resume from step {max(earlier)}" if earlier else "start this phase anew"
    return f"delete it to {resumes}"

  def _file_list(self, step: int) -> pathlib.Path:
    return self.directory / f"{step}.files.json"

  def _list_files(self, step: int) -> None:
    """Lists the files of a step, and forgets the lists of deleted ones."""
    root = self.path(step)
    sizes = {str(f.relative_to(root)): f.stat().st_size for f in root.rglob("*") if f.is_file()}
    write_text(self._file_list(step), json.dumps(sizes, indent=1))
    for file_list in self.directory.glob("*.files.json"):
      if not self.path(int(file_list.name.split(".")[0])).exists():
        file_list.unlink()

  def _check_files(self, step: int) -> None:
    try:
      sizes = json.loads(self._file_list(step).read_text())
    except (FileNotFoundError, ValueError):  # the process ended between the two writes
      return
    for name, size in sizes.items():
      file = self.path(step) / name
      found = file.stat().st_size if file.exists() else None
      if found != size:
        state = "is missing" if found is None else f"has {found} of {size} bytes"
        raise CheckpointError(
          f"checkpoint {self.path(step)} is damaged: {name} {state}; {self._remedy(step)}"
        )
