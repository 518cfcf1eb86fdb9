"""One step of training: the state, its gradient, and the compiled functions that move it."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tcljax.kernels import xla_options
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


def gradient(objective: Objective, trained: Iterable[str]) -> Callable[..., Any]:
  """The gradient of an objective to the `trained` collections alone.

  Args:
    objective: see `tcljax.training.objectives`.
    trained: names of collections.

  Returns:
    A function of variables, batch, key and the share of steps that lie behind to ((loss, (metrics,
    updated)), gradients by collection).
  """
  trained = tuple(trained)

  def of_step(variables, batch, key, done=0.0):
    def loss(moving):
      return objective({**variables, **moving}, batch, key, done)

    return jax.value_and_grad(loss, has_aux=True)({c: variables[c] for c in trained})

  return of_step


def _step(objective, transformation, trained, steps) -> StepFunction:
  trained = tuple(trained)
  of_step = gradient(objective, trained)

  def step(state, batch, key):
    key = jax.random.fold_in(key, state.step)
    done = state.step / steps
    (loss, (metrics, updated)), gradients = of_step(state.variables, batch, key, done)
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


def train_step(
  objective: Objective,
  transformation: optax.GradientTransformation,
  trained: Iterable[str],
  steps: int,
) -> StepFunction:
  """A compiled step that differentiates and updates only the `trained` collections.

  Args:
    objective: see `tcljax.training.objectives`.
    transformation: from `optimizers.train_only` with the same `trained`.
    trained: names of collections.
    steps: of the whole phase.

  Returns:
    A function of state, batch and the run's key to the next state and metrics `loss`,
    `gradient_norm`, `update_norm` and those of the objective, which may have a `loss` of its own to
    tell. The state given is consumed.
  """
  return xla_options.Jitted(_step(objective, transformation, trained, steps), donate_argnums=0)


def train_steps(
  objective: Objective,
  transformation: optax.GradientTransformation,
  trained: Iterable[str],
  steps: int,
  mesh: Mesh,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """Many steps of `train_step` in one call, on images that lie on the device.

  Args:
    objective: see `tcljax.training.objectives`.
    transformation: from `optimizers.train_only` with the same `trained`.
    trained: names of collections.
    steps: of the whole phase.
    mesh: from `parallel.data_mesh`.

  Returns:
    A compiled function of state, `data` (a dictionary of whole arrays, [N, ...]), `positions` of
    the examples of each batch ([S, B]), the number of these batches to take, and the run's key. It
    gives the state after them and, for each metric, an array [S] whose first elements are theirs.
    The state given is consumed.
  """
  step = _step(objective, transformation, trained, steps)
  sharding = NamedSharding(mesh, P("data"))

  def batch_at(data, positions):
    batch = jax.tree.map(lambda array: array[positions], data)
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
