"""The compiled function that measures a network on a batch: ANN, clipped ANN and SNN."""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tcljax.data.preprocessing import preprocessed
from tcljax.distributed import parallel
from tcljax.evaluation.scores import class_sums, over_images, quantity_sums
from tcljax.layers.activations import TCL, with_activation
from tcljax.layers.collections import Variables, spike_counts
from tcljax.maths.encoding import constant_input, time_first
from tcljax.simulation.settings import SpikingConfig
from tcljax.simulation.time_loop import simulate


def outputs_of(model: nn.Module, variables: Variables, x: jax.Array) -> jax.Array:
  """What a network answers; Flax declares a pair besides, as where collections are mutable."""
  return cast(jax.Array, model.apply(variables, x))


def _broken(output: jax.Array) -> jax.Array:
  """Whether an image has no answer, [B] of [B, ...]; the largest of NaN is some class too."""
  return ~jnp.isfinite(output).all(axis=range(1, output.ndim))


@functools.lru_cache(maxsize=16)
def measurement(
  preprocess: Callable[[jax.Array], jax.Array],
  model: nn.Module,
  reference_model: nn.Module,
  spiking: SpikingConfig,
  mesh: Mesh,
  quantities: bool,
) -> Callable[..., dict[str, Any]]:
  """The compiled function that measures one batch and sums over its examples."""
  sums_of = quantity_sums if quantities else class_sums

  def spiking_network(variables, x, keys, ann, labels):
    def observe(chunk):
      return sums_of(chunk.logits, ann, labels), spike_counts(chunk.spikes)

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
    ann = outputs_of(reference_model, reference_variables, seen)
    clipped = outputs_of(with_activation(model, TCL), variables, seen)
    (snn, spikes), snn_broken = spiking_network(variables, x, keys, ann, labels)
    return {
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
