"""What each phase minimises.

An objective is a function `(variables, batch, key) -> loss, (metrics, updated)`: the loss to
differentiate, scalars to report, and collections that the forward pass itself changed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tcljax import parallel
from tcljax.activations import ReLU, with_activation
from tcljax.checks import check_choice
from tcljax.simulation import SpikingConfig, simulate

Objective = Callable[..., tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]]
OBJECTIVES = ("distillation", "cross_entropy")
_NEGLIGIBLE = 1e-6  # a loss, in nats, that is not worth making smaller


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Mean cross-entropy of logits [B, C] with class numbers [B], smoothed towards uniform."""
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(logits, targets).mean()


def distillation(logits: jax.Array, teacher: jax.Array) -> jax.Array:
  """Mean Kullback-Leibler divergence of softmax(logits) from softmax(teacher), both [B, C].

  Hinton et al. (2015) at temperature 1; zero where the two agree.
  """
  teacher = jax.lax.stop_gradient(teacher)
  return optax.kl_divergence(jax.nn.log_softmax(logits), jax.nn.softmax(teacher)).mean()


def geometric_mean(losses: jax.Array) -> jax.Array:
  """Of losses at several numbers of steps, [N].

  What counts is by which factor each of them falls. At T = 4 a loss may be ten times that at
  T = 16, and would be nearly all of their sum. One that has come down to nothing has no gradient
  any more.
  """
  if len(losses) == 1:  # to the bit, and with no limit to how small it may become
    return losses[0]
  return jnp.exp(jnp.mean(jnp.log(jnp.maximum(losses, _NEGLIGIBLE))))


def _accuracy(logits, labels):
  return 100.0 * jnp.mean(logits.argmax(axis=-1) == labels)


def ann_objective(
    model: nn.Module, preprocess: Callable[..., jax.Array], smoothing: float = 0.0
) -> Objective:
  """Phase 1: cross-entropy of the network in training mode, on augmented images."""

  def objective(variables, batch, key):
    x = preprocess(batch["image"], key)
    logits, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
    loss = cross_entropy(logits, batch["label"], smoothing)
    return loss, ({"accuracy": _accuracy(logits, batch["label"])}, updated)

  return objective


def check_at(at: Sequence[int], steps: int) -> None:
  """Raises ValueError unless all of `at` are numbers of steps from 1 to T."""
  for t in at:
    if not (isinstance(t, (int, np.integer)) and 1 <= t <= steps):
      raise ValueError(f"at={tuple(at)}: {t!r} is no number of steps from 1 to steps={steps}")


def snn_objective(
    model: nn.Module,
    preprocess: Callable[..., jax.Array],
    spiking: SpikingConfig,
    mesh: Mesh,
    kind: str = "distillation",
    teacher: nn.Module | None = None,
    at: Sequence[int] = (),
) -> Objective:
  """Phase 2: the loss of the T-step spiking network, with gradients through all steps.

  BatchNorm runs on its running statistics and nothing but the loss leaves the simulation.

  Args:
    model: a network with a field `act`.
    preprocess: called with images and a key.
    spiking: how to simulate.
    mesh: from `parallel.data_mesh`; each device simulates its part of the batch.
    kind: "distillation" from the ANN's logits, or "cross_entropy" with the labels.
    teacher: the ANN, if it is not `model` with ReLU; it shares the variables.
    at: numbers of steps after which the answer is to be good; the loss is the geometric mean of
      theirs. Empty for T alone. With several, one set of thresholds serves a range of T.

  Raises:
    ValueError: on an unknown kind, or a number of steps outside 1 to T.
  """
  check_choice("objective", kind, OBJECTIVES)
  check_at(at, spiking.steps)
  taken = np.asarray(sorted(at) or [spiking.steps]) - 1
  teacher = with_activation(teacher or model, ReLU)

  def run(variables, x, keys):
    # In a loop, XLA's CPU compiler cannot choose the layout of the kernels that the gradient of a
    # convolution takes, and falls back on code that is many times slower.
    unroll = jax.default_backend() == "cpu"
    answers = simulate(model, variables, x, spiking, keys=keys, unroll=unroll,
                       observe=lambda steps: steps.logits).observed
    return answers[taken]

  run = parallel.over_data(mesh, run, P(None, "data"))

  def objective(variables, batch, key):
    augment_key, input_key = jax.random.split(key)
    x = preprocess(batch["image"], augment_key)
    answers = run(variables, x, jax.random.split(input_key, x.shape[0]))
    if kind == "distillation":
      target, measure = teacher.apply(variables, x), distillation
    else:
      target, measure = batch["label"], cross_entropy
    loss = geometric_mean(jax.vmap(lambda logits: measure(logits, target))(answers))
    return loss, ({"accuracy": _accuracy(answers[-1], batch["label"])}, {})

  return objective
