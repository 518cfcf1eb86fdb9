"""What an observer of a simulation sees, and what it may return."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tcljax.checks import check_function


class Chunk(NamedTuple):
  """What an observer sees of K consecutive steps.

  Attributes:
    logits: the answer after each of these steps, [K, B, ...]: the mean output so far, without the
      steps that `SpikingConfig.delay` leaves out; a tree where the network returns one.
    spikes: the collection `spikes`: for each activation, `count`, the spikes of all its neurons in
      each step and example, negative ones included, [K, B]; of neurons that send bursts also
      `active`, how many of them sent any.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> spiking = tcljax.SpikingConfig(time_steps=4)
    >>> answers = lambda chunk: chunk.logits.argmax(axis=-1)
    >>> tcljax.simulate(model, variables, images, spiking, observe=answers).observed.shape
    (4, 8)
  """

  logits: Any
  spikes: Any


def check_observer(observe: Callable[[Chunk], Any]) -> None:
  """Raises ValueError unless this can be called with a `Chunk`."""
  check_function("observe", observe, ("a tcljax.Chunk",))


def check_observed(observed: Any, chunk: int) -> None:
  """Raises ValueError unless an observer has returned arrays [K, ...], or nothing.

  Args:
    observed: what it returned of one chunk.
    chunk: K.
  """
  for path, value in jax.tree.leaves_with_path(observed):
    try:
      shape, numbers = np.shape(value), jax.dtypes.result_type(value) is not None
    except (TypeError, ValueError):
      shape, numbers = (), False
    if not numbers or shape[:1] != (chunk,):
      what = f"shape {shape}" if numbers else f"type {type(value).__name__}"
      raise ValueError(
        f"observe returns a value of {what}{f' at {jax.tree_util.keystr(path)}' if path else ''} "
        f"of {chunk} steps: return arrays [K, ...], an entry for each of the K steps of a chunk, "
        "such as chunk.logits.argmax(axis=-1)"
      )
