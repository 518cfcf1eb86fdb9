"""What each phase minimises.

An objective is a function `(variables, batch, key, done=0.0) -> loss, (metrics, updated)`: the loss
to differentiate, scalars to report, and collections that the forward pass itself changed. `done` is
the share of the steps of the phase that lie behind, from 0 up to 1.

Where the variables hold a collection `teacher`, it holds those of the network whose answers are
learned; they are never trained.

A network with a single output is a binary classifier: `cross_entropy` and `distillation` are then
those of the two classes with the logits 0 and z (`simulation.outputs`), which is the binary
cross-entropy of sigmoid(z), and the divergence of two Bernoulli distributions (`training.losses`).
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tcljax.checks import check_choice, in_a_line
from tcljax.data.preprocessing import preprocessed
from tcljax.distributed import parallel
from tcljax.layers.activations import ReLU, with_activation
from tcljax.layers.collections import BATCH_STATS, Variables, teacher_of, thresholds_by_path
from tcljax.maths.encoding import constant_input, time_first
from tcljax.maths.trees import Tree, count, present
from tcljax.maths.trees import at as part_at
from tcljax.simulation.chunks import with_chunk_for_gradients
from tcljax.simulation.outputs import answers
from tcljax.simulation.settings import SpikingConfig
from tcljax.simulation.time_loop import simulate
from tcljax.training.losses import (
  NEGLIGIBLE,
  cross_entropy,
  distillation,
  geometric_mean,
  negligible,
  relative_error,
  squared_error,
)
from tcljax.training.rates import with_rate_error

Objective = Callable[..., tuple[jax.Array, tuple[dict[str, jax.Array], Variables]]]
OBJECTIVES = ("distillation", "cross_entropy", "squared_error")
_WEIGHT_OF_RATES = 0.5  # at the start of tuning


def _metrics(outputs: Tree, labels: Tree) -> dict[str, jax.Array]:
  """The accuracy over all examples and positions, where one output has labels."""
  labelled = present(labels)
  if len(labelled) != 1:
    return {}
  [(path, labels)] = labelled.items()
  return {"accuracy": 100.0 * jnp.mean(answers(part_at(outputs, path)) == labels)}


def _loss(kind, teacher, smoothing):
  """A function of variables and a batch to the loss of outputs, and to the least that is of worth.

  The first is itself a function, of outputs for this batch; from the second on it need not become
  smaller. The teacher's outputs may be given where they are known.
  """

  def of_batch(variables, x, labels, targets=None):
    if "cross_entropy" in ([kind] if isinstance(kind, str) else kind):  # of the only output
      [wanted] = jax.tree.leaves(labels)
      return (
        lambda outputs: cross_entropy(jax.tree.leaves(outputs)[0], wanted, smoothing),
        NEGLIGIBLE,
      )
    if targets is None:
      targets = teacher.apply(teacher_of(variables) or variables, x)
    least = negligible(kind, targets)
    targets = jax.tree.leaves(targets)
    kinds = [kind] * len(targets) if isinstance(kind, str) else kind
    squared = squared_error if len(targets) == 1 else relative_error
    distances = [{"distillation": distillation, "squared_error": squared}[one] for one in kinds]

    def of_outputs(outputs):
      one, *others = [
        distance(output, target)
        for distance, output, target in zip(
          distances, jax.tree.leaves(outputs), targets, strict=True
        )
      ]
      return sum(others, one)

    return of_outputs, least

  return of_batch


def ann_objective(
  model: nn.Module,
  preprocess: Callable[..., jax.Array],
  smoothing: float = 0.0,
  kind: str = "cross_entropy",
  teacher: nn.Module | None = None,
) -> Objective:
  """The loss of a network in training mode, on augmented images: phase 1, and joint training.

  Args:
    model: the network with the activation that it is trained with: ReLU in phase 1; TCL (Ho &
      Chang, DAC 2021, eq. 8) or Quantized where thresholds are trained together with weights.
    preprocess: called with images and a key.
    smoothing: of the labels, for cross-entropy.
    kind: "cross_entropy" with the labels, or "distillation" from the logits of `teacher`, or
      "squared_error" against them.
    teacher: a network; its variables are the collection `teacher`.
  """
  check_choice("objective", kind, OBJECTIVES)
  loss_of = _loss(kind, teacher, smoothing)

  def objective(variables, batch, key, done=0.0):
    x = preprocessed(preprocess, batch["image"], key)
    logits, updated = model.apply(variables, x, train=True, mutable=[BATCH_STATS])
    distance, _ = loss_of(variables, x, batch["label"])
    return distance(logits), (_metrics(logits, batch["label"]), updated)

  return objective


def with_threshold_decay(objective: Objective, coefficient: float) -> Objective:
  """The objective plus coefficient * sum of tau^2, over all thresholds.

  Small thresholds are what makes a spiking network fast: the regularisation of Ho & Chang (DAC
  2021), apart from that of the weights.
  """
  if not coefficient:
    return objective

  def regularized(variables, batch, key, done=0.0):
    loss, aux = objective(variables, batch, key, done)
    squares = [jnp.sum(held.tau**2) for held in thresholds_by_path(variables).values()]
    return loss + coefficient * sum(squares), aux

  return regularized


def check_at(at: Sequence[int], time_steps: int, phase: int) -> None:
  """Raises ValueError unless all of `at` are numbers of steps from 1 to T, in whole periods."""
  if np.ndim(at) != 1:
    raise ValueError(f"at={in_a_line(at)} must be a sequence of numbers of steps, such as (4, 8)")
  for t in at:
    if not (isinstance(t, (int, np.integer)) and 1 <= t <= time_steps):
      raise ValueError(
        f"at={in_a_line(tuple(at))}: {t!r} is no number of steps from 1 to time_steps={time_steps}"
      )
    if t % phase:
      raise ValueError(
        f"at={in_a_line(tuple(at))}: {t!r} must be a multiple of phase={phase}, as answers within "
        "a period are coarse"
      )


def snn_objective(
  model: nn.Module,
  preprocess: Callable[..., jax.Array],
  spiking: SpikingConfig,
  mesh: Mesh,
  kind: str | Sequence[str] = "distillation",
  teacher: nn.Module | None = None,
  at: Sequence[int] = (),
  smoothing: float = 0.0,
) -> Objective:
  """The loss of the T-step spiking network, with gradients through all steps.

  BatchNorm runs on its running statistics and nothing but the loss leaves the simulation.

  Args:
    model: a network with a field `act`.
    preprocess: called with images and a key.
    spiking: how to simulate.
    mesh: from `parallel.data_mesh`; each device simulates its part of the batch.
    kind: "distillation" from the ANN's logits, "squared_error" against them, or "cross_entropy"
      with the labels; the others need none in a batch. Of a network with several outputs, one of
      the first two for all, or for each; the loss is the sum of theirs, in which squared errors are
      shares (`relative_error`).
    teacher: the network whose logits are learned, by default `model` with ReLU. Its variables are
      the collection `teacher`, or else those of `model`.
    at: numbers of steps after which the answer is to be good; the loss is the geometric mean of
      theirs. Empty for T alone. With several, one set of thresholds serves a range of T.
    smoothing: of the labels, for cross-entropy.

  Raises:
    ValueError: on an unknown kind, or a number of steps outside 1 to T.
  """
  run = _simulation(model, spiking, mesh, at, rates=False)
  loss_of = _answer_loss(model, spiking, kind, teacher, smoothing)

  def objective(variables, batch, key, done=0.0):
    x, keys = _examples(preprocess, batch, key)
    logits, _ = run(variables, x, keys)
    loss, _, metrics = loss_of(variables, x, batch.get("label"), logits)
    return loss, (metrics, {})

  return objective


def tuning_objective(
  model: nn.Module,
  preprocess: Callable[..., jax.Array],
  spiking: SpikingConfig,
  mesh: Mesh,
  kind: str | Sequence[str] = "distillation",
  teacher: nn.Module | None = None,
  at: Sequence[int] = (),
) -> Objective:
  """The loss of phase 2: of the answers, and of all firing rates on the way to them.

  It is a geometric mean of `snn_objective` and of the error of the rates (`training.rates`): each
  counts by the factor it falls by, whatever its unit. In the first step both weigh the same, as a
  network that answers by chance has more to learn from rates. Their weight falls evenly, to none
  after the last step, as answers are what is wanted. Their metrics are `answer_loss` and
  `rate_error`. The metric `loss` is their mean with even weights, so that steps can be compared.

  Args:
    model: as in `snn_objective`.
    preprocess: as in `snn_objective`.
    spiking: as in `snn_objective`.
    mesh: as in `snn_objective`.
    kind: as in `snn_objective`.
    teacher: as in `snn_objective`. Rates are compared with the activations of `model` with ReLU.
    at: as in `snn_objective`; rates are those of all T steps.

  Raises:
    ValueError: as `snn_objective` does.
  """
  run = _simulation(model, spiking, mesh, at, rates=True)
  loss_of = _answer_loss(model, spiking, kind, teacher)

  def objective(variables, batch, key, done=0.0):
    x, keys = _examples(preprocess, batch, key)
    logits, rates = run(variables, x, keys)
    seen = constant_input(x, spiking.encoding)
    own, error = with_rate_error(model, variables, seen, rates, spiking.neuron)
    targets = own if teacher is None and teacher_of(variables) is None else None
    loss, least, metrics = loss_of(variables, x, batch.get("label"), logits, targets)
    both = jnp.stack([loss, error])
    mean = functools.partial(geometric_mean, both, jnp.stack([least, NEGLIGIBLE]))
    of_rates = _WEIGHT_OF_RATES * (1 - done)
    metrics |= {"loss": mean(), "answer_loss": loss, "rate_error": error}
    return mean(jnp.stack([1 - of_rates, of_rates])), (metrics, {})

  return objective


def _examples(preprocess, batch, key):
  """The inputs of a batch, and a key for each of them."""
  augment_key, input_key = jax.random.split(key)
  x = preprocessed(preprocess, batch["image"], augment_key)
  return x, jax.random.split(input_key, count(x))


def _simulation(model, spiking, mesh, at, rates):
  """A function of variables, inputs and keys to answers after steps, [N, B, ...], and rates."""
  check_at(at, spiking.time_steps, spiking.neuron.phase)
  taken = np.asarray(sorted(at) or [spiking.time_steps]) - 1

  def run(variables, x, keys):
    x = time_first(x, spiking.encoding)
    simulation = simulate(
      model,
      variables,
      x,
      with_chunk_for_gradients(model, variables, x, spiking),
      keys=keys,
      observe=lambda chunk: chunk.logits,
      rates=rates,
    )
    return jax.tree.map(lambda a: a[taken], simulation.observed), simulation.rates

  return parallel.over_data(mesh, run, (P(None, "data"), P("data")))


def _answer_loss(model, spiking, kind, teacher, smoothing=0.0):
  """A function of variables, inputs, labels and answers [N, B, ...].

  It gives their loss, the least that is of worth, as `_loss` has it, and metrics. The teacher's
  outputs may be given where they are known.
  """
  for one in [kind] if isinstance(kind, str) else kind:
    check_choice("objective", one, OBJECTIVES)
  loss_of = _loss(kind, teacher or with_activation(model, ReLU), smoothing)

  def of_answers(variables, x, labels, logits, targets=None):
    seen = constant_input(x, spiking.encoding)
    distance, least = loss_of(variables, seen, labels, targets)
    loss = geometric_mean(jax.vmap(distance)(logits), least)
    return loss, least, _metrics(jax.tree.map(lambda a: a[-1], logits), labels)

  return of_answers
