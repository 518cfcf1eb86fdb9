"""Joint training: thresholds together with the weights.

Three ways, one path (`joint.through`):

- "clip": the clipped ANN, min(max(x, 0), tau), as the paper trains (Ho & Chang, DAC 2021);
- "quantized": the activation that T steps can express, so that the weights know T (Bu et al., ICLR
  2022);
- "snn": the T-step spiking network itself, whose uneven spikes the weights then learn to live with.

The first two come before phase 2, from the ANN or from scratch; the third after it. From the ANN
the first two can go in cycles, whose results are averaged (`joint.cycles`).
"""

import dataclasses
import functools
import pathlib

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from tcljax.layers.activations import TCL, Quantized, with_activation
from tcljax.layers.collections import (
  CLIPPING,
  PARAMS,
  TEACHER,
  Variables,
  teacher_of,
  with_teacher,
  without,
)
from tcljax.runs.experiment import Experiment
from tcljax.runs.training_sections import JointConfig
from tcljax.runs.workdir import JOINT, run_in_workdir
from tcljax.training.objectives import Objective, ann_objective, snn_objective, with_threshold_decay
from tcljax.training.phase import Phase

# What gives averaged weights statistics of their own: so many batches, each of at least this size
# where there are as many training images.
_STATISTICS_STEPS, _STATISTICS_BATCH = 100, 128


def clipped_ann(experiment: Experiment) -> nn.Module:
  """The network that is trained before its thresholds are tuned, through the clip that it gets.

  T-aware training goes through the activation that T steps can express, with the half level that
  rounds to nearest (Bu et al., ICLR 2022).
  """
  act = TCL
  if experiment.joint.through == "quantized":
    snn = experiment.snn
    act = functools.partial(
      Quantized,
      time_steps=snn.time_steps,
      burst=snn.burst,
      phase=snn.phase,
      shift=0.5 * snn.spiking().neuron.grain,
    )
  return with_activation(experiment.ann, act)


def objective(experiment: Experiment, mesh: Mesh, variables: Variables) -> Objective:
  """What joint training minimises, from these variables on."""
  joint, teacher = experiment.joint, experiment.reference(variables)[0]
  if joint.through == "snn":
    loss = snn_objective(
      experiment.model,
      experiment.preprocess,
      experiment.spiking,
      mesh,
      joint.objective,
      teacher=teacher,
      at=experiment.tune.at,
      smoothing=joint.label_smoothing,
    )
  else:
    loss = ann_objective(
      clipped_ann(experiment),
      experiment.preprocess_for_ann,
      joint.label_smoothing,
      joint.objective,
      teacher=teacher,
    )
  return with_threshold_decay(loss, joint.threshold_decay)


def train_jointly(
  experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, variables: Variables
) -> Variables:
  """Trains `params` and `clipping` together, each with its own optimizer.

  Args:
    experiment: whose section `joint` says how.
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
  joint = experiment.joint
  phase, variables = joint_phase(experiment, mesh, variables)
  if joint.cycles:
    variables = _averaged_over_cycles(phase, experiment, workdir, mesh, variables)
  else:
    variables = run_in_workdir(phase, lambda: variables, experiment, workdir, mesh)
  return with_own_teacher(joint, variables)


def joint_phase(
  experiment: Experiment, mesh: Mesh, variables: Variables
) -> tuple[Phase, Variables]:
  """The phase of `joint.steps` steps, and the variables to start with, their teacher among them."""
  joint = experiment.joint
  if joint.makes_its_teacher:
    variables = without(variables, TEACHER)
  else:
    variables = with_teacher(variables, experiment.reference(variables)[1])
  phase = Phase(
    name=JOINT,
    steps=joint.steps,
    batch_size=joint.batch_size,
    accumulate=joint.accumulate,
    fsdp=joint.fsdp,
    objective=objective(experiment, mesh, variables),
    optimizers={PARAMS: joint.optimizer, CLIPPING: joint.threshold_optimizer},
    seed=experiment.seed,
  )
  return phase, variables


def with_own_teacher(joint: JointConfig, variables: Variables) -> Variables:
  """Variables after joint training, with `teacher` where they are their own."""
  if teacher_of(variables) or not joint.makes_its_teacher:
    return variables
  return with_teacher(variables, dict(variables))


def final_steps(joint: JointConfig) -> int:
  """Steps of the phase that leaves the result of joint training."""
  return _STATISTICS_STEPS if joint.cycles else joint.steps


def _averaged_over_cycles(
  phase: Phase, experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, variables: Variables
) -> Variables:
  """Stochastic weight averaging with a cyclical learning rate (Izmailov et al., UAI 2018).

  Each cycle goes on where the one before ended, with the whole schedule of the learning rate. The
  result is the mean of where training started and where each cycle ended. The statistics of
  BatchNorm are then those of the mean itself, from a pass over training images.
  """
  cycles, visited = experiment.joint.cycles, [variables]
  for number in range(1, cycles + 1):
    cycle = dataclasses.replace(
      phase, name=f"{JOINT}-{number}", steps=phase.steps // cycles, seed=phase.seed + number
    )
    visited.append(run_in_workdir(cycle, lambda: visited[-1], experiment, workdir, mesh))
  moving = [{name: point[name] for name in phase.optimizers} for point in visited]
  # By NumPy: hosts cannot compute with each other's arrays outside of `jit`.
  mean = jax.tree.map(
    lambda *points: np.mean([np.asarray(point) for point in points], axis=0), *moving
  )
  wanted = -(-_STATISTICS_BATCH // phase.batch_size)
  size = phase.batch_size * min(wanted, len(experiment.dataset.train) // phase.batch_size)
  statistics = dataclasses.replace(phase, steps=_STATISTICS_STEPS, batch_size=size, optimizers={})
  return run_in_workdir(statistics, lambda: {**visited[-1], **mean}, experiment, workdir, mesh)
