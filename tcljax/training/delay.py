"""How many steps the readout leaves out: those from before a network has settled."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_batches
from tcljax.layers.activations import ReLU, check_model, with_activation
from tcljax.layers.collections import Variables, require_clipping
from tcljax.maths.encoding import as_simulated, constant_input, of_one_step
from tcljax.maths.inputs import as_floats
from tcljax.maths.trees import count
from tcljax.simulation.outputs import check_kinds, outputs_of_model
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.simulation.time_loop import simulate
from tcljax.training.losses import distillation, relative_error, squared_error

_PARTS = 8  # of the steps are tried


def choose_delay(
  model: nn.Module,
  variables: Variables,
  batches: Iterable[Any],
  spiking: SpikingConfig = SpikingConfig(),
  *,
  outputs: Any = "classes",
) -> SpikingConfig:
  """The simulation that leaves out as many steps at the start as suits its answers best.

  A deep network answers wrongly before its last layers have settled, and a mean over all steps
  holds these answers. Each eighth of the steps is tried as the delay. The one is taken whose
  answers after all steps are nearest to the ANN's, by the divergence of logits and the squared
  error of quantities; of equals the shortest.

  Args:
    model: a network with a field `act`.
    variables: its variables with the collection `clipping`, from `calibrate` or `tune`.
    batches: inputs as `calibrate` takes them, from the training set, without labels.
    spiking: how to simulate; its own delay is not looked at.
    outputs: as in `tcljax.tune`.

  Returns:
    `spiking` with this delay.

  Raises:
    ValueError: if `batches` is empty, answers are not finite, or on what `simulate` and `tune`
      refuse.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=())
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> spiking = tcljax.SpikingConfig(time_steps=8)
    >>> variables = tcljax.calibrate(model, variables, [images], spiking)
    >>> 0 <= tcljax.choose_delay(model, variables, [images], spiking).delay < 8
    True
  """
  check_model(model)
  variables = require_clipping(variables)
  check_spiking(spiking)
  check_batches(batches)
  check_kinds(outputs)
  delays = _delays(spiking)
  whole = dataclasses.replace(spiking, delay=0)
  network = with_activation(model, ReLU)

  @functools.partial(jax.jit, static_argnames="distances")
  def errors(variables, x, keys, distances):
    """Of each delay, summed over the examples, [N]."""
    wanted = jax.tree.leaves(network.apply(variables, constant_input(x, spiking.encoding, 0)))
    told = simulate(model, variables, x, whole, keys=keys, observe=lambda chunk: chunk.logits)
    of_delays = [_read_out(answers, delays) for answers in jax.tree.leaves(told.observed)]
    parts = [
      jax.vmap(distance, (0, None))(of_delay, target)
      for distance, of_delay, target in zip(distances, of_delays, wanted, strict=True)
    ]
    return jnp.stack(parts).sum(axis=0) * len(keys)

  total, examples = np.zeros(len(delays)), 0
  for batch in batches:
    x = as_floats("batches", as_simulated("batches", batch, spiking.encoding, spiking.time_steps))
    one = of_one_step(x, spiking.encoding)
    found = outputs_of_model(network, variables, one, outputs)
    squared = squared_error if len(found) == 1 else relative_error
    distances = tuple(squared if each.quantities else distillation for each in found)
    keys = jax.random.split(jax.random.key(0), count(one))
    total += np.asarray(errors(variables, x, keys, distances))
    examples += count(one)
  if not examples:
    raise ValueError("batches is empty: give inputs to choose by, such as [images]")
  if np.isnan(total).any():
    raise ValueError("answers to these batches are no numbers: are the inputs and weights finite?")
  return dataclasses.replace(spiking, delay=int(delays[np.argmin(total)]))


def _delays(spiking: SpikingConfig) -> np.ndarray:
  """Each eighth of the steps, in whole periods of phases."""
  period = spiking.neuron.phase
  periods = spiking.time_steps // period
  return period * np.unique(periods * np.arange(_PARTS) // _PARTS)


def _read_out(answers: jax.Array, delays: np.ndarray) -> jax.Array:
  """The last answers of each delay, [N, B, ...], from those of each step of none, [T, B, ...]."""
  time_steps = len(answers)
  sums = jnp.concatenate([jnp.zeros_like(answers[:1]), answers])[delays]
  ones = [1] * (answers.ndim - 1)
  said = answers[-1:] * time_steps - sums * delays.reshape(-1, *ones)
  return said / (time_steps - delays).reshape(-1, *ones).astype(np.float32)
