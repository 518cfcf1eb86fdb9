"""The workdir of a run: what lies where, and phases that are kept in it.

Each phase keeps its checkpoints in a folder of its own; one whose last step is there is not run
again, and one that was stopped goes on from its newest checkpoint.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable

from jax.sharding import Mesh

from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import CheckpointError, Checkpoints
from tcljax.files import write_text
from tcljax.layers.collections import Variables
from tcljax.reporting.progress import PhaseLog
from tcljax.runs.config import RunConfig
from tcljax.runs.config_forms import differences, from_json, to_json
from tcljax.runs.experiment import Experiment
from tcljax.runs.sections import TuneConfig
from tcljax.training.loop import Hooks
from tcljax.training.phase import Phase, run_phase

# Folders of the phases and of calibration, and names of the phases.
ANN, CALIBRATED, JOINT, TUNED = "ann", "calibrated", "joint", "tuned"
CONFIG, _CHOSEN_STEPS = "config.json", "tuning_steps.json"


def prepare_workdir(workdir: str | os.PathLike, config: RunConfig) -> pathlib.Path:
  """Makes the workdir, or checks that it belongs to this config.

  Raises:
    ValueError: if it cannot be read or written, or holds another config; what is there stays as it
      is.
  """
  path = pathlib.Path(workdir).absolute()
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
  elif names - {f"{CONFIG}.partial"}:
    raise ValueError(f"workdir {path} is not empty and holds no {CONFIG}: choose another workdir")
  try:
    path.mkdir(parents=True, exist_ok=True)
    if parallel.is_main_host():
      write_text(stored, to_json(config))
    parallel.wait_for_hosts("prepare_workdir")
  except OSError as error:
    raise ValueError(f"workdir {path} cannot be written: {error.strerror}") from error
  return path


def run_in_workdir(
  phase: Phase,
  start: Callable[[], Variables],
  experiment: Experiment,
  workdir: pathlib.Path,
  mesh: Mesh,
) -> Variables:
  """Runs the steps that a phase lacks, with its checkpoints and records in the workdir.

  Args:
    phase: what to run; its name is that of its folder.
    start: gives the variables to start with; called where there is no checkpoint.
    experiment: whose images are trained on.
    workdir: from `prepare_workdir`.
    mesh: from `parallel.data_mesh`.

  Returns:
    The variables after the last step, on every device.

  Raises:
    CheckpointError: if a checkpoint cannot be read.
    TrainingDiverged: if the loss stops being finite.
  """
  log = PhaseLog(workdir, phase.name, phase.steps, experiment.log_every)
  with Checkpoints(workdir / phase.name) as checkpoints, contextlib.closing(log):
    hooks = Hooks(log.begin, log, checkpoints, experiment.checkpoint_every)
    return run_phase(phase, start, experiment.dataset.train, mesh, hooks)


def keep_tuning_steps(workdir: pathlib.Path, minutes: float, steps: int) -> None:
  """Keeps how many steps fit into the time for tuning, for the run that goes on later."""
  if parallel.is_main_host():
    write_text(workdir / _CHOSEN_STEPS, json.dumps({"minutes": minutes, "steps": steps}) + "\n")
  parallel.wait_for_hosts("tuning steps")


def tuning_steps(tune: TuneConfig, workdir: pathlib.Path) -> int | None:
  """The length of phase 2: as set, or as chosen to fit into its time; None if not chosen yet.

  Raises:
    CheckpointError: if the file that holds the choice is damaged.
  """
  stored = workdir / _CHOSEN_STEPS
  if not tune.minutes:
    return tune.steps
  if not stored.exists():
    return None
  try:
    return int(json.loads(stored.read_text())["steps"])
  except (KeyError, OSError, TypeError, ValueError) as error:
    raise CheckpointError(
      f"{stored} cannot be read: {error}; remove it and {workdir / TUNED} to tune anew"
    ) from error
