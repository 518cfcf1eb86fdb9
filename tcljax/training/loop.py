"""The training loop that both phases share: state, step, and running a number of steps."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tcljax.data import Examples, Split
from tcljax.data.orders import TrainingOrder
from tcljax.distributed import parallel
from tcljax.kernels import xla_options
from tcljax.training.objectives import Objective

if TYPE_CHECKING:
  from tcljax.distributed.checkpoints import (
    Checkpoints,  # Orbax, which a library user need not import
  )


_TRIAL_STEPS = 3
# Steps in one call where the images lie on the device. A call costs the host about a millisecond,
# as much as a step of a small network; metrics of as many steps are fetched together.
_STEPS_A_CALL = 64
# Of a device's memory, what the images may take that lie on it.
_SHARE_OF_MEMORY = 0.1


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
    objective: see `tcljax.training.objectives`.
    transformation: from `optim.train_only` with the same `trained`.
    trained: names of collections.

  Returns:
    A function of state, batch and the run's key to the next state and metrics `loss`,
    `gradient_norm`, `update_norm` and those of the objective. The state given is consumed.
  """
  return jax.jit(
    _step(objective, transformation, trained),
    donate_argnums=0,
    compiler_options=xla_options.saving_memory(),
  )


def _step(objective, transformation, trained):
  trained = tuple(trained)

  def step(state, batch, key):
    key = jax.random.fold_in(key, state.step)

    def loss_fn(moving):
      return objective({**state.variables, **moving}, batch, key)

    moving = {c: state.variables[c] for c in trained}
    (loss, (metrics, updated)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(moving)
    # Frozen collections get a zero that the optimizer drops: it is never computed.
    zeros = {
      c: jax.tree.map(jnp.zeros_like, tree)
      for c, tree in state.variables.items()
      if c not in trained
    }
    updates, opt_state = transformation.update(
      {**zeros, **gradients}, state.opt_state, state.variables
    )
    moved = {c: optax.apply_updates(state.variables[c], updates[c]) for c in trained}
    metrics = {
      "loss": loss,
      "gradient_norm": optax.tree.norm(gradients),
      "update_norm": optax.tree.norm([updates[c] for c in trained]),
      **metrics,
    }
    variables = {**state.variables, **updated, **moved}
    return TrainState(state.step + 1, variables, opt_state), metrics

  return step


def train_steps(
  objective: Objective,
  transformation: optax.GradientTransformation,
  trained: Iterable[str],
  mesh: Mesh,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """Compiled: as many steps of `train_step` as are asked for, on images that lie on the device.

  Args:
    objective: see `tcljax.training.objectives`.
    transformation: from `optim.train_only` with the same `trained`.
    trained: names of collections.
    mesh: from `parallel.data_mesh`.

  Returns:
    A function of state, `data` (a dictionary of whole arrays, [N, ...]), `positions` of the
    examples of each batch ([S, B]), the number of these batches to take, and the run's key. It
    gives the state after them and, for each metric, an array [S] whose first elements are theirs.
    The state given is consumed.
  """
  step = _step(objective, transformation, trained)
  sharding = NamedSharding(mesh, P("data"))

  def batch_at(data, positions):
    batch = {name: array[positions] for name, array in data.items()}
    return jax.lax.with_sharding_constraint(batch, sharding)

  def run(state, data, positions, count, key):
    shapes = jax.eval_shape(step, state, batch_at(data, positions[0]), key)[1]
    kept = {name: jnp.zeros(len(positions), metric.dtype) for name, metric in shapes.items()}

    def once(i, carry):
      state, kept = carry
      state, metrics = step(state, batch_at(data, positions[i]), key)
      return state, {name: kept[name].at[i].set(metric) for name, metric in metrics.items()}

    return jax.lax.fori_loop(0, count, once, (state, kept))

  return jax.jit(run, donate_argnums=0)


class OneByOne:
  """Runs steps on batches that the host makes, one call each."""

  steps_a_call = 1

  def __init__(self, step: StepFunction, batches: Iterator[Any], mesh: Mesh):
    self._step, self._batches, self._mesh = step, batches, mesh

  def __call__(self, state, first, count, key):
    """The state after a step, and its metrics."""
    del first, count
    return self._step(state, parallel.shard(self._mesh, next(self._batches)), key)


class OnDevice:
  """Runs steps on images that lie on every device, many in one call.

  Args:
    steps: from `train_steps`.
    split: in memory.
    order: which examples come when.
    mesh: from `parallel.data_mesh`.
  """

  steps_a_call = _STEPS_A_CALL

  def __init__(self, steps: Callable[..., Any], split: Split, order: TrainingOrder, mesh: Mesh):
    self._steps, self._order = steps, order
    self._data = parallel.replicate(mesh, {"image": split.images, "label": split.labels})

  def __call__(self, state, first, count, key):
    """The state after `count` steps from number `first` (from 0) on, and their metrics, [count]."""
    rows = [self._order[first + min(i, count - 1)] for i in range(self.steps_a_call)]
    state, metrics = self._steps(
      state, self._data, np.stack(rows).astype(np.int32), np.int32(count), key
    )
    return state, {name: metric[:count] for name, metric in metrics.items()}


def fits_on_device(split: Examples) -> bool:
  """Whether the images of a split may lie on each device: in memory, on one host, not on CPUs."""
  if not isinstance(split, Split) or jax.process_count() > 1 or jax.default_backend() == "cpu":
    return False
  memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 0)
  return split.images.nbytes <= _SHARE_OF_MEMORY * memory


def fit(
  state: TrainState,
  run: OneByOne | OnDevice,
  steps: int,
  *,
  seed: int,
  on_metrics: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
  checkpoints: "Checkpoints | None" = None,
  checkpoint_every: int = 0,
) -> TrainState:
  """Runs the steps that `state` still lacks.

  The metrics of a call are fetched after the next one was dispatched, so that the device never
  waits for the host.

  Args:
    state: where to start.
    run: what runs the next steps.
    steps: number of steps in the whole run.
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
    if pending is None:
      return
    number, metrics = pending
    metrics = {name: np.atleast_1d(np.asarray(value)) for name, value in metrics.items()}
    for i in range(len(metrics["loss"])):
      one = {name: float(value[i]) for name, value in metrics.items()}
      for name in ("loss", "gradient_norm", "update_norm"):
        if not np.isfinite(one[name]):
          raise TrainingDiverged(_diverged(number + i, name, one[name], checkpoints))
      on_metrics(number + i, one)

  done = int(state.step)
  while done < steps:
    saved = (
      min(steps, (done // checkpoint_every + 1) * checkpoint_every)
      if checkpoints and checkpoint_every
      else steps
    )
    count = min(run.steps_a_call, saved - done)
    state, metrics = run(state, done, count, key)
    settle()
    pending = (done + 1, metrics)
    done += count
    if checkpoints and done == saved:
      settle()  # what is saved must be known to be good
      pending = None
      checkpoints.save(done, state._asdict())
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
  return (
    f"{what}; {kept}; start anew in another --workdir with a lower learning rate or with "
    "optimizer.clip_norm"
  )


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
