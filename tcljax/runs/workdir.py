"""The workdir of a run: what lies where, and phases that are kept in it.

Each phase keeps its checkpoints in a folder of its own; one whose last step is there is not run
again, and one that was stopped goes on from its newest checkpoint.
"""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import Mesh

from tcljax import files
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import CheckpointError, Checkpoints
from tcljax.files import PARTIAL, FileError, checked_path, read_json, write_text, writing
from tcljax.layers.collections import Variables
from tcljax.reporting.progress import PhaseLog, say
from tcljax.runs import stopping
from tcljax.runs.config import RunConfig
from tcljax.runs.config_forms import differences, from_json, to_json
from tcljax.runs.experiment import Experiment
from tcljax.runs.training_sections import TuneConfig
from tcljax.training.loop import Hooks, Stopped
from tcljax.training.phase import Phase, run_phase

# Folders of the phases and of calibration, and names of the phases.
ANN, CALIBRATED, JOINT, TUNED = "ann", "calibrated", "joint", "tuned"
BEST_ANN = "ann-best"
CONFIG, _LOCK = "config.json", ".lock"
_SAVED_EVERY = 120  # seconds, where the config names no number of steps
_CHOSEN_STEPS, _CHOSEN_DELAY = "tuning_steps.json", "delay.json"


def check_workdir(workdir: str | os.PathLike, config: RunConfig) -> pathlib.Path:
  """Checks that a workdir can be of this config, and is used by no other run; it stays as it is.

  Returns:
    Its absolute path.

  Raises:
    ValueError: if it is no path, cannot be read or written, holds another config, or is in use.
  """
  path = _checked(workdir, config)
  existing = next(p for p in (path, *path.parents) if p.exists())
  if not existing.is_dir():
    raise ValueError(f"workdir {path} cannot be written: {existing} is no directory")
  if not os.access(existing, os.W_OK | os.X_OK):
    raise ValueError(f"workdir {path} cannot be written: Permission denied for {existing}")
  # Another host of the same run may hold the lock by now.
  if (path / _LOCK).exists() and not jax.distributed.is_initialized():
    with files.locked(path / _LOCK, f"workdir {path}"):
      pass
  return path


def _checked(workdir: str | os.PathLike, config: RunConfig) -> pathlib.Path:
  path = checked_path("workdir", workdir).absolute()
  check_holds_checkpoints("workdir", path)
  stored = path / CONFIG
  try:
    # Looked at once: another host of the same run may write its config at any moment.
    names = {found.name for found in path.iterdir()} if path.is_dir() else set()
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be read: {error.strerror}") from error
  if stored.name in names:
    changed = differences(from_json(stored), config)
    if changed:
      raise ValueError(
        f"workdir {path} holds another config ({'; '.join(changed)}): choose another workdir, or "
        "set these fields back"
      )
  elif names - {CONFIG + PARTIAL, _LOCK}:
    raise ValueError(f"workdir {path} is not empty and holds no {CONFIG}: choose another workdir")
  return path


def check_holds_checkpoints(what: str, path: pathlib.Path) -> None:
  """Raises ValueError if Orbax, which takes paths for patterns, could not read checkpoints back."""
  if "[" in str(path):
    raise ValueError(
      f"{what} {path} has a '[' in its path, and checkpoints there could not be read back: choose "
      "another"
    )


def locked(workdir: pathlib.Path) -> contextlib.AbstractContextManager[None]:
  """Holds a workdir for this run alone, on all of its hosts; makes it where there is none.

  Raises:
    FileError: on entering, if another run holds it, or it cannot be written.
  """
  return _held(workdir / _LOCK, f"workdir {workdir}")


def locked_output(output: pathlib.Path) -> contextlib.AbstractContextManager[None]:
  """The same for a network's folder, which is replaced as a whole: the lock lies beside it."""
  return _held(output.with_name(f".{output.name}.lock"), f"output {output}")


@contextlib.contextmanager
def _held(lock: pathlib.Path, what: str) -> Iterator[None]:
  with contextlib.ExitStack() as held:
    error = None
    if parallel.is_main_host():
      try:
        with writing(lock.parent):
          lock.parent.mkdir(parents=True, exist_ok=True)
        held.enter_context(files.locked(lock, what))
      except FileError as raised:
        error = raised
    if not parallel.agreed(int(error is None)):
      raise error or FileError(f"{what} cannot be used, as process 0 says")
    yield


def prepare_workdir(workdir: str | os.PathLike, config: RunConfig) -> pathlib.Path:
  """Makes the workdir, or checks that it belongs to this config.

  Raises:
    ValueError: if it cannot be read or written, or holds another config; what is there stays as it
      is.
  """
  path = _checked(workdir, config)
  with writing(path):
    path.mkdir(parents=True, exist_ok=True)
  if parallel.is_main_host():
    write_text(path / CONFIG, to_json(config))
  parallel.wait_for_hosts("prepare_workdir")
  return path


def run_in_workdir(
  phase: Phase,
  start: Callable[[], Variables],
  experiment: Experiment,
  workdir: pathlib.Path,
  mesh: Mesh,
  on_saved: Callable[[int, Variables], None] = lambda step, variables: None,
) -> Variables:
  """Runs the steps that a phase lacks, with its checkpoints and records in the workdir.

  Args:
    phase: what to run; its name is that of its folder.
    start: gives the variables to start with; called where there is no checkpoint.
    experiment: whose images are trained on.
    workdir: from `prepare_workdir`.
    mesh: from `parallel.data_mesh`.
    on_saved: see `Hooks`.

  Returns:
    The variables after the last step, on every device.

  Raises:
    FileError: if something cannot be read or written.
    Stopped: if a signal asked for it.
    TrainingDiverged: if the loss stops being finite.
  """
  every = experiment.checkpoint_every
  log = PhaseLog(workdir, phase.name, phase.steps, experiment.log_every)
  with (
    Checkpoints(workdir / phase.name, say, experiment.checkpoints_kept) as checkpoints,
    contextlib.closing(log),
    stopping.after_a_step(math.inf if every else _SAVED_EVERY) as asked,
  ):
    hooks = Hooks(log.begin, log, checkpoints, every, asked, on_saved)
    try:
      return run_phase(phase, start, experiment.dataset.train, mesh, hooks)
    except Stopped as stopped:
      raise Stopped(f"{phase.name}: {stopped}") from None


def keep_tuning_steps(workdir: pathlib.Path, minutes: float, steps: int) -> None:
  """Keeps how many steps fit into the time for tuning, for the run that goes on later."""
  _keep(workdir / _CHOSEN_STEPS, {"minutes": minutes, "steps": steps})


def tuning_steps(tune: TuneConfig, workdir: pathlib.Path) -> int | None:
  """The length of phase 2: as set, or as chosen to fit into its time; None if not chosen yet.

  Raises:
    CheckpointError: if the file that holds the choice is damaged.
  """
  return _kept(workdir / _CHOSEN_STEPS, "steps", 1) if tune.minutes else tune.steps


def keep_delay(workdir: pathlib.Path, delay: int) -> None:
  """Keeps how many steps the readout leaves out, for whatever goes on from this workdir."""
  _keep(workdir / _CHOSEN_DELAY, {"delay": delay})


def with_kept_delay(experiment: Experiment, workdir: pathlib.Path) -> Experiment:
  """The experiment with the delay that was kept in a workdir, where its config leaves it open.

  Raises:
    CheckpointError: if the file that holds it is damaged.
  """
  if not experiment.leaves_delay_open:
    return experiment
  delay = _kept(workdir / _CHOSEN_DELAY, "delay", 0)
  return experiment if delay is None else experiment.with_delay(delay)


def _keep(path: pathlib.Path, chosen: dict[str, Any]) -> None:
  if parallel.is_main_host():
    write_text(path, json.dumps(chosen) + "\n")
  parallel.wait_for_hosts(path.name)


def _kept(path: pathlib.Path, field: str, least: int) -> int | None:
  """A number that was kept in a file; None where there is no file."""
  remedy = f"remove it and {path.parent / TUNED} to tune anew"
  try:
    found = read_json(path)
  except FileNotFoundError:
    return None
  except FileError as error:
    raise CheckpointError(f"{error}; {remedy}") from error
  number = found.get(field) if isinstance(found, dict) else None
  if type(number) is not int or number < least:
    raise CheckpointError(f"{path} cannot be read: it holds no number of {field}; {remedy}")
  return number
