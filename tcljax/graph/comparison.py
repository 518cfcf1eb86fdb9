"""Whether a graph computes what the function computes that it was read of."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.files import kind_and_why
from tcljax.graph.fates import source_of_error
from tcljax.graph.reading import Unread
from tcljax.kernels import convolution, xla_options
from tcljax.maths.trees import thawed

# By how much of the largest output both may differ. Folding moves rounding alone, of which deep
# networks gather some.
_TOLERANCE = 1e-3
_TOLERANCE_OF_16_BITS = 0.1  # where layers of the model compute in bfloat16 or float16
# Not those that models are traced with, as a model may behave otherwise for them.
_BATCHES = (5, 7)


def check_same(
  function: Callable[[Any], Any],
  found: Callable[[Any, Any], Any],
  variables: Any,
  example: Any,
  unread: Sequence[Unread | None] = (),
) -> list[str]:
  """Compares a function with the network that was made of it, on random inputs of two batch sizes.

  Args:
    function: of one batch.
    found: the network, `found(variables, x)`.
    variables: its own.
    example: shapes and types of inputs, [B, ...].
    unread: for each output, the operations at its end that the network leaves out; None for none.

  Returns:
    For each output the ending that the network leaves out: "softmax", "log_softmax" or "sigmoid";
    "" where it leaves out nothing.

  Raises:
    ValueError: if they differ, an output ends in operations that are none of these, or the function
      raises an error of its own.
  """
  inputs = [_random(example, batch) for batch in _BATCHES]

  @jax.jit
  def both(variables, inputs):
    answers = [(thawed(function(x)), found(variables, x)) for x in inputs]
    return [tuple(map(jax.tree.leaves, pair)) for pair in answers]

  try:
    with convolution.as_written():  # which compiles four times as fast
      traced = both.trace(variables, inputs)
      options: Any = xla_options.compiling_quickly()
      outputs = jax.device_get(traced.lower().compile(options)(variables, inputs))
  except Exception as error:  # of any kind, as the function is the user's
    sizes, at = " and ".join(map(str, _BATCHES)), source_of_error(error)
    raise ValueError(
      f"the function cannot be run on batches of {sizes} inputs, as on one of another size"
      f"{at and f' ({at})'}: {kind_and_why(error)}"
    ) from error
  tolerance = tolerance_of(traced.jaxpr)
  endings: list[str] = []
  for expected, computed in outputs:
    pairs = zip(expected, computed, unread or [None] * len(expected), strict=True)
    endings = [_ending(*pair, tolerance) for pair in pairs]
  return endings


def _ending(expected: Any, computed: Any, unread: Unread | None, tolerance: float) -> str:
  """What of an output the network leaves out.

  Raises:
    ValueError: if they differ in another way.
  """
  expected = np.asarray(expected, np.float32)
  if unread is None:
    same, error, largest = compared(computed, expected, tolerance)
    if not same:
      raise ValueError(
        f"the converted network differs from the model on random inputs, by {error:.3g} where the "
        f"largest output is {largest:.3g}: are its weights finite, is it the same in every call, "
        "and are whole numbers made floats before anything is computed of them?"
      )
    return ""
  for name, ended in _endings(np.asarray(computed)):
    if ended.shape == expected.shape and compared(ended, expected, tolerance)[0]:
      return name
  raise unread.error


def tolerance_of(jaxpr: Any) -> float:
  """By how much of the largest output two computations may differ, of which this is one."""
  return _TOLERANCE_OF_16_BITS if re.search(r"\bb?f16\[", str(jaxpr)) else _TOLERANCE


def compared(
  found: np.ndarray, expected: np.ndarray, tolerance: float
) -> tuple[bool, float, float]:
  """Whether arrays are the same, their largest difference, and the largest that is expected."""
  with np.errstate(invalid="ignore"):  # of infinity less infinity
    error, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
  # NaN is no number that is less than another, and infinity no measure of what differs.
  return math.isfinite(largest) and error <= tolerance * largest, error, largest


def _endings(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
  """What an array is made into by each of the endings that are known."""
  with np.errstate(over="ignore"):
    yield "sigmoid", 1 / (1 + np.exp(-x))
  for axis in reversed(range(1, x.ndim)):
    below = x - x.max(axis, keepdims=True)
    logarithm = below - np.log(np.exp(below).sum(axis, keepdims=True))
    yield "softmax", np.exp(logarithm)
    yield "log_softmax", logarithm


def _random(example: Any, batch: int) -> Any:
  """Random numbers in the shapes and types of an example, for so many examples."""
  rng = np.random.default_rng(0)

  def draw(leaf):
    shape = (batch, *leaf.shape[1:])
    if jnp.issubdtype(leaf.dtype, jnp.bool_):
      return rng.integers(0, 2, shape).astype(leaf.dtype)
    if jnp.issubdtype(leaf.dtype, jnp.integer):
      # Of one byte all of them, as sums that leave it begin anew, which no graph does.
      ends = jnp.iinfo(leaf.dtype)
      low, high = (ends.min, ends.max) if ends.bits <= 8 else (0, 127)
      return rng.integers(low, high, shape, endpoint=True).astype(leaf.dtype)
    return rng.normal(size=shape).astype(leaf.dtype)

  return jax.tree.map(draw, example)
