"""How many steps of a simulation are computed at a time, and which of them memory holds."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.distributed import memory
from tcljax.kernels import fire, targets
from tcljax.layers import collections
from tcljax.layers.activations import activation_paths, with_activation
from tcljax.layers.collections import Variables
from tcljax.layers.inputs import told_of_inputs
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths.encoding import of_one_step
from tcljax.maths.trees import Shapes, Tree, count, stand_in, without_batch
from tcljax.simulation.settings import SpikingConfig, check_spiking

_LARGEST_CHUNK = 8
_LARGEST_ON_GPUS = 16  # 1.06 to 1.10 times as fast as 8 for a VGG-16, benchmarks/results/gpu.md
_LARGEST_ON_CPUS = 2
_KEPT = 4  # arrays a step that gradients need; a ResNet-20 tuned 2.3, trained jointly 4.5
_SHARE_OF_MEMORY = 0.25  # the rest is for weights, inputs and what layers need besides


def with_chunk(
  model: nn.Module,
  variables: Variables,
  x: Tree,
  spiking: SpikingConfig,
  on_cpus: int = _LARGEST_ON_CPUS,
  on_gpus: int = _LARGEST_ON_GPUS,
) -> SpikingConfig:
  """The settings with K chosen, as `simulate` says, where they left it open.

  Args:
    model: as in `simulate`.
    variables: as in `simulate`.
    x: as in `simulate`.
    spiking: how to simulate.
    on_cpus: the largest K there.
    on_gpus: the largest K where neurons have kernels.
  """
  check_spiking(spiking)
  if spiking.chunk:
    return spiking
  if targets.platform() == "cpu":
    largest = on_cpus
  else:
    largest = on_gpus if fire.serves(on_gpus, spiking.neuron) else _LARGEST_CHUNK
    largest = _fitting_steps(model, variables, of_one_step(x, spiking.encoding), largest)
  return dataclasses.replace(spiking, chunk=spiking.time_steps_per_chunk(largest))


def with_chunk_for_gradients(
  model: nn.Module, variables: Variables, x: Tree, spiking: SpikingConfig
) -> SpikingConfig:
  """`with_chunk` where gradients are taken.

  One chunk of all steps is the fastest, but only up to eight are one pass over the neurons. Of
  more steps, small chunks are faster on CPUs, as their arrays stay in the caches. But where chunks
  are computed again, the potentials between them are held, T/K, beside what gradients need of one:
  many steps take larger chunks, so that the sum of both is least.
  """
  time_steps, on_cpus = spiking.time_steps, _LARGEST_CHUNK
  if time_steps > _LARGEST_CHUNK:
    least_held = math.isqrt(time_steps // _KEPT)
    on_cpus = min(max(least_held, _LARGEST_ON_CPUS), _LARGEST_CHUNK)
  return with_chunk(model, variables, x, spiking, on_cpus, on_gpus=_LARGEST_CHUNK)


def _fitting_steps(model, variables, x, largest):
  """The largest K whose currents and spikes fit into their part of the device's memory."""
  limit = memory.of_a_device()
  if limit is None:
    return largest
  neurons = count(x) * sum(count_neurons(model, variables, without_batch(x)).values())
  fitting = _SHARE_OF_MEMORY * limit / max(1, 2 * 4 * neurons)  # two arrays of float32
  return max(1, math.floor(min(largest, fitting)))


def gradients_fit(state: Variables, time_steps: int) -> bool:
  """Whether what gradients need of all T steps fits into its part of the device's memory.

  Args:
    state: of the neurons, with their potentials.
    time_steps: T.
  """
  limit = memory.of_a_device()
  neurons = sum(v.size for v in collections.potentials(state).values())
  return limit is not None and 4 * _KEPT * neurons * time_steps <= _SHARE_OF_MEMORY * limit


def count_neurons(model: nn.Module, variables: Variables, input_shape: Shapes) -> dict[str, int]:
  """Neurons of each activation, by its path and in their order, for one input of this shape."""
  kinds = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), dict(variables)
  )
  leaves, structure = jax.tree.flatten((kinds, stand_in(input_shape, 1)))
  try:
    return dict(_counted(model, structure, tuple(leaves)))
  except TypeError:  # a model with a list as field has no hash
    return _counted.__wrapped__(model, structure, tuple(leaves))


@functools.lru_cache(maxsize=64)
def _counted(model, structure, leaves):
  """`count_neurons`, which a call of a converted network asks for, and which traces the model."""
  variables, x = jax.tree.unflatten(structure, leaves)
  network = with_activation(model, IF)
  with told_of_inputs(model, variables, x):
    _, state = jax.eval_shape(
      lambda variables, x: network.apply(variables, x, mutable=[collections.MEMBRANE]), variables, x
    )
  found = collections.potentials(state)
  paths = ["/".join(path) for path in activation_paths(model, variables, x)]
  return {path: math.prod(found[path].shape[1:]) for path in paths}
