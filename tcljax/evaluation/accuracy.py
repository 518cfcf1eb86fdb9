"""Accuracy of a network, clipped and spiking, at every number of steps in one pass."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tcljax.checks import check_count, check_seed
from tcljax.data import Examples, Split, evaluation_batches
from tcljax.data.preprocessing import preprocessed, shape_of_preprocessed
from tcljax.distributed import parallel
from tcljax.evaluation.compiling import compiled
from tcljax.evaluation.reference import reference_of
from tcljax.layers.activations import TCL, check_model, with_activation
from tcljax.layers.collections import Variables, require_clipping, spike_counts
from tcljax.simulation.outputs import answers, count_classes
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.simulation.time_loop import count_neurons, simulate


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
  """What was measured; arrays [T] hold the value after 1, 2, ..., T steps. Equal to itself alone.

  Attributes:
    images: how many were counted.
    ann: accuracy of the ANN, in percent.
    clipped: accuracy with the activations clipped at their thresholds, in percent.
    snn: accuracy of the spiking network, in percent, [T].
    agreement: share of images on which the spiking network answers as the ANN, in percent, [T].
    spikes_per_neuron: spikes fired so far, mean over all neurons and images, [T].
    firing_rates: by activation, mean spikes per neuron and step over all T steps.

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

  def __repr__(self) -> str:
    """The numbers to two decimals, those of each step after 1, 2, 4, ... and T steps."""

    def short(value: Any) -> str:
      if isinstance(value, np.ndarray):
        value = {t: value[t - 1] for t in reported_time_steps(len(value))}
      if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {short(v)}" for k, v in value.items()) + "}"
      return f"{value:.2f}" if isinstance(value, float) else repr(value)

    fields = ", ".join(f"{f.name}={short(getattr(self, f.name))}" for f in dataclasses.fields(self))
    return f"Evaluation({fields})"


class OutputNotFinite(ValueError):
  """A network answers with NaN or infinite numbers."""


def reported_time_steps(time_steps: int) -> list[int]:
  """1, 2, 4, ... up to T, and T itself."""
  powers = [2**i for i in range(time_steps.bit_length()) if 2**i <= time_steps]
  return sorted({*powers, time_steps})


def evaluate(
  model: nn.Module,
  variables: Variables,
  images: np.ndarray,
  labels: np.ndarray,
  spiking: SpikingConfig,
  *,
  batch_size: int = 128,
  preprocess: Callable[[jax.Array], jax.Array] = jnp.asarray,
  reference: tuple[nn.Module, Variables] | None = None,
  seed: int = 0,
) -> Evaluation:
  """Evaluates a network as ANN, clipped ANN and SNN.

  The answer is the class of the largest output. A network with a single output is taken for a
  binary classifier with the classes 0 and 1: its answer is 1 where the output is above 0.

  Every image counts exactly once whatever the batch size. On several devices each takes a part
  of every batch; on several hosts each process calls this with the same arguments.

  Args:
    model: a network with a field `act` whose output is [B, C].
    variables: its variables, the collection `clipping` included.
    images: [N, ...].
    labels: [N], class numbers.
    spiking: how to simulate; `spiking.time_steps` is the largest T reported.
    batch_size: images at a time, rounded up to a multiple of the devices.
    preprocess: a function of JAX that makes inputs [B, ...] of each batch of images.
    reference: a pair, the ANN and its variables; by default `model` with ReLU and with `variables`.
    seed: of Poisson input.

  Returns:
    What was measured, after every number of steps up to T.

  Raises:
    ValueError: if there are no images, they are no real numbers (or other ones in JAX) in a shape
      that the model takes, the labels are not one class number for each, the seed is not from 0 to
      2**32 - 1, an output is not [B, C], or thresholds, `preprocess` or `reference` are none.
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
  return evaluate_split(
    model,
    variables,
    Split(images, labels),
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
  preprocess: Callable[[jax.Array], jax.Array],
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
  measure = compiled(_measurement, preprocess, model, reference_model, spiking, mesh)
  variables, reference_variables = parallel.replicate(mesh, (variables, reference_variables))
  images = jax.ShapeDtypeStruct((max(2, batch_size), *split.image_shape), split.image_dtype)
  example = shape_of_preprocessed(preprocess, images)
  what = "the reference" if reference else "the model"
  classes = count_classes(reference_model, reference_variables, example, what)
  split.check_classes(classes)
  if (found := count_classes(with_activation(model, TCL), variables, example)) != classes:
    raise ValueError(f"the reference tells {classes} classes apart, the model {found}")
  key = jax.random.key(seed)
  sums = [
    measure(variables, reference_variables, parallel.shard(mesh, batch), key)
    for batch in evaluation_batches(split, batch_size)
  ]
  total = jax.tree.map(lambda *a: np.sum([np.asarray(x, np.float64) for x in a], axis=0), *sums)
  for network, broken in total["not_finite"].items():
    if broken:
      raise OutputNotFinite(
        f"the {network}'s output is not finite for {int(broken)} of the {len(split)} images"
      )
  neurons = count_neurons(model, variables, example.shape[1:])
  count = len(split)
  spikes = sum(total["spikes"].values(), np.zeros(spiking.time_steps))
  return Evaluation(
    images=count,
    ann=100 * float(total["ann"]) / count,
    clipped=100 * float(total["clipped"]) / count,
    snn=100 * total["snn"] / count,
    agreement=100 * total["agreement"] / count,
    spikes_per_neuron=spikes.cumsum() / (count * sum(neurons.values())),
    firing_rates={
      name: float(total["spikes"][name].sum()) / (count * n * spiking.time_steps)
      for name, n in neurons.items()
    },
  )


def _logits(model: nn.Module, variables: Variables, x: jax.Array) -> jax.Array:
  """What a network answers; Flax declares a pair besides, as where collections are mutable."""
  return cast(jax.Array, model.apply(variables, x))


def _broken(logits: jax.Array) -> jax.Array:
  """Whether an answer is none, [...] of [..., C]; the largest of NaN is some class too."""
  return ~jnp.isfinite(logits).all(axis=-1)


@functools.lru_cache(maxsize=16)
def _measurement(
  preprocess: Callable[[jax.Array], jax.Array],
  model: nn.Module,
  reference_model: nn.Module,
  spiking: SpikingConfig,
  mesh: Mesh,
) -> Callable[..., dict[str, Any]]:
  """The compiled function that measures one batch and sums over its examples."""

  def spiking_network(variables, x, keys):
    def observe(chunk):
      return answers(chunk.logits), spike_counts(chunk.spikes)

    done = simulate(model, variables, x, spiking, keys=keys, observe=observe)
    # Of the logits, as each step's answers may hide a potential that is not finite.
    return done.observed, _broken(done.logits)

  spiking_network = parallel.over_data(mesh, spiking_network, (P(None, "data"), P("data")))

  @jax.jit
  def measure(variables, reference_variables, batch, key):
    x = preprocessed(preprocess, batch["image"])
    mask, labels = batch["mask"], batch["label"]
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])
    logits = _logits(reference_model, reference_variables, x)
    ann = answers(logits)
    clipped_logits = _logits(with_activation(model, TCL), variables, x)
    (snn, spikes), snn_broken = spiking_network(variables, x, keys)
    return {
      "not_finite": {
        "network": jnp.sum(mask & _broken(logits)),
        "clipped network": jnp.sum(mask & _broken(clipped_logits)),
        "spiking network": jnp.sum(mask & snn_broken),
      },
      "ann": jnp.sum(mask & (ann == labels)),
      "clipped": jnp.sum(mask & (answers(clipped_logits) == labels)),
      "snn": jnp.sum(snn == labels[None], axis=1, where=mask[None]),
      "agreement": jnp.sum(snn == ann[None], axis=1, where=mask[None]),
      "spikes": jax.tree.map(lambda s: s.sum(axis=1, where=mask[None]), spikes),
    }

  return measure


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
  sums = [
    correct(variables, parallel.shard(mesh, batch))
    for batch in evaluation_batches(split, batch_size)
  ]
  return 100 * sum(int(s) for s in sums) / len(split)


@functools.lru_cache(maxsize=16)
def _correct(
  preprocess: Callable[[jax.Array], jax.Array], model: nn.Module
) -> Callable[..., jax.Array]:
  @jax.jit
  def correct(variables, batch):
    found = answers(_logits(model, variables, preprocess(batch["image"])))
    return jnp.sum(batch["mask"] & (found == batch["label"]))

  return correct
