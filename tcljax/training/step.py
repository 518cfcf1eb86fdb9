"""One step of training: the state, its gradient, and the compiled functions that move it."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tcljax.distributed import fsdp
from tcljax.kernels import targets, xla_options
from tcljax.layers.collections import Variables
from tcljax.training.objectives import Objective


class TrainState(NamedTuple):
  """Everything a run needs to go on: steps done, all collections of variables, optimizer state."""

  step: jax.Array
  variables: Variables
  opt_state: Any


Metrics = dict[str, jax.Array]
StepFunction = Callable[[TrainState, Any, jax.Array], tuple[TrainState, Metrics]]


def new_state(variables: Variables, transformation: optax.GradientTransformation) -> TrainState:
  """The state before the first step; `transformation` is from `optimizers.train_only`.

  The variables are copied: steps consume the state they are given.
  """
  variables = jax.tree.map(jnp.copy, variables)
  return TrainState(jnp.zeros((), jnp.int32), variables, transformation.init(variables))


def gradient(
  objective: Objective, trained: Iterable[str], accumulate: int = 1
) -> Callable[..., Any]:
  """The gradient of an objective to the `trained` collections alone.

  Args:
    objective: see `tcljax.training.objectives`.
    trained: names of collections.
    accumulate: parts of a batch that are taken one after the other. What is given is then the mean
      over the parts: of the loss, the metrics and the gradients. A part goes on with what the one
      before updated.

  Returns:
    A function of variables, batch, key and the share of steps that lie behind to ((loss, (metrics,
    updated)), gradients by collection).
  """
  trained = tuple(trained)

  def of_whole(variables, batch, key, done=0.0):
    def loss(moving):
      return objective({**variables, **moving}, batch, key, done)

    return jax.value_and_grad(loss, has_aux=True)({c: variables[c] for c in trained})

  def of_parts(variables, batch, key, done=0.0):
    # Every so many-th example is of the same part: each device then has its share of every part.
    parts = jax.tree.map(
      lambda a: jnp.moveaxis(a.reshape(-1, accumulate, *a.shape[1:]), 1, 0), batch
    )
    part = lambda i: jax.tree.map(lambda a: a[i], parts)
    of_part = lambda i, updated: of_whole(
      {**variables, **updated}, part(i), jax.random.fold_in(key, i), done
    )
    (loss, (metrics, updated)), gradients = jax.eval_shape(of_part, 0, {})
    sums = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), (loss, metrics, gradients))

    def once(i, carry):
      sums, updated = carry
      (loss, (metrics, updated)), gradients = of_part(i, updated)
      return jax.tree.map(jnp.add, sums, (loss, metrics, gradients)), updated

    start = sums, {collection: variables[collection] for collection in updated}
    sums, updated = jax.lax.fori_loop(0, accumulate, once, start)
    loss, metrics, gradients = jax.tree.map(lambda a: a / accumulate, sums)
    return (loss, (metrics, updated)), gradients

  return of_whole if accumulate == 1 else of_parts


def one_step(
  objective: Objective,
  transformation: optax.GradientTransformation,
  trained: Iterable[str],
  steps: int,
  accumulate: int = 1,
  where: TrainState | None = None,
) -> StepFunction:
  """A step that differentiates and updates only the `trained` collections.

  Args:
    objective: see `tcljax.training.objectives`.
    transformation: from `optimizers.train_only` with the same `trained`.
    trained: names of collections.
    steps: of the whole phase.
    accumulate: parts of a batch, as in `gradient`.
    where: shardings of the state where it is split over devices, see `distributed.fsdp`; None where
      each device has all of it.

  Returns:
    A function of state, batch and the run's key to the next state and metrics `loss`,
    `gradient_norm`, `update_norm` and those of the objective, which may have a `loss` of its own to
    tell.
  """
  trained = tuple(trained)
  of_step = gradient(objective, trained, accumulate)
  constrained = jax.lax.with_sharding_constraint

  def step(state, batch, key):
    key = jax.random.fold_in(key, state.step)
    done = state.step / steps
    variables = state.variables
    if where is not None:  # else what layers compute would be split like their weights
      variables = constrained(variables, fsdp.unsplit(where.variables))
    (loss, (metrics, updated)), gradients = of_step(variables, batch, key, done)
    if where is not None:
      gradients = constrained(gradients, {c: where.variables[c] for c in trained})
    # Frozen collections get a zero that the optimizer drops: it is never computed.
    zeros = {
      c: jax.tree.map(jnp.zeros_like, tree)
      for c, tree in state.variables.items()
      if c not in trained
    }
    updates: Any
    updates, opt_state = transformation.update(
      {**zeros, **gradients}, state.opt_state, state.variables
    )
    moved = {c: optax.apply_updates(state.variables[c], updates[c]) for c in trained}
    norm = _norm if where is None else optax.tree.norm  # sums of rows would be gathered
    metrics = {
      "loss": loss,
      "gradient_norm": norm(gradients),
      "update_norm": norm([updates[c] for c in trained]),
      **metrics,
    }
    variables = {**state.variables, **updated, **moved}
    state = TrainState(state.step + 1, variables, opt_state)
    return state if where is None else constrained(state, where), metrics

  return step


def _norm(tree):
  """The norm of all arrays together.

  Each is summed over all axes but its last, and the sums of all arrays together. XLA then puts the
  first sum into the kernel that makes the array; the barrier keeps it from taking the second apart.
  """
  squared = [jnp.square(array) for array in jax.tree.leaves(tree)]
  if not squared:
    return jnp.zeros(())
  sums = [jnp.sum(a, axis=tuple(range(a.ndim))[: max(1, a.ndim - 1)]) for a in squared]
  joined = jnp.concatenate([jnp.ravel(a) for a in sums])
  return jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(joined)))


def train_step(step: StepFunction) -> StepFunction:
  """A compiled `one_step`. The state given is consumed."""
  return xla_options.Jitted(step, donate_argnums=0)


def train_steps(step: StepFunction, mesh: Mesh) -> Callable[..., tuple[TrainState, Metrics]]:
  """Many steps in one call, on images that lie on the device.

  Args:
    step: from `one_step`.
    mesh: from `parallel.data_mesh`.

  Returns:
    A compiled function of state, `data` (a dictionary of whole arrays, [N, ...]), `positions` of
    the examples of each batch ([S, B]), the number of these batches to take, and the run's key. It
    gives the state after them and, for each metric, an array [S] whose first elements are theirs.
    The state given is consumed.
  """
  sharding = NamedSharding(mesh, P("data"))

  def batch_at(data, positions):
    batch = jax.tree.map(lambda array: array[positions], data)
    return jax.lax.with_sharding_constraint(batch, sharding)

  def run(state, data, positions, count, key):
    shapes = jax.eval_shape(step, state, batch_at(data, positions[0]), key)[1]
    kept = {name: jnp.zeros(len(positions), metric.dtype) for name, metric in shapes.items()}

    def once(i, carry):
      state, kept = carry
      state, metrics = step(_as_given(state), batch_at(data, positions[i]), key)
      kept = {name: kept[name].at[i].set(metric) for name, metric in metrics.items()}
      return _as_convolutions_give(state), kept

    state, kept = jax.lax.fori_loop(0, count, once, (_as_convolutions_give(state), kept))
    return _as_given(state), kept

  return jax.jit(run, donate_argnums=0)


def _as_convolutions_give(state):
  """A state whose kernels have their last axis, of the output channels, first, on GPUs.

  There convolutions take kernels and give gradients so. Otherwise XLA transposes weights, gradients
  and optimizer state in every step, in kernels of their own.
  """
  return _with_kernels(lambda kernel: jnp.moveaxis(kernel, -1, 0), state)


def _as_given(state):
  """A state of `_as_convolutions_give`, as it was given."""
  return _with_kernels(lambda kernel: jnp.moveaxis(kernel, 0, -1), state)


def _with_kernels(move, state):
  if targets.platform() != "gpu":
    return state
  return jax.tree.map(lambda array: move(array) if array.ndim > 2 else array, state)
