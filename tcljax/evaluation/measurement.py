"""The compiled function that measures a network on a batch: ANN, clipped ANN and SNN."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tcljax.data.preprocessing import preprocessed
from tcljax.distributed import parallel
from tcljax.evaluation.scores import (
  class_sums,
  confusion,
  confusion_of,
  distance_sums,
  over_images,
  quantity_sums,
)
from tcljax.layers.activations import TCL, with_activation
from tcljax.layers.collections import spike_counts
from tcljax.maths.encoding import constant_input, time_first
from tcljax.maths.trees import Tree, present
from tcljax.simulation.outputs import Output, answers, arrays_of
from tcljax.simulation.settings import SpikingConfig
from tcljax.simulation.time_loop import simulate


def _broken(outputs: Tree) -> jax.Array:
  """Whether an image has no answer, [B] of [B, ...]; the largest of NaN is some class too."""
  one = lambda output: ~jnp.isfinite(output).all(axis=range(1, output.ndim))
  return functools.reduce(jnp.logical_or, map(one, jax.tree.leaves(outputs)))


def _sums(outputs: Sequence[Output], found: Tree, ann: Tree, labels: Tree) -> dict[str, Any]:
  """Of each output by name, what a network's answers score against the ANN's and the labels."""
  found, ann = arrays_of(outputs, found), arrays_of(outputs, ann)
  labels, sums = present(labels), {}
  for one in outputs:
    given = found[one.path], ann[one.path], labels.get(one.path)
    sums[one.name] = (quantity_sums if one.quantities else class_sums)(*given)
    if not one.quantities and len(outputs) > 1:  # all have an error, of which there is one overall
      sums[one.name] |= distance_sums(*given[:2])
  return sums


def measurement(
  preprocess: Callable[[Any], Any],
  model: nn.Module,
  reference_model: nn.Module,
  spiking: SpikingConfig,
  mesh: Mesh,
  outputs: tuple[Output, ...],
) -> Callable[..., dict[str, Any]]:
  """The compiled function that measures one batch and sums over its examples."""
  sums_of, told_apart = functools.partial(_sums, outputs), confusion_of(outputs)

  def answered(found):
    """What an image is taken for, [..., B]; nothing where no two classes can be confused."""
    return answers(arrays_of(outputs, found)[told_apart.path]) if told_apart else ()

  def spiking_network(variables, x, keys, ann, labels):
    def observe(chunk):
      sums = sums_of(chunk.logits, ann, labels)
      return sums, spike_counts(chunk.spikes), answered(chunk.logits)

    x = time_first(x, spiking.encoding)
    done = simulate(model, variables, x, spiking, keys=keys, observe=observe)
    # Of the outputs, as each step's answers may hide a potential that is not finite.
    return done.observed, _broken(done.logits)

  spiking_network = parallel.over_data(mesh, spiking_network, (P(None, "data"), P("data")))

  @jax.jit
  def measure(variables, reference_variables, batch, key):
    x = preprocessed(preprocess, batch["image"])
    mask, labels = batch["mask"], batch.get("label")
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])
    seen = constant_input(x, spiking.encoding)
    ann = reference_model.apply(reference_variables, seen)
    clipped = with_activation(model, TCL).apply(variables, seen)
    (snn, spikes, taken_for), snn_broken = spiking_network(variables, x, keys, ann, labels)
    confused = ()
    if told_apart and (label := present(labels).get(told_apart.path)) is not None:
      confused = confusion(taken_for, label, mask, told_apart.labels[1])
    return {
      "confusion": confused,
      "not_finite": {
        "network": jnp.sum(mask & _broken(ann)),
        "clipped network": jnp.sum(mask & _broken(clipped)),
        "spiking network": jnp.sum(mask & snn_broken),
      },
      "scores": {
        "ann": over_images(sums_of(ann, ann, labels), mask, axis=0),
        "clipped": over_images(sums_of(clipped, ann, labels), mask, axis=0),
        "snn": over_images(snn, mask, axis=1),
      },
      "spikes": over_images(spikes, mask, axis=1),
    }

  return measure
