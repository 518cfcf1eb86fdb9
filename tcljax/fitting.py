"""The training loop that both phases share: state, step, and running a number of steps."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from tcljax import compiler, parallel
from tcljax.objectives import Objective

if TYPE_CHECKING:
  from tcljax.checkpoints import Checkpoints  # Orbax, which a library user need not import


_TRIAL_STEPS = 3


class TrainState(NamedTuple):
  """Everything a run needs to go on: steps done, all collections of variables, optimizer state."""

  step: jax.Array
  variables: dict[str, Any]
  opt_state: Any


class TrainingDiverged(RuntimeError):
  """The loss, its gradient or the update stopped being finite."""


StepFunction = Callable[[TrainState, Any, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


def new_state(
    variables: dict[str, Any], transformation: optax.GradientTransformation
) -> TrainState:
  """The state before the first step; `transformation` is from `optim.train_only`.

  The variables are copied: steps consume the state they are given.
  """
  variables = jax.tree.map(jnp.copy, variables)
  return TrainState(jnp.zeros((), jnp.int32), variables, transformation.init(variables))


def train_step(
    objective: Objective, transformation: optax.GradientTransformation, trained: Iterable[str]
) -> StepFunction:
  """A compiled step that differentiates and updates only the `trained` collections.

  Args:
    objective: see `tcljax.objectives`.
    transformation: from `optim.train_only` with the same `trained`.
    trained: names of collections.

  Returns:
    A function of state, batch and the run's key to the next state and metrics `loss`,
    `gradient_norm`, `update_norm` and those of the objective. The state given is consumed.
  """
  trained = tuple(trained)

  def step(state, batch, key):
    key = jax.random.fold_in(key, state.step)

    def loss_fn(moving):
      return objective({**state.variables, **moving}, batch, key)

    moving = {c: state.variables[c] for c in trained}
    (loss, (metrics, updated)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(moving)
    # Frozen collections get a zero that the optimizer drops: it is never computed.
    zeros = {c: jax.tree.map(jnp.zeros_like, tree)
             for c, tree in state.variables.items() if c not in trained}
    updates, opt_state = transformation.update(
        {**zeros, **gradients}, state.opt_state, state.variables)
    moved = {c: optax.apply_updates(state.variables[c], updates[c]) for c in trained}
    metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients),
               "update_norm": optax.tree.norm([updates[c] for c in trained]), **metrics}
    variables = {**state.variables, **updated, **moved}
    return TrainState(state.step + 1, variables, opt_state), metrics

  return jax.jit(step, donate_argnums=0, compiler_options=compiler.saving_memory())


def fit(
    state: TrainState,
    step: StepFunction,
    batches: Iterator[Any],
    steps: int,
    *,
    mesh: Mesh,
    seed: int,
    on_metrics: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    checkpoints: "Checkpoints | None" = None,
    checkpoint_every: int = 0,
) -> TrainState:
  """Runs the steps that `state` still lacks.

  The metrics of a step are fetched after the next one was dispatched, so that the device never
  waits for the host.

  Args:
    state: where to start.
    step: from `train_step`.
    batches: numpy batches, the part of this host; the first is that of step `state.step`.
    steps: number of steps in the whole run.
    mesh: from `parallel.data_mesh`.
    seed: of everything random in the steps.
    on_metrics: called with the number of each finished step and its metrics.
    checkpoints: where to save; None saves nothing.
    checkpoint_every: steps between checkpoints; the last step is always saved.

  Returns:
    The state after `steps` steps.

  Raises:
    TrainingDiverged: if the loss, the gradient or the update is not finite; nothing is saved from
      there on.
  """
  key = jax.random.key(seed)
  pending = None

  def settle():
    if pending is not None:
      number = pending[0]
      metrics = {name: float(value) for name, value in pending[1].items()}
      for name in ("loss", "gradient_norm", "update_norm"):
        if not np.isfinite(metrics[name]):
          raise TrainingDiverged(_diverged(number, name, metrics[name], checkpoints))
      on_metrics(number, metrics)

  for number in range(int(state.step) + 1, steps + 1):
    state, metrics = step(state, parallel.shard(mesh, next(batches)), key)
    settle()
    pending = (number, metrics)
    if checkpoints and (number == steps or (checkpoint_every and number % checkpoint_every == 0)):
      settle()  # what is saved must be known to be good
      pending = None
      checkpoints.save(number, state._asdict())
  settle()
  return state


def steps_within(
    minutes: float, state: TrainState, step: StepFunction, batch: Any, *, mesh: Mesh
) -> int:
  """How many steps fit into a time on this machine, judged by a trial of a few; at least 1.

  What the trial takes, and compiling once more for the run itself, counts as time spent.

  Args:
    minutes: the time there is.
    state: any state; it is left as it is.
    step: from `train_step`.
    batch: one numpy batch, the part of this host.
    mesh: from `parallel.data_mesh`.

  Returns:
    The number of steps, the same on every host.
  """
  moments = [time.perf_counter()]
  trial, batch = jax.tree.map(jnp.copy, state), parallel.shard(mesh, batch)
  for _ in range(1 + _TRIAL_STEPS):
    trial, metrics = step(trial, batch, jax.random.key(0))
    jax.block_until_ready(metrics)
    moments.append(time.perf_counter())
  first, *others = np.diff(moments)
  left = 60 * minutes - (moments[-1] - moments[0]) - first
  return parallel.agreed(max(1, int(left / np.median(others))))


def _diverged(number, name, value, checkpoints):
  what = f"{name.replace('_', ' ')} is {value} at step {number}"
  if checkpoints is None:
    return f"{what}; are all inputs finite? if so, lower the learning rate or set clip_norm"
  last = checkpoints.latest_step()
  kept = f"the last good checkpoint is {checkpoints.path(last)}" if last else "no checkpoint yet"
  return (f"{what}; {kept}; start anew in another --workdir with a lower learning rate or with "
          "optimizer.clip_norm")


def restore_or_new(
    checkpoints: "Checkpoints",
    mesh: Mesh,
    make_variables: Callable[[], dict[str, Any]],
    transformation: optax.GradientTransformation,
) -> TrainState:
  """The newest checkpoint's state, or that of a fresh start, copied to every device."""
  make = lambda: new_state(make_variables(), transformation)
  if checkpoints.latest_step() is None:
    return parallel.replicate(mesh, make())
  abstract = parallel.abstract_replicated(mesh, jax.eval_shape(make))
  return TrainState(**checkpoints.restore(abstract._asdict()))
