"""How an example becomes the input of every time step, and what an ANN sees of it.

An example is one array that serves every step, or with "frames" a sequence of T of them, one for
each step. What is simulated then has time in front, [T, B, ...]; in arrays of examples, which are
drawn from and split over devices, examples come first, [B, T, ...]. Of a network that takes several
arrays, in a tree, all this holds of each.
"""

from typing import Any

import jax
import jax.numpy as jnp

from tcljax.checks import check_choice
from tcljax.maths.inputs import as_batch, as_floats, check_keys
from tcljax.maths.shapes import check_axes
from tcljax.maths.trees import Tree, check_same_count, count, map_named

ENCODINGS = ("constant", "poisson", "frames")


def poisson_spikes(key: jax.Array, x: jax.Array) -> jax.Array:
  """One step of Poisson (Bernoulli) input: spikes whose mean is the example.

  Args:
    key: random key.
    x: one example, any shape, of either sign.

  Returns:
    sign(x) * max|x| with probability |x| / max|x|, else 0; in the shape of `x`. NaN of an example
    that is not finite, which else would never fire.
  """
  height = jnp.max(jnp.abs(x))
  fires = jax.random.uniform(key, x.shape) * height < jnp.abs(x)
  return jnp.where(jnp.isfinite(height), jnp.where(fires, jnp.sign(x) * height, 0.0), jnp.nan)


def inputs_of_steps(
  x: Tree, keys: jax.Array | None, first_step: jax.Array, time_steps: int, encoding: str
) -> Tree:
  """The input of `time_steps` time steps from `first_step` on, folded into the batch, step-major.

  Args:
    x: examples, [B, ...]; of "frames" [T, B, ...].
    keys: random keys, [B], for "poisson"; of several arrays each has spikes of its own.
    first_step: number of the first of these steps, from 0; it may be traced.
    time_steps: K; of "frames" there are so many from `first_step` on.
    encoding: one of `ENCODINGS`.

  Returns:
    [K*B, ...]. Of frames these K alone are read, in floating point.

  Raises:
    ValueError: on an unknown encoding, inputs that are no real numbers, keys that are not one for
      each example, or if "poisson" comes without any.
  """
  check_choice("encoding", encoding, ENCODINGS)
  axes = (2, "[T, B, ...]") if encoding == "frames" else (1, "[B, ...]")
  map_named(lambda name, leaf: check_axes(name, leaf, *axes), "x", x)
  check_keys(keys, count_examples(x, encoding))
  if encoding == "poisson" and keys is None:
    raise ValueError("encoding='poisson' needs keys: one random key for each example")
  leaves, structure = jax.tree.flatten(x)
  folded = [
    _inputs_of_one(leaf, keys, i, first_step, time_steps, encoding) for i, leaf in enumerate(leaves)
  ]
  return jax.tree.unflatten(structure, folded)


def _inputs_of_one(x, keys, number, first_step, time_steps, encoding):
  """`inputs_of_steps` of one array, the `number`-th from 0 on."""
  if encoding == "frames":
    taken = jax.lax.dynamic_slice_in_dim(jnp.asarray(x), first_step, time_steps)
    return as_floats("x", taken).reshape(-1, *x.shape[2:])
  x = as_floats("x", x)  # of int8 the magnitude of -128 is none
  if encoding == "constant":
    every = jnp.broadcast_to(x, (time_steps, *x.shape))
  else:
    if number:
      keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)

    def frame(t):
      return jax.vmap(lambda key, image: poisson_spikes(jax.random.fold_in(key, t), image))(keys, x)

    every = jax.vmap(frame)(first_step + jnp.arange(time_steps))
  return every.reshape(-1, *x.shape[1:])


def count_examples(x: Tree, encoding: str) -> int:
  """B of what is simulated: [B, ...], of frames [T, B, ...]."""
  return count(x, 1 if encoding == "frames" else 0)


def of_one_step(x: Tree, encoding: str) -> Tree:
  """Shape and type of what one step takes of `x`: [B, ...]."""
  first = 1 if encoding == "frames" else 0
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[first:], leaf.dtype), x)


def as_simulated(field: str, x: Any, encoding: str, time_steps: int | None = None) -> Tree:
  """`as_batch` of what is simulated: [B, ...], of frames [T, B, ...].

  Args:
    field: name of the argument.
    x: the argument.
    encoding: one of `ENCODINGS`.
    time_steps: T; None where the frames alone say it.

  Raises:
    ValueError: as `as_batch` does, or if there is not one frame for each step.
  """
  x = as_batch(field, x)
  if encoding == "frames":
    map_named(lambda name, leaf: _check_frames(name, leaf, time_steps), field, x)
    check_same_count(field, x, 1, "examples")
  return x


def _check_frames(field: str, x: Any, time_steps: int | None) -> None:
  if x.ndim < 2 or not x.shape[1]:
    raise ValueError(
      f"{field} has shape {tuple(x.shape)} and must be frames of at least one example, "
      "[T, B, ...], as encoding='frames'"
    )
  _check_count(field, x.shape, 0, time_steps)


def time_first(examples: Tree, encoding: str) -> Tree:
  """What is simulated of examples [B, ...]: themselves, and of frames [B, T, ...] [T, B, ...]."""
  if encoding != "frames":
    return examples
  return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), examples)


def constant_input(examples: Tree, encoding: str, time_axis: int = 1) -> Tree:
  """What an ANN sees of examples [B, ...]: themselves, and of frames [B, T, ...] their mean.

  The first layer's current is affine in its input, so that this makes its mean over all steps.
  """
  if encoding != "frames":
    return examples
  return jax.tree.map(lambda leaf: leaf.mean(axis=time_axis), as_floats("x", examples))


def constant_inputs_of(field: str, examples: Tree, encoding: str, time_steps: int) -> Tree:
  """Shape and type of `constant_input`.

  Args:
    field: name of the argument that the examples were given as.
    examples: shape and type of them, [B, ...], of frames [B, T, ...].
    encoding: one of `ENCODINGS`.
    time_steps: T.

  Raises:
    ValueError: if there is not one frame for each step.
  """
  if encoding != "frames":
    return examples

  def one(name, leaf):
    _check_count(name, leaf.shape, 1, time_steps)
    return jax.ShapeDtypeStruct((leaf.shape[0], *leaf.shape[2:]), leaf.dtype)

  return map_named(one, field, examples)


def _check_count(field: str, shape: tuple[int, ...], axis: int, time_steps: int | None) -> None:
  """Raises ValueError unless so many frames lie along this axis."""
  layout = ("[T, B, ...]", "[N, T, ...]")[axis]
  if len(shape) <= axis or time_steps not in (None, shape[axis]):
    found = f"{shape[axis]} frames" if len(shape) > axis else "no frames"
    raise ValueError(
      f"{field} of shape {tuple(shape)} has {found} and time_steps={time_steps}: with "
      f"encoding='frames' give one frame for each time step, {layout}"
    )
