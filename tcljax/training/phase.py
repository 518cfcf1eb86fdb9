"""A phase of training: what is trained, by what, for how long; and the function that runs it."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from tcljax.data import Examples, training_batches
from tcljax.data.batches import training_order
from tcljax.distributed import fsdp, parallel
from tcljax.kernels import xla_options
from tcljax.layers.collections import CLIPPING, Variables
from tcljax.training.feeds import Feed, OnDevice, OneByOne, fits_on_device
from tcljax.training.loop import Hooks, fit
from tcljax.training.objectives import Objective
from tcljax.training.optimizers import OptimizerConfig, on_logarithms, train_only
from tcljax.training.step import (
  StepFunction,
  TrainState,
  gradient,
  new_state,
  one_step,
  train_step,
  train_steps,
)

_TRIAL_STEPS = 3
# Fewer steps hardly move a threshold. By default AdamW moves it by 2 % at most in the first step,
# and by 1 % in the mean of all, so by a fifth in 20 steps.
ENOUGH_STEPS = 20


@dataclasses.dataclass(frozen=True)
class Phase:
  """One run of the training loop.

  Attributes:
    name: of the phase, for people.
    steps: optimizer steps of the whole phase.
    batch_size: over all hosts, a multiple of the number of devices.
    objective: what is minimised, see `tcljax.training.objectives`.
    optimizers: for each collection that is trained, by its name; all others are frozen.
    seed: of the order of images and of all that is random.
    accumulate: parts of a batch that are taken one after the other, to need less memory; the batch
      is a multiple of as many times the number of devices.
    fsdp: devices over which variables and optimizer state are split, see `distributed.fsdp`; a
      divisor of their number.
  """

  name: str
  steps: int
  batch_size: int
  objective: Objective
  optimizers: Mapping[str, OptimizerConfig]
  seed: int = 0
  accumulate: int = 1
  fsdp: int = 1

  def transformation(self) -> optax.GradientTransformation:
    """The optimizers, each with its schedule over all steps; of thresholds on their logarithms."""
    made = {c: one.transformation(self.steps) for c, one in self.optimizers.items()}
    return train_only({c: on_logarithms(one) if c == CLIPPING else one for c, one in made.items()})

  def gradient(self) -> Callable[..., Any]:
    """See `step.gradient`."""
    return gradient(self.objective, self.optimizers, self.accumulate)

  def new_state(self, variables: Variables) -> TrainState:
    """See `step.new_state`."""
    return new_state(variables, self.transformation())

  def step(self, where: TrainState | None = None) -> StepFunction:
    """See `step.one_step`; `where` holds the shardings of its state, which may all be copies."""
    made = self.objective, self.transformation(), self.optimizers, self.steps, self.accumulate
    return one_step(*made, where if self.fsdp > 1 else None)


def run_phase(
  phase: Phase,
  start: Callable[[], Variables],
  split: Examples,
  mesh: Mesh,
  hooks: Hooks = Hooks(),
) -> Variables:
  """Runs the steps that a phase lacks.

  Args:
    phase: what to run.
    start: gives the variables to start with; called where there is no checkpoint to go on from.
    split: images to train on.
    mesh: from `parallel.data_mesh`.
    hooks: what happens beside the steps.

  Returns:
    The variables after the last step, on every device.

  Raises:
    CheckpointError: if a checkpoint cannot be read or written.
    Stopped: if it was asked for.
    TrainingDiverged: if the loss stops being finite.
    ValueError: if the split is empty, or a batch larger than it.
  """
  state = _restored_or_new(phase, start, mesh, hooks)
  done = int(state.step)
  hooks.on_begin(done)
  if done:
    hooks.on_saved(done, state.variables)
  if done < phase.steps:
    step = phase.step(jax.tree.map(lambda array: array.sharding, state))
    with contextlib.closing(_feed(phase, step, split, mesh, done)) as feed:
      state = fit(state, feed, phase.steps, seed=phase.seed, hooks=hooks)
  return fsdp.gathered(mesh, state.variables)


def _restored_or_new(
  phase: Phase, start: Callable[[], Variables], mesh: Mesh, hooks: Hooks
) -> TrainState:
  """The newest checkpoint's state, or that of a fresh start, on the devices."""
  make = lambda: phase.new_state(start())
  checkpoints = hooks.checkpoints
  if checkpoints is None or checkpoints.latest_step() is None:
    state = make()
    return parallel.placed(state, fsdp.shardings(mesh, state, phase.fsdp))
  shapes = jax.eval_shape(make)
  wanted = fsdp.abstract(shapes, fsdp.shardings(mesh, shapes, phase.fsdp))
  return TrainState(**checkpoints.restore(wanted._asdict()))


def _feed(phase: Phase, step: StepFunction, split: Examples, mesh: Mesh, done: int) -> Feed:
  """Many steps in one call where the images fit onto the device, else one."""
  if fits_on_device(split):
    order = training_order(split, phase.batch_size, phase.seed)
    return OnDevice(train_steps(step, mesh), split, order, mesh)
  batches = training_batches(split, phase.batch_size, phase.seed, done)
  return OneByOne(train_step(step), batches, mesh)


def within(
  phase: Phase, minutes: float, variables: Variables, split: Examples, mesh: Mesh
) -> Phase:
  """The phase with as many steps as fit into a time on this machine; at least 1.

  Judged by a trial of a few gradients, beside which the optimizer costs little. The time is that of
  the steps: the trial and compiling, for it and for the run, come on top.

  Args:
    phase: what is to be run; its `steps` are replaced.
    minutes: the time there is to train.
    variables: to start with; they are left as they are.
    split: images to train on.
    mesh: from `parallel.data_mesh`.

  Returns:
    The phase, the same on every host.
  """
  of_step = xla_options.Jitted(phase.gradient())
  variables = parallel.placed(variables, fsdp.shardings(mesh, variables, phase.fsdp))
  with contextlib.closing(training_batches(split, phase.batch_size, phase.seed)) as batches:
    batch = parallel.shard(mesh, next(batches))
  run = lambda: jax.block_until_ready(of_step(variables, batch, jax.random.key(0)))
  run()  # compiles
  moments = [time.perf_counter()]
  for _ in range(_TRIAL_STEPS):
    run()
    moments.append(time.perf_counter())
  steps = int(60 * minutes / np.median(np.diff(moments)))
  return dataclasses.replace(phase, steps=parallel.agreed(max(1, steps)))


def fitting_steps(steps: int, minutes: float) -> str:
  """One line: how many steps fit into this time, and what to do where they are too few."""
  few = f"; fewer than {ENOUGH_STEPS} hardly move a threshold: give more minutes"
  return f"{steps} tuning steps fit into {minutes:g} minutes{few if steps < ENOUGH_STEPS else ''}"
