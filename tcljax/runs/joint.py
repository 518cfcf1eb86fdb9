"""Joint training: thresholds together with the weights.

Three ways, one path (`config.joint.through`):

- "clip": the clipped ANN, min(max(x, 0), tau), as the paper trains (Ho & Chang, DAC 2021);
- "quantized": the activation that T steps can express, so that the weights know T (Bu et al., ICLR
  2022);
- "snn": the T-step spiking network itself, whose uneven spikes the weights then learn to live with.

The first two come before phase 2, from the ANN or from scratch; the third after it. From the ANN
the first two can go in cycles, whose results are averaged (`config.joint.cycles`).
"""

import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from tcljax.runs.experiment import Experiment
from tcljax.runs.phases import JOINT, run_phase
from tcljax.training.objectives import Objective, ann_objective, snn_objective, with_threshold_decay

# What gives averaged weights statistics of their own: so many batches, each of at least this size.
_STATISTICS_STEPS, _STATISTICS_BATCH = 100, 128


def objective(experiment: Experiment, mesh: Mesh, variables: dict[str, Any]) -> Objective:
  """What joint training minimises, from these variables on."""
  joint, teacher = experiment.config.joint, experiment.reference(variables)[0]
  if joint.through == "snn":
    loss = snn_objective(
      experiment.model,
      experiment.preprocess,
      experiment.spiking,
      mesh,
      joint.objective,
      teacher=teacher,
      at=experiment.config.tune.at,
      smoothing=joint.label_smoothing,
    )
  else:
    loss = ann_objective(
      experiment.ann_with_activation,
      experiment.preprocess,
      joint.label_smoothing,
      joint.objective,
      teacher=teacher,
    )
  return with_threshold_decay(loss, joint.threshold_decay)


def train_jointly(
  experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, variables: dict[str, Any]
) -> dict[str, Any]:
  """Trains `params` and `clipping` together, each with its own optimizer.

  Args:
    experiment: whose config says how to train jointly.
    workdir: from `prepare_workdir`.
    mesh: from `parallel.data_mesh`.
    variables: `params`, `batch_stats` and `clipping` to start with.

  Returns:
    All collections, and `teacher`: what tuning learns from, and what the spiking network is
    compared with. Labels before tuning make a new network, which is its own; otherwise it is the
    ANN that training started from, or the teacher that this one had.

  Raises:
    CheckpointError: if a checkpoint cannot be read.
    TrainingDiverged: if the loss stops being finite.
  """
  joint = experiment.config.joint
  if experiment.makes_its_teacher:
    variables = {name: tree for name, tree in variables.items() if name != "teacher"}
  else:
    variables = {**variables, "teacher": experiment.reference(variables)[1]}
  minimised = objective(experiment, mesh, variables)
  if joint.cycles:
    variables = _averaged_over_cycles(experiment, workdir, mesh, variables, minimised)
  else:
    variables = run_phase(
      experiment,
      workdir,
      mesh,
      JOINT,
      joint.steps,
      joint.batch_size,
      minimised,
      experiment.joint_optimizers,
      lambda: variables,
    )
  return experiment.with_own_teacher(variables)


def final_steps(config: ConfigDict) -> int:
  """Steps of the phase that leaves the result of joint training."""
  return _STATISTICS_STEPS if config.joint.cycles else config.joint.steps


def _averaged_over_cycles(experiment, workdir, mesh, variables, minimised):
  """Stochastic weight averaging with a cyclical learning rate (Izmailov et al., UAI 2018).

  Each cycle goes on where the one before ended, with the whole schedule of the learning rate. The
  result is the mean of where training started and where each cycle ended. The statistics of
  BatchNorm are then those of the mean itself, from a pass over training images.
  """
  joint, seed = experiment.config.joint, experiment.config.seed
  visited = [variables]
  for cycle in range(1, joint.cycles + 1):
    visited.append(
      run_phase(
        experiment,
        workdir,
        mesh,
        f"{JOINT}-{cycle}",
        joint.steps // joint.cycles,
        joint.batch_size,
        minimised,
        experiment.joint_optimizers,
        lambda: visited[-1],
        seed + cycle,
      )
    )
  moving = [{name: point[name] for name in ("params", "clipping")} for point in visited]
  # By NumPy: hosts cannot compute with each other's arrays outside of `jit`.
  mean = jax.tree.map(
    lambda *points: np.mean([np.asarray(point) for point in points], axis=0), *moving
  )
  batch_size = joint.batch_size * -(-_STATISTICS_BATCH // joint.batch_size)
  return run_phase(
    experiment,
    workdir,
    mesh,
    JOINT,
    _STATISTICS_STEPS,
    batch_size,
    minimised,
    {},
    lambda: {**visited[-1], **mean},
  )
