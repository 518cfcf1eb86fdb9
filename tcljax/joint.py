"""Joint training: thresholds together with the weights.

Three ways, one path (`config.joint.through`):

- "clip": the clipped ANN, min(max(x, 0), tau), as the paper trains (Ho & Chang, DAC 2021);
- "quantized": the activation that T steps can express, so that the weights know T (Bu et al., ICLR
  2022);
- "snn": the T-step spiking network itself, whose uneven spikes the weights then learn to live with.

The first two come before phase 2, from the ANN or from scratch; the third after it.
"""

import pathlib
from typing import Any

from jax.sharding import Mesh

from tcljax.experiment import Experiment
from tcljax.objectives import Objective, ann_objective, snn_objective, with_threshold_decay
from tcljax.phases import JOINT, run_phase


def objective(experiment: Experiment, mesh: Mesh, variables: dict[str, Any]) -> Objective:
  """What joint training minimises, from these variables on."""
  joint, teacher = experiment.config.joint, experiment.reference(variables)[0]
  if joint.through == "snn":
    loss = snn_objective(
        experiment.model, experiment.preprocess, experiment.spiking, mesh, joint.objective,
        teacher=teacher, at=experiment.config.tune.at, smoothing=joint.label_smoothing)
  else:
    loss = ann_objective(
        experiment.ann_with_activation, experiment.preprocess, joint.label_smoothing,
        joint.objective, teacher=teacher)
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
  variables = run_phase(
      experiment, workdir, mesh, JOINT, joint.steps, joint.batch_size,
      objective(experiment, mesh, variables), experiment.joint_optimizers, lambda: variables)
  return experiment.with_own_teacher(variables)
