"""Several arrays as one argument: a tuple or a dictionary of arrays, or of such again.

One array is the tree of one leaf. A list is none: it is what NumPy makes one array of, as is a
tuple of numbers. In errors an array is named as it is reached in Python, "inputs['left']".
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import in_a_line

# Arrays, or what stands for them; and shapes of one example, without the batch.
Tree = Any
Shapes = Any
Path = tuple[Any, ...]  # keys and positions that lead to an array; () of one array


def is_tree(x: Any) -> bool:
  """Whether this holds several arrays: a dictionary, or a tuple with an array or None in it."""
  if isinstance(x, tuple):
    return any(part is None or getattr(part, "ndim", 0) or is_tree(part) for part in x)
  return isinstance(x, Mapping)


def map_named(function: Callable[[str, Any], Any], field: str, tree: Tree) -> Tree:
  """`jax.tree.map` of a function of a leaf's name and the leaf, which may be of any kind.

  Args:
    function: of "inputs['left']" and what is there.
    field: name of the argument, "inputs".
    tree: the argument.

  Raises:
    ValueError: if it holds no arrays at all, or keys that cannot be brought into an order.
  """
  return map_by_path(lambda path, leaf: function(field + place(path), leaf), field, tree)


def map_by_path(function: Callable[[Path, Any], Any], field: str, tree: Tree) -> Tree:
  """As `map_named`, of a function of the keys that lead to a leaf, and the leaf."""
  if not is_tree(tree):
    return function((), tree)
  try:
    structure = jax.tree.structure(tree, is_leaf=lambda x: not is_tree(x))
  except ValueError as error:
    raise ValueError(f"{field} has keys that have no order: let all be text") from error
  if not structure.num_leaves:
    raise ValueError(f"{field} is a {type(tree).__name__} without arrays: give at least one")
  return jax.tree.unflatten(structure, [function(*one) for one in leaves_by_path(tree).items()])


def leaves_by_path(
  tree: Tree, is_leaf: Callable[[Any], bool] = lambda x: not is_tree(x)
) -> dict[Path, Any]:
  """The leaves, by the keys that lead there."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
  return {tuple(map(_key, path)): leaf for path, leaf in flat}


def _key(entry):
  """What stands between the brackets, of an entry of a path of JAX."""
  return getattr(entry, "key", getattr(entry, "idx", entry))


def present(tree: Tree) -> dict[Path, Any]:
  """The leaves by path, without those that are None; none of None."""
  return {path: leaf for path, leaf in leaves_by_path(tree).items() if leaf is not None}


def place(path: Path) -> str:
  """A path as it is written in Python: "['heads'][0]"."""
  return "".join(f"[{key!r}]" for key in path)


def name_of(path: Path) -> str:
  """A path as people read it: "heads/0"."""
  return "/".join(map(str, path))


def at(tree: Tree, path: Path) -> Any:
  """What a tree holds at a path; None where it has no such place."""
  for key in path:
    if not isinstance(tree, (tuple, list, Mapping)):
      return None
    try:
      tree = tree[key]
    except (KeyError, IndexError, TypeError):
      return None
  return tree


def thawed(tree: Tree) -> Tree:
  """A tree of plain dictionaries and tuples, in place of frozen, ordered or named ones, and lists.

  JAX takes the leaves of an ordered dictionary in another order than those of a plain one.
  """
  if isinstance(tree, Mapping):
    return {key: thawed(part) for key, part in tree.items()}
  return tuple(map(thawed, tree)) if isinstance(tree, (tuple, list)) else tree


def check_same_count(field: str, tree: Tree, axis: int, what: str) -> None:
  """Raises ValueError unless all arrays have the same size along an axis; `what` names it."""
  (first, one), *others = leaves_by_path(tree).items()
  for path, other in others:
    if other.shape[axis] != one.shape[axis]:
      raise ValueError(
        f"{field}{place(path)} has {other.shape[axis]} {what} and {field}{place(first)} "
        f"{one.shape[axis]}: give as many of each"
      )


def count(tree: Tree, axis: int = 0) -> int:
  """How many examples all arrays have along an axis."""
  return jax.tree.leaves(tree)[0].shape[axis]


def is_shape(x: Any) -> bool:
  """Whether this is the shape of one array, and no tree of several."""
  return isinstance(x, tuple) and not any(isinstance(n, (tuple, Mapping)) for n in x)


def without_batch(tree: Tree) -> Shapes:
  """The shapes of one example of arrays [B, ...]."""
  return jax.tree.map(lambda leaf: tuple(leaf.shape[1:]), tree)


def stand_in(shapes: Shapes, batch: int, types: Any = None) -> Tree:
  """Arrays by shape and type alone, [B, ...].

  Args:
    shapes: of one example.
    batch: B.
    types: a tree of their types; None where all are float32.
  """
  if types is None:
    types = jax.tree.map(lambda _: jnp.float32, shapes, is_leaf=is_shape)
  one = lambda shape, dtype: jax.ShapeDtypeStruct((batch, *shape), dtype)
  return jax.tree.map(one, shapes, types, is_leaf=is_shape)


def as_shapes(field: str, given: Any) -> Shapes:
  """The shape of one input, or a tree of shapes, in numbers of Python; ValueError if it is none."""
  inner = (tuple, list, Mapping)
  if isinstance(given, Mapping):
    if not given:
      raise ValueError(f"{field}={{}} holds no shapes: give one for each input")
    return {key: as_shapes(field, part) for key, part in given.items()}
  if isinstance(given, (tuple, list)) and any(isinstance(n, inner) for n in given):
    return tuple(as_shapes(field, part) for part in given)
  try:
    shape = tuple(operator.index(n) for n in given)
  except TypeError:
    shape = (0,)
  if min(shape, default=1) < 1:
    raise ValueError(
      f"{field}={in_a_line(given)} must be a sequence of integers, such as (28, 28, 1), "
      "the shape of one input without the batch; of several, a tuple or dictionary of shapes"
    )
  return shape


def on_device(tree: Tree) -> Tree:
  """Arrays of JAX; those of NumPy would go to the device anew with every call that takes them.

  Keys keep their order, which `jax.tree.map` changes. What float32 cannot hold becomes infinite,
  and nobody is warned of it. What is no array of numbers stays as it is.
  """
  if isinstance(tree, Mapping):
    return {key: on_device(part) for key, part in tree.items()}
  if type(tree) is not np.ndarray or tree.dtype.kind not in "biuf":
    return tree
  # Of a network that is read while JAX traces, arrays and no tracers are wanted.
  with np.errstate(over="ignore"), jax.ensure_compile_time_eval():
    return jnp.asarray(tree)


def shape_text(tree: Tree, batch: Any = None) -> str:
  """The shapes of arrays for a message; of one array "(2, 5)", with `batch` in place of the 2."""

  def one(leaf):
    if batch is None:
      return str(tuple(leaf.shape))
    return f"({', '.join(map(str, (batch, *leaf.shape[1:])))})"

  return _text(jax.tree.map(one, tree))


def _text(tree: Any) -> str:
  """A tree of texts as Python writes it, the texts without quotes."""
  if isinstance(tree, Mapping):
    return "{" + ", ".join(f"{key!r}: {_text(part)}" for key, part in tree.items()) + "}"
  if isinstance(tree, (tuple, list)):
    return f"({', '.join(map(_text, tree))})"
  return str(tree)


def paired(
  field: str, wanted: Tree, given: Tree, is_leaf: Callable[[Any], bool]
) -> Iterator[tuple[str, Any, Any]]:
  """The leaves of what is wanted and the arrays given for them, with their names.

  Args:
    field: name of the argument.
    wanted: a tree of what is known of each array.
    given: the argument.
    is_leaf: whether a part of `wanted` stands for one array.

  Raises:
    ValueError: naming the place where they differ.
  """
  if is_leaf(wanted):
    if isinstance(given, (tuple, list, Mapping)):
      raise ValueError(f"{field} is {_kind(given)}: give one array")
    yield field, wanted, given
  elif isinstance(wanted, Mapping):
    keys = ", ".join(map(repr, wanted))
    if not isinstance(given, Mapping):
      raise ValueError(f"{field} is {_kind(given)}: give a dictionary of {keys}")
    if missing := [key for key in wanted if key not in given]:
      raise ValueError(f"{field} has no {missing[0]!r}: give a dictionary of {keys}")
    if unknown := [key for key in given if key not in wanted]:
      raise ValueError(f"{field}[{unknown[0]!r}] is not taken: give a dictionary of {keys}")
    for key, part in wanted.items():
      yield from paired(f"{field}[{key!r}]", part, given[key], is_leaf)
  else:
    if not isinstance(given, (tuple, list)) or len(given) != len(wanted):
      raise ValueError(f"{field} is {_kind(given)}: give a tuple of {len(wanted)}")
    for i, part in enumerate(wanted):
      yield from paired(f"{field}[{i}]", part, given[i], is_leaf)


def _kind(given):
  """What was given, in words."""
  if isinstance(given, (tuple, list, Mapping)):
    return f"a {type(given).__name__} of {len(given)}"
  return "one array" if hasattr(given, "shape") else f"of type {type(given).__name__}"


def check_places(field: str, leaves: Iterable[Path], paths: Sequence[Path], what: str) -> None:
  """Raises ValueError unless all leaves are at these paths, which are those of each `what`."""
  for path in leaves:
    if path not in paths:
      known = ", ".join(map(place, paths))
      remedy = f"the {what}s are {known}" if known else f"there is one {what}: give one"
      raise ValueError(f"{field}{place(path)} belongs to no {what}: {remedy}")
