"""Figures of a network, clipped and spiking, at every number of steps in one pass."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_count, check_seed
from tcljax.data import Examples, Split, evaluation_batches
from tcljax.data.preprocessing import shape_of_preprocessed, unchanged
from tcljax.distributed import parallel
from tcljax.evaluation.compiling import compiled
from tcljax.evaluation.measurement import measurement
from tcljax.evaluation.reference import reference_of
from tcljax.evaluation.scores import figures_of, is_measured, reported_time_steps
from tcljax.layers.activations import TCL, check_model, with_activation
from tcljax.layers.collections import Variables, require_clipping
from tcljax.maths.encoding import constant_inputs_of
from tcljax.maths.trees import stand_in, without_batch
from tcljax.simulation.chunks import count_neurons
from tcljax.simulation.outputs import Output, answers, check_kinds, outputs_of_model
from tcljax.simulation.settings import SpikingConfig, check_spiking


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
  """What was measured; arrays [T] hold the value after 1, 2, ..., T steps. Equal to itself alone.

  Attributes:
    images: how many were counted.
    ann: accuracy of the ANN, in percent; of maps over all positions. NaN where there are no labels,
      and of quantities, as for the other accuracies.
    clipped: accuracy with the activations clipped at their thresholds, in percent.
    snn: accuracy of the spiking network, in percent, [T].
    agreement: share of images (of maps, of positions) on which the spiking network answers as the
      ANN, in percent, [T]; NaN of quantities.
    spikes_per_neuron: spikes fired so far, mean over all neurons and images, [T].
    firing_rates: by activation, mean spikes per neuron and step over all T steps.
    mean_iou: of maps with labels, the mean intersection over union in percent, of `ann`, `clipped`
      and `snn`, [T]: over all images together, and over the classes that labels or answers name.
    error: of quantities, the root mean square of the spiking network's distance from the ANN, as a
      share of that of the ANN's outputs, [T].
    target_error: of quantities with labels, the root mean square of the distance from these, in
      their own units, of `ann`, `clipped` and `snn`, [T].
    by_output: of a network with several outputs, the figures above of each by its name, "heads/0",
      as far as they were measured; all have an `error`. Of the whole network `error` is then the
      root mean square of these. The other figures are those of the only output of classes, and of
      the only one of quantities, where there is just one.
    confusion: of classes, one for each image, with labels: after 1, 2, 4, ... and T steps, how many
      images of each class (rows) the spiking network takes for each class (columns). Left out
      above 1024 classes.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> labels = [0, 1, 2, 0, 1, 2, 0, 1]
    >>> spiking = tcljax.SpikingConfig(time_steps=4)
    >>> found = tcljax.evaluate(model, variables, images, labels, spiking)
    >>> list(found.firing_rates), len(found.snn)
    (['act1_1'], 4)
    >>> rate = found.spikes_per_neuron[-1] / 4  # of all neurons; here there is one activation
    >>> round(float(rate - found.firing_rates["act1_1"]), 6)
    0.0
  """

  images: int
  ann: float
  clipped: float
  snn: np.ndarray
  agreement: np.ndarray
  spikes_per_neuron: np.ndarray
  firing_rates: dict[str, float]
  mean_iou: dict[str, Any] = dataclasses.field(default_factory=dict)
  error: np.ndarray | None = None
  target_error: dict[str, Any] = dataclasses.field(default_factory=dict)
  by_output: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
  confusion: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)

  def __repr__(self) -> str:
    """The numbers to two decimals, those of each step after 1, 2, 4, ... and T steps.

    Without what was not measured.
    """

    def short(value: Any) -> str:
      if isinstance(value, np.ndarray):
        value = {t: value[t - 1] for t in reported_time_steps(len(value))}
      if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {short(v)}" for k, v in value.items()) + "}"
      return f"{value:.2f}" if isinstance(value, float) else repr(value)

    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    values.pop("confusion")  # no few numbers tell it
    fields = [f"{name}={short(value)}" for name, value in values.items() if is_measured(value)]
    return f"Evaluation({', '.join(fields)})"


class OutputNotFinite(ValueError):
  """A network answers with NaN or infinite numbers."""


def evaluate(
  model: nn.Module,
  variables: Variables,
  images: Any,
  labels: Any,
  spiking: SpikingConfig,
  *,
  outputs: Any = "classes",
  batch_size: int = 128,
  preprocess: Callable[[Any], Any] = unchanged,
  reference: tuple[nn.Module, Variables] | None = None,
  seed: int = 0,
) -> Evaluation:
  """Evaluates a network as ANN, clipped ANN and SNN.

  The answer is the class of the largest output. A network with a single output is taken for a
  binary classifier with the classes 0 and 1: its answer is 1 where the output is above 0. Of maps,
  [B, ..., C], that holds at each position. Quantities are measured by their distance from those of
  the ANN.

  Every image counts exactly once whatever the batch size. On several devices each takes a part
  of every batch; on several hosts each process calls this with the same arguments.

  Args:
    model: a network with a field `act` whose output is an array, [B, ...], or a tree of arrays.
    variables: its variables, the collection `clipping` included.
    images: [N, ...]; of encoding="frames" sequences, [N, T, ...], of whose frames both ANNs see the
      mean. A tuple or dictionary of these where the network takes several arrays.
    labels: class numbers, [N], or of maps [N, ...], one for each position; targets of quantities,
      in the shape of the outputs; or None, to compare the spiking network with the ANN alone. Of
      several outputs a tree such as theirs, which may leave some out.
    spiking: how to simulate; `spiking.time_steps` is the largest T reported.
    outputs: "classes" where outputs are logits, [B, C] or [B, ..., C]; "quantities" where they are
      numbers in any shape, such as boxes, heat maps or those of a regression. Of several outputs
      one for all, or a tree such as {"class": "classes", "box": "quantities"}.
    batch_size: images at a time, rounded up to a multiple of the devices.
    preprocess: a function of JAX that makes inputs [B, ...] of each batch of images, of sequences
      [B, T, ...].
    reference: a pair, the ANN and its variables; by default `model` with ReLU and with `variables`.
    seed: of Poisson input.

  Returns:
    What was measured, after every number of steps up to T.

  Raises:
    ValueError: if there are no images, they are no real numbers (or other ones in JAX) in a shape
      that the model takes, the labels do not fit the outputs, the seed is not from 0 to 2**32 - 1,
      an output is of another kind, or thresholds, `preprocess` or `reference` are none.
    OutputNotFinite: a ValueError, if an output is not finite.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> labels = model.clone(act=tcljax.ReLU).apply(variables, images).argmax(axis=-1)
    >>> spiking = tcljax.SpikingConfig(time_steps=64)
    >>> found = tcljax.evaluate(model, variables, images, labels, spiking)
    >>> found.images, found.ann, found.snn.shape  # the labels are what the ANN answers
    (8, 100.0, (64,))
  """
  check_count("batch_size", batch_size, 1)
  check_seed("seed", seed)
  check_kinds(outputs)
  return evaluate_split(
    model,
    variables,
    Split(images, labels, outputs),
    spiking,
    batch_size=batch_size,
    preprocess=preprocess,
    reference=reference,
    seed=seed,
  )


def evaluate_split(
  model: nn.Module,
  variables: Variables,
  split: Examples,
  spiking: SpikingConfig,
  *,
  batch_size: int,
  preprocess: Callable[[Any], Any],
  reference: tuple[nn.Module, Variables] | None = None,
  seed: int = 0,
) -> Evaluation:
  """`evaluate` on a split, which may be streamed."""
  check_model(model)
  variables = require_clipping(variables)
  check_spiking(spiking)
  mesh = parallel.data_mesh()
  batch_size = parallel.round_to_devices(mesh, max(1, min(batch_size, len(split))))
  reference_model, reference_variables = reference_of(model, variables, reference)
  variables, reference_variables = parallel.replicate(mesh, (variables, reference_variables))
  images = stand_in(split.image_shape, max(2, batch_size), split.image_dtype)
  example = constant_inputs_of(
    "images", shape_of_preprocessed(preprocess, images), spiking.encoding, spiking.time_steps
  )
  what = "the reference" if reference else "the model"
  outputs = outputs_of_model(reference_model, reference_variables, example, split.outputs, what)
  split.check_labels({one.path: one.labels for one in outputs})
  own = outputs_of_model(with_activation(model, TCL), variables, example, split.outputs)
  _check_comparable(outputs, own)
  measure = compiled(measurement, preprocess, model, reference_model, spiking, mesh, outputs)
  key = jax.random.key(seed)
  sums, confused = [], None
  for batch in evaluation_batches(split, batch_size):
    found = measure(variables, reference_variables, parallel.shard(mesh, batch), key)
    more = found.pop("confusion")  # large, and not kept for each batch
    confused = more if confused is None else jax.tree.map(jnp.add, confused, more)
    sums.append(found)
  total = jax.tree.map(lambda *a: np.sum([np.asarray(x, np.float64) for x in a], axis=0), *sums)
  for network, broken in total["not_finite"].items():
    if broken:
      raise OutputNotFinite(
        f"the {network}'s output is not finite for {int(broken)} of the {len(split)} images"
      )
  neurons = count_neurons(model, variables, without_batch(example))
  count = len(split)
  spikes = sum(total["spikes"].values(), np.zeros(spiking.time_steps))
  return Evaluation(
    images=count,
    **figures_of(outputs, total["scores"], count, spiking.time_steps),
    spikes_per_neuron=spikes.cumsum() / (count * sum(neurons.values())),
    firing_rates={
      name: float(total["spikes"][name].sum()) / (count * n * spiking.time_steps)
      for name, n in neurons.items()
    },
    confusion=dict(zip(reported_time_steps(spiking.time_steps), np.asarray(confused))),
  )


def _check_comparable(reference: Sequence[Output], model: Sequence[Output]) -> None:
  """Raises ValueError unless these outputs can be compared."""
  names = [", ".join(one.name or "one array" for one in found) for found in (reference, model)]
  if [one.path for one in reference] != [one.path for one in model]:
    raise ValueError(f"the reference answers with {names[0]}, the model with {names[1]}")
  for theirs, own in zip(reference, model):
    (places, classes), (mine, found) = theirs.labels, own.labels
    where = f" in output {own.name!r}" if own.name else ""
    if places != mine:
      raise ValueError(
        f"the reference's output has shape {theirs.shape} for one image, the model's {own.shape}"
        f"{where}"
      )
    if classes != found:
      raise ValueError(f"the reference tells {classes} classes apart, the model {found}{where}")


def accuracy(
  model: nn.Module,
  variables: Variables,
  split: Examples,
  *,
  batch_size: int,
  preprocess: Callable[[jax.Array], jax.Array],
) -> float:
  """Accuracy in percent of a network as it is, whatever its activation."""
  mesh = parallel.data_mesh()
  batch_size = parallel.round_to_devices(mesh, min(batch_size, len(split)))
  correct = compiled(_correct, preprocess, model)
  variables = parallel.replicate(mesh, variables)  # once, and not with every batch
  sums = [
    correct(variables, parallel.shard(mesh, batch))
    for batch in evaluation_batches(split, batch_size)
  ]
  return 100 * sum(int(s) for s in sums) / len(split)


def _correct(
  preprocess: Callable[[jax.Array], jax.Array], model: nn.Module
) -> Callable[..., jax.Array]:
  @jax.jit
  def correct(variables, batch):
    output: Any = model.apply(variables, preprocess(batch["image"]))
    return jnp.sum(batch["mask"] & (answers(output) == batch["label"]))

  return correct
