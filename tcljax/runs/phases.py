"""One phase of a run, such as phase 1 or tuning: restored or started, then run to its end.

Each phase keeps its checkpoints in a directory of its own below the workdir; one whose last step is
there is not run again, and one that was stopped goes on from its newest checkpoint.
"""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from tcljax.data import training_batches
from tcljax.data.batches import training_order
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.reporting.progress import PhaseLog, say
from tcljax.runs.experiment import Experiment
from tcljax.training import loop
from tcljax.training import optimizers as optim
from tcljax.training.objectives import Objective

# Directories below the workdir, and names of the phases.
ANN, CALIBRATED, JOINT, TUNED = "ann", "calibrated", "joint", "tuned"


def run_phase(
  experiment: Experiment,
  workdir: pathlib.Path,
  mesh: Mesh,
  name: str,
  steps: int,
  batch_size: int,
  objective: Objective,
  optimizers: dict[str, optim.OptimizerConfig],
  make_variables: Callable[[], dict[str, Any]],
  seed: int | None = None,
) -> dict[str, Any]:
  """Runs the steps that a phase lacks.

  Args:
    experiment: from `make_experiment`.
    workdir: from `prepare_workdir`.
    mesh: from `parallel.data_mesh`.
    name: of the phase and its directory.
    steps: of the whole phase.
    batch_size: over all hosts.
    objective: what is minimised.
    optimizers: for each collection that is trained, by its name; all others are frozen.
    make_variables: the variables to start with; called where there is no checkpoint.
    seed: of the order of images and of all that is random; by default the config's.

  Returns:
    The variables after the last step, on every device.

  Raises:
    CheckpointError: if a checkpoint cannot be read.
    TrainingDiverged: if the loss stops being finite.
  """
  config, trained = experiment.config, tuple(optimizers)
  seed = config.seed if seed is None else seed
  transformation = optim.train_only(
    {collection: optimizer.transformation(steps) for collection, optimizer in optimizers.items()}
  )
  with Checkpoints(workdir / name) as checkpoints:
    state = loop.restore_or_new(checkpoints, mesh, make_variables, transformation)
    start = int(state.step)
    if start:
      say(f"{name}: {start} of {steps} steps are done already")
    if start == steps:
      return state.variables
    with contextlib.ExitStack() as stack:
      run = _runner(
        experiment.dataset.train,
        batch_size,
        seed,
        start,
        objective,
        transformation,
        trained,
        mesh,
        stack,
      )
      log = stack.enter_context(
        contextlib.closing(PhaseLog(workdir, name, start, steps, config.log_every))
      )
      state = loop.fit(
        state,
        run,
        steps,
        seed=seed,
        on_metrics=log,
        checkpoints=checkpoints,
        checkpoint_every=config.checkpoint_every,
      )
    return state.variables


def _runner(split, batch_size, seed, start, objective, transformation, trained, mesh, stack):
  """What runs the steps: many in one call where the images fit onto the device."""
  if loop.fits_on_device(split):
    return loop.OnDevice(
      loop.train_steps(objective, transformation, trained, mesh),
      split,
      training_order(split, batch_size, seed),
      mesh,
    )
  batches = stack.enter_context(
    contextlib.closing(training_batches(split, batch_size, seed, start))
  )
  return loop.OneByOne(loop.train_step(objective, transformation, trained), batches, mesh)
