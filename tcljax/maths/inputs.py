"""What users pass as data: inputs of a network, class numbers and random keys.

Here alone it is looked at, so that every door of the library tells the same faults in one line.
Arrays of JAX, traced ones among them, are known by shape and type. What JAX would change silently
in an array on the host is told by its value: a mask that it does not see, and numbers that are too
large for the 32 bits in which it keeps those of 64. Of inputs that are several arrays in a tree
(`maths.trees`) each is looked at, and told by its name.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.maths.shapes import check_axes, check_shape
from tcljax.maths.trees import Tree, check_same_count, map_named

# Of JAX or NumPy, as it was given; most of what takes it is declared for those of JAX.
Array = Any


def as_numbers(field: str, x: Any) -> Array:
  """What JAX keeps as it is: an array, or a number of Python, whose type gives way to others.

  Args:
    field: name of the argument.
    x: real numbers in any shape: an array of JAX, or what NumPy makes an array of.

  Returns:
    `x` itself where it is a number of Python, an array of JAX, or one of NumPy in the machine's
    order of bytes.

  Raises:
    ValueError: if these are no real numbers or booleans, entries are masked, or a number does not
      fit into 32 bits where JAX keeps no more of it.
  """
  array = x if isinstance(x, jax.Array) else _on_host(field, x)
  _check_real(field, array, "real numbers of at most 64 bits")
  if isinstance(array, np.ndarray):
    _check_range(field, array)
  return x if isinstance(x, (bool, int, float)) else array


def check_all_finite(field: str, array: Array) -> None:
  """Raises ValueError if a number in an array, or a number of Python, is NaN or infinite."""
  if not jnp.issubdtype(getattr(array, "dtype", type(array)), jnp.floating):
    return
  array = np.asarray(array)  # on the host, where no program is compiled for each shape
  # Sums are infinite or NaN where an element is; where they alone are, look closer.
  with np.errstate(over="ignore", invalid="ignore"):
    finite = np.isfinite(array.sum()) or np.isfinite(array).all()
  if not finite:
    bad = array.size - np.count_nonzero(np.isfinite(array))
    raise ValueError(f"{field} holds {bad} NaN or infinite numbers of {array.size}")


def check_variables_finite(variables: Any) -> None:
  """`check_all_finite` of each array of a network, by its name, such as params/head/kernel."""
  for path, array in jax.tree_util.tree_leaves_with_path(variables):
    check_all_finite(jax.tree_util.keystr(path, simple=True, separator="/"), array)


def as_inputs(field: str, x: Any) -> Tree:
  """`as_numbers` of inputs, a tree of [B, ...] of one B; no number by itself is one."""
  arrays = map_named(_as_input, field, x)
  check_same_count(field, arrays, 0, "rows")
  return arrays


def _as_input(field: str, x: Any) -> Array:
  array = as_numbers(field, x)
  if not np.ndim(array):
    raise ValueError(f"{field}={array} must be an array of inputs, [B, ...]")
  return array


def as_batch(field: str, batch: Any) -> Tree:
  """`as_inputs` of a batch, [B, ...] with B at least 1; a list holds no inputs, and is told."""
  return as_inputs(field, map_named(_filled, field, batch))


def _filled(field: str, x: Any) -> Any:
  if not hasattr(x, "shape"):
    of_list = ", of a list x tuple(x)" if isinstance(x, list) else ""
    raise ValueError(
      f"{field} holds a {type(x).__name__}, such as a pair of images and labels: give the inputs "
      "alone, an array [B, ...], or a tuple or dictionary of these where a network takes several"
      f"{of_list}"
    )
  shape = tuple(x.shape)
  if not shape or not shape[0]:
    raise ValueError(
      f"{field} holds an empty batch, of shape {shape}: give at least one input in each, [B, ...]"
    )
  return x


def as_floats(field: str, x: Tree) -> Tree:
  """Inputs in floating point: integers and booleans as float32.

  So a network meets them, whichever of its activations it has. A difference of uint8 is none.

  Raises:
    ValueError: if they are no real numbers, as far as a type says it.
  """
  return map_named(_as_float, field, x)


def _as_float(field: str, x: Any) -> Array:
  if not hasattr(x, "dtype"):
    raise ValueError(f"{field} is of type {type(x).__name__} and must be an array, [B, ...]")
  _check_real(field, x, "real numbers, [B, ...]")
  return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _check_real(field: str, x: Array, wanted: str) -> None:
  """Raises ValueError unless an array is of real numbers that JAX knows, or of booleans."""
  kinds = (jnp.floating, jnp.integer, jnp.bool_)
  # NumPy takes durations for integers, and JAX takes no floating point of 128 bits.
  if (
    not any(jnp.issubdtype(x.dtype, kind) for kind in kinds)
    or x.dtype.kind == "m"
    or x.dtype.itemsize > 8
  ):
    raise ValueError(f"{field} of shape {tuple(x.shape)} and type {x.dtype}: give {wanted}")


def _on_host(field: str, x: Any) -> Array:
  """What NumPy makes of this, in the machine's order of bytes; of traced arrays what JAX does."""
  _check_unmasked(field, x)
  try:
    array = np.asarray(x)
  except jax.errors.TracerArrayConversionError:
    return jnp.asarray(x)
  except Exception as error:  # whatever the object itself raises
    if isinstance(x, list) and all(getattr(part, "ndim", 0) for part in x):
      raise ValueError(
        f"{field} is a list of arrays whose shapes differ: where a network has several, give them "
        "in a tuple, of a list x tuple(x)"
      ) from error
    reason = str(error).strip().partition("\n")[0]
    raise ValueError(
      f"{field} of type {type(x).__name__}: give an array of numbers; NumPy says: {reason}"
    ) from error
  if array.dtype == object and not array.ndim:  # NumPy sees no array in it
    raise ValueError(f"{field} of type {type(x).__name__}: give an array of numbers")
  return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_unmasked(field: str, x: Any) -> None:
  if _is_masked(x):
    raise ValueError(f"{field}: some entries are masked: fill them, .filled(...), or drop them")


def _is_masked(x: Any) -> bool:
  """Whether entries are masked, also in one of several arrays."""
  return any(map(_is_masked, x)) if isinstance(x, (list, tuple)) else bool(np.ma.is_masked(x))


def _check_range(field: str, x: np.ndarray) -> None:
  """Raises ValueError if a number is finite, and would be another one in JAX."""
  kept = jax.dtypes.canonicalize_dtype(x.dtype)
  if kept == x.dtype:
    return
  whole = jnp.issubdtype(kept, jnp.integer)
  limits = jnp.iinfo(kept) if whole else jnp.finfo(kept)
  finite = np.isfinite(x)
  for end in (x.min(where=finite, initial=0), x.max(where=finite, initial=0)):
    if not float(limits.min) <= float(end) <= float(limits.max):
      remedy = "give floating-point numbers" if whole else "scale them down"
      raise ValueError(
        f"{field}: {end} does not fit into {kept}, in which JAX keeps {x.dtype}: {remedy}"
      )


def as_labels(field: str, labels: Any) -> np.ndarray:
  """Class numbers as an array of NumPy, [N], or [N, ...] where images have many.

  Raises:
    ValueError: if they are no integers, not [N, ...], or some are masked.
  """
  array = _on_host(field, labels)
  if not array.ndim or array.dtype.kind not in "iu":
    remedy = "of one-hot labels, labels.argmax(-1)"
    if array.ndim and array.dtype.kind in "fb":
      remedy = "of whole numbers, labels.astype(int)"
      remedy += "; of one-hot labels, labels.argmax(-1)" * (array.ndim > 1)
    elif array.ndim:
      remedy = "of names, np.unique(labels, return_inverse=True)[1]"
    raise ValueError(_no_labels(field, array, (), remedy))
  return np.asarray(array)


def as_targets(field: str, targets: Any) -> np.ndarray:
  """Quantities that a network is to answer, as an array of NumPy, [N, ...], in float32 or more.

  Raises:
    ValueError: if they are no real numbers, or other ones in JAX, not [N, ...], or some are masked.
  """
  array = np.asarray(as_numbers(field, targets))
  if not array.ndim:
    raise ValueError(f"{field}={array} must be an array of targets, [N, ...]")
  return np.asarray(_as_float(field, array))


def check_labels(field: str, labels: np.ndarray, shape: tuple[int, ...], num_classes: int) -> None:
  """Raises ValueError unless labels are those of a network.

  Args:
    field: name of the argument.
    labels: from `as_labels` or `as_targets`, [N, ...].
    shape: that of the labels of one image; () where an image has one class.
    num_classes: how many classes the network tells apart; 0 where the labels are targets.
  """
  if labels.shape[1:] != shape:
    if not num_classes:
      raise ValueError(
        f"{field} have shape {labels.shape}: give targets in the shape of the network's outputs, "
        f"{_with_batch(shape)}"
      )
    remedy = f"the network answers once for {'each position' if shape else 'an image'}"
    if labels.shape[1:] == (*shape, 1):
      remedy = f"of one column labels[{', '.join(':' * (len(shape) + 1))}, 0]"
    elif labels.ndim == len(shape) + 2:
      remedy = "of one-hot labels, labels.argmax(-1)"
    raise ValueError(_no_labels(field, labels, shape, remedy))
  if num_classes and labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
    raise ValueError(
      f"{field} run from {labels.min()} to {labels.max()}, the network "
      f"has classes 0 to {num_classes - 1}"
    )


def _no_labels(field: str, labels: np.ndarray, shape: tuple[int, ...], remedy: str) -> str:
  return (
    f"{field} have shape {tuple(labels.shape)} and type {labels.dtype}: give class numbers, "
    f"integers {_with_batch(shape)}; {remedy}"
  )


def _with_batch(shape: tuple[int, ...]) -> str:
  return f"[{', '.join(map(str, ('N', *shape)))}]"


def are_keys(keys: Any) -> bool:
  """Whether this is an array of random keys, by its type; those of old are rows of uint32."""
  if not hasattr(keys, "dtype"):
    return False
  if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
    return True
  return keys.dtype == np.uint32 and keys.ndim == 2 and keys.shape[1:] == _row_of_key()


def _row_of_key() -> tuple[int, ...]:
  return jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape


def check_keys(keys: Any, count: int) -> None:
  """Raises ValueError unless these are random keys, [B], one for each of B inputs; or None."""
  if keys is None:
    return
  _check_unmasked("keys", keys)
  if not are_keys(keys):
    kind = f"type {type(keys).__name__}"
    if hasattr(keys, "dtype"):
      kind = f"shape {tuple(keys.shape)} and type {keys.dtype}"
    raise ValueError(
      f"keys of {kind} are no random keys: give one for each input, such as "
      f"jax.random.split(jax.random.key(0), {count})"
    )
  check_axes("keys", keys, 1, "[B], one random key for each example")
  rows = () if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else _row_of_key()
  check_shape("keys", keys, (count, *rows), "the batch of x")
