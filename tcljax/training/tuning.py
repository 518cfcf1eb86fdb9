"""Phase 2 as a library call: train the thresholds of a network through its T-step simulation."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax.core import unfreeze

from tcljax.checks import (
  check_choice,
  check_count,
  check_finite,
  check_function,
  check_seed,
  must_be,
)
from tcljax.data import Split
from tcljax.data.preprocessing import shape_of_preprocessed, unchanged
from tcljax.distributed import parallel
from tcljax.graph import check_convertible
from tcljax.layers.activations import ReLU, check_model, with_activation
from tcljax.layers.collections import CLIPPING, Variables, require_clipping, with_float_clipping
from tcljax.maths.encoding import constant_inputs_of
from tcljax.maths.inputs import check_variables_finite
from tcljax.maths.trees import map_by_path, stand_in, without_batch
from tcljax.simulation.outputs import check_kinds, outputs_of_model
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.training.loop import Hooks
from tcljax.training.losses import NEGLIGIBLE
from tcljax.training.objectives import OBJECTIVES, tuning_objective
from tcljax.training.optimizers import OptimizerConfig, check_of_thresholds
from tcljax.training.phase import ENOUGH_STEPS, Phase, fitting_steps, run_phase, within


def tune(
  model: nn.Module,
  variables: Variables,
  images: Any,
  labels: Any = None,
  spiking: SpikingConfig = SpikingConfig(),
  *,
  steps: int = 500,
  minutes: float = 0.0,
  batch_size: int = 32,
  accumulate: int = 1,
  optimizer: OptimizerConfig = OptimizerConfig("adamw", learning_rate=0.02),
  objective: str = "distillation",
  outputs: Any = "classes",
  at: Sequence[int] = (),
  preprocess: Callable[[Any, jax.Array], Any] = unchanged,
  seed: int = 0,
  on_metrics: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
) -> Variables:
  """Trains thresholds and initial potentials; the weights stay as they are, to the bit.

  What is minimised is a geometric mean of the loss in the answers and of the error of all firing
  rates, which weighs less from step to step (`training.objectives.tuning_objective`). The optimizer
  moves log(tau), so that its learning rate is a share of each threshold.

  A network with a single output z is taken for a binary classifier with the classes 0 and 1, whose
  answer is 1 where z > 0: distillation is then the divergence of two Bernoulli distributions with
  the means sigmoid(z), and cross-entropy that of sigmoid(z). Of maps, [B, ..., C], each loss is the
  mean over positions. Of outputs that are quantities and not logits, as in a regression, neither
  sees the error: say outputs="quantities", and distillation is the squared error. Of several
  outputs the losses are added up, squared errors as shares of the ANN's mean square.

  Warns (UserWarning) if nothing was learned, because the loss in the answers was nothing from the
  start or the optimizer moved nothing, or if so few steps fit into `minutes` that they hardly move
  a threshold.

  Args:
    model: a network with a field `act` whose output is an array, [B, ...], or a tree of arrays.
    variables: its variables with the collection `clipping`, from `calibrate`.
    images: training inputs, [N, ...]; of encoding="frames" sequences, [N, T, ...], of whose frames
      the ANN sees the mean. A tuple or dictionary of these where the network takes several arrays.
    labels: class numbers, [N], or of maps [N, ...], one for each position; None where there are
      none. Only "cross_entropy" and the metric `accuracy` look at them. Of several outputs a tree
      such as theirs, which may leave some out; `accuracy` is then that of the only one labelled.
    spiking: the simulation whose output is made better; `spiking.time_steps` is the T to tune for.
    steps: training steps.
    minutes: if positive, as many steps as fit into this time take the place of `steps`. It is time
      of training: compiling, and a trial of four gradients, come on top.
    batch_size: a multiple of the number of devices.
    accumulate: parts of a batch that are taken one after the other, whose losses and gradients are
      averaged: of a batch that does not fit into memory. Each part is shared by the devices.
    optimizer: of the thresholds.
    objective: "distillation" from the ANN's outputs, by divergence of logits and squared error of
      quantities; "cross_entropy" with the labels, of a network with one output; or "squared_error"
      against the ANN's outputs.
    outputs: "classes" where outputs are logits, [B, C] or [B, ..., C]; "quantities" where they are
      numbers in any shape, such as boxes, heat maps or those of a regression. Of several outputs
      one for all, or a tree such as {"class": "classes", "box": "quantities"}.
    at: numbers of steps whose answers are to be good, for thresholds that serve a range of T; empty
      for `spiking.time_steps` alone.
    preprocess: a function of JAX that makes inputs [B, ...], of sequences [B, T, ...], of each
      batch of images and a random key.
    seed: of the order of the images and everything else random.
    on_metrics: called after each step with its number and metrics: `answer_loss` and `rate_error`,
      `loss`, which is their mean with even weights, norms, and `accuracy` where there are labels.

  Returns:
    The variables with a new collection `clipping`.

  Raises:
    ValueError: on an unknown objective or kind of outputs, a batch size that the devices cannot
      share, images that are no real numbers (or other ones in JAX) in a shape that the model takes,
      NaN or infinity in images, targets or variables, an output of another kind, labels that do not
      fit it, a seed that is not from 0 to 2**32 - 1, thresholds that are missing, a `preprocess`
      that gives no inputs, or a model that `tcljax.convert` would refuse.
    TrainingDiverged: if the loss stops being finite.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> spiking = tcljax.SpikingConfig(time_steps=2)
    >>> tuned = tcljax.tune(model, variables, images, None, spiking, steps=3, batch_size=8)
    >>> same = jax.tree.map(lambda a, b: bool((a == b).all()), variables, tuned)
    >>> all(jax.tree.leaves(same["params"])), any(jax.tree.leaves(same["clipping"]))
    (True, False)
  """
  check_model(model)
  variables = require_clipping(variables)
  check_spiking(spiking)
  if not isinstance(optimizer, OptimizerConfig):
    wanted = "a tcljax.OptimizerConfig, such as OptimizerConfig('adamw', learning_rate=0.02)"
    raise ValueError(must_be("optimizer", optimizer, wanted))
  check_of_thresholds("optimizer", optimizer)
  check_count("steps", steps, 1)
  check_finite("minutes", minutes)
  check_seed("seed", seed)
  check_count("accumulate", accumulate, 1)
  parallel.check_batch_size("batch_size", batch_size, accumulate)
  check_function("on_metrics", on_metrics, ("a step's number", "its metrics"))
  _check_objective(objective, outputs, labels)
  split = Split(images, labels, outputs)
  given = stand_in(split.image_shape, max(2, batch_size), split.image_dtype)
  example = constant_inputs_of(
    "images",
    shape_of_preprocessed(preprocess, given, keyed=True),
    spiking.encoding,
    spiking.time_steps,
  )
  found = outputs_of_model(with_activation(model, ReLU), variables, example, outputs)
  split.check_labels({one.path: one.labels for one in found})
  if objective == "cross_entropy" and len(found) > 1:
    raise ValueError(
      f"objective='cross_entropy' takes a network with one output, and this one has {len(found)}: "
      "take 'distillation'"
    )
  kinds = ["squared_error" if one.quantities else objective for one in found]
  classes = [one.path for one in found if not one.quantities]
  # Targets of quantities are checked, and then no more looked at.
  keep = lambda path, labels: labels if path in classes else None
  split = Split(split.images, map_by_path(keep, "labels", split.labels), outputs)
  check_convertible(model, variables, without_batch(example))
  check_variables_finite(variables)
  variables = with_float_clipping(unfreeze(dict(variables)))
  mesh = parallel.data_mesh()
  loss = tuning_objective(model, preprocess, spiking, mesh, kinds, at=at)
  phase = Phase("tune", steps, batch_size, loss, {CLIPPING: optimizer}, int(seed), accumulate)
  if minutes:
    phase = within(phase, minutes, variables, split, mesh)
    if phase.steps < ENOUGH_STEPS:
      warnings.warn(fitting_steps(phase.steps, minutes), stacklevel=2)
  largest = {"answer_loss": 0.0, "update_norm": 0.0}

  def take(step, metrics, ended):
    del ended
    largest.update({name: max(value, metrics[name]) for name, value in largest.items()})
    on_metrics(step, metrics)

  tuned = run_phase(phase, lambda: variables, split, mesh, Hooks(on_metrics=take))
  if reason := _nothing_learned(kinds, largest["answer_loss"], largest["update_norm"]):
    warnings.warn(f"nothing was learned: {reason}", stacklevel=2)
  return tuned


def _check_objective(objective: str, outputs: Any, labels: Any) -> None:
  """Raises ValueError if the objective cannot do with such outputs and labels."""
  check_choice("objective", objective, OBJECTIVES)
  check_kinds(outputs)
  if objective == "cross_entropy" and outputs == "quantities":
    raise ValueError(
      "objective='cross_entropy' is one of classes: outputs='quantities' take 'distillation'"
    )
  if objective == "cross_entropy" and labels is None:
    raise ValueError("objective='cross_entropy' learns labels: give them, or take 'distillation'")


def _nothing_learned(kinds: Sequence[str], loss: float, update_norm: float) -> str:
  """Why training changed nothing that matters, by the largest of its metrics; "" where it did."""
  if "squared_error" not in kinds and loss <= 1.01 * NEGLIGIBLE:
    return (
      f"the loss by {kinds[0]!r} was {loss:.1g} at most; either the spiking network answers as it "
      "is to already, or its outputs are no logits: of these say outputs='quantities'"
    )
  if not update_norm:
    return (
      f"no step moved a threshold, with losses up to {loss:.3g}; are there more steps than "
      "warmup_steps, a learning_rate above 0, and neurons that fire?"
    )
  return ""
