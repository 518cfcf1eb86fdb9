"""What a user's function makes of a batch of images."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from tcljax.checks import check_function
from tcljax.files import why
from tcljax.maths.inputs import as_floats

_MADE = "preprocess(images)"


def preprocessed(preprocess: Callable[..., jax.Array], *given: jax.Array) -> jax.Array:
  """Inputs of a network, in floating point.

  Args:
    preprocess: as in `shape_of_preprocessed`.
    *given: what it is called with.

  Raises:
    ValueError: if it makes no array of real numbers.
  """
  return as_floats(_MADE, preprocess(*given))


def shape_of_preprocessed(
  preprocess: Callable[..., jax.Array], images: jax.ShapeDtypeStruct, keyed: bool = False
) -> jax.ShapeDtypeStruct:
  """Shape and type of two inputs that are made of such images; nothing is computed.

  Looked at before anything is compiled.

  Args:
    preprocess: takes images, [B, ...], and a random key if `keyed`; gives inputs, [B, ...].
    images: shape and type of a batch of two images or more.
    keyed: whether it is called with a key.

  Raises:
    ValueError: if it cannot be called so, fails when it is compiled, or gives something else than
      one array with an entry for each image.
  """
  check_function("preprocess", preprocess, ("images", "a random key")[: 2 if keyed else 1])
  wanted = "let it give one array, [B, ...], with an input for each of the images"
  given = []
  # As JAX keeps them; some versions warn of 64 bits.
  images = jax.ShapeDtypeStruct(images.shape, jax.dtypes.canonicalize_dtype(images.dtype))

  def run(*arguments):
    given.append(made := preprocess(*arguments))
    return made if _is_array(made) else jnp.zeros(())

  try:
    made = jax.eval_shape(run, images, *([jax.eval_shape(jax.random.key, 0)] if keyed else []))
  except Exception as error:  # of any kind, as the function is the user's
    compiled = isinstance(error, jax.errors.JAXTypeError)
    remedy = "; it is compiled: write it with jax.numpy in place of numpy" if compiled else ""
    raise ValueError(
      f"preprocess fails on images of shape {images.shape} and type {images.dtype}: "
      f"{type(error).__name__}: {why(error)}{remedy}"
    ) from error
  if not _is_array(given[0]):
    raise ValueError(f"preprocess gives a value of type {type(given[0]).__name__}: {wanted}")
  if made.shape[:1] != images.shape[:1]:
    raise ValueError(
      f"preprocess makes an array of shape {made.shape} of {images.shape[0]} images: {wanted}"
    )
  two = jax.ShapeDtypeStruct((2, *made.shape[1:]), made.dtype)
  return jax.eval_shape(functools.partial(as_floats, _MADE), two)


def _is_array(made):
  return hasattr(made, "shape") and hasattr(made, "dtype")
