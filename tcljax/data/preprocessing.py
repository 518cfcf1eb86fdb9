"""What a user's function makes of a batch of images."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tcljax.checks import check_function
from tcljax.files import kind_and_why
from tcljax.maths.inputs import as_floats
from tcljax.maths.trees import Tree, count, map_named, shape_text

_MADE = "preprocess(images)"


def unchanged(images: Any, key: jax.Array | None = None) -> Any:
  """The images themselves, as arrays of JAX."""
  del key
  return jax.tree.map(jnp.asarray, images)


def preprocessed(preprocess: Callable[..., Any], *given: Any) -> Tree:
  """Inputs of a network, in floating point.

  Args:
    preprocess: as in `shape_of_preprocessed`.
    *given: what it is called with.

  Raises:
    ValueError: if it makes no arrays of real numbers.
  """
  return as_floats(_MADE, preprocess(*given))


def shape_of_preprocessed(
  preprocess: Callable[..., Any], images: Tree, keyed: bool = False
) -> Tree:
  """Shapes and types of two inputs that are made of such images; nothing is computed.

  Looked at before anything is compiled.

  Args:
    preprocess: takes images, [B, ...], or a tree of such, and a random key if `keyed`; gives
      inputs, [B, ...], or a tree of such.
    images: shapes and types of a batch of two images or more.
    keyed: whether it is called with a key.

  Raises:
    ValueError: if it cannot be called so, fails when it is compiled, or gives something else than
      arrays with an entry for each image.
  """
  check_function("preprocess", preprocess, ("images", "a random key")[: 2 if keyed else 1])
  wanted = "let it give one array, [B, ...], with an input for each of the images"
  given = []
  # As JAX keeps them; some versions warn of 64 bits.
  kept = lambda a: jax.ShapeDtypeStruct(a.shape, jax.dtypes.canonicalize_dtype(a.dtype))
  images = jax.tree.map(kept, images)

  def run(*arguments):
    given.append(made := preprocess(*arguments))
    return map_named(lambda name, a: a if _is_array(a) else jnp.zeros(()), _MADE, made)

  try:
    made = jax.eval_shape(run, images, *([jax.eval_shape(jax.random.key, 0)] if keyed else []))
  except Exception as error:  # of any kind, as the function is the user's
    compiled = isinstance(error, jax.errors.JAXTypeError)
    remedy = "; it is compiled: write it with jax.numpy in place of numpy" if compiled else ""
    raise ValueError(
      f"preprocess fails on {_told(images)}: {kind_and_why(error)}{remedy}"
    ) from error
  batch = count(images)

  def one(name, a):
    where = "preprocess" + name.removeprefix(_MADE)
    if not _is_array(a):
      raise ValueError(f"{where} gives a value of type {type(a).__name__}: {wanted}")
    if tuple(a.shape[:1]) != (batch,):
      raise ValueError(
        f"{where} makes an array of shape {tuple(a.shape)} of {batch} images: {wanted}"
      )

  map_named(one, _MADE, given[0])
  two = jax.tree.map(lambda a: jax.ShapeDtypeStruct((2, *a.shape[1:]), a.dtype), made)
  return jax.eval_shape(functools.partial(as_floats, _MADE), two)


def _told(images: Tree) -> str:
  if isinstance(images, jax.ShapeDtypeStruct):
    return f"images of shape {images.shape} and type {images.dtype}"
  return f"images of shapes {shape_text(images)}"


def _is_array(made):
  return hasattr(made, "shape") and hasattr(made, "dtype")
