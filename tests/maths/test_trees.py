"""Trees of arrays: what is one, how its leaves are named, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

from tcljax.maths import trees

ONE = np.ones((2, 3))
TREE = {"b": (ONE, ONE[:, :1]), "a": ONE[:, None]}


@pytest.mark.parametrize(
  "x, several",
  [
    (ONE, False),
    ([ONE, ONE], False),  # what NumPy makes one array of
    ((1.0, 2.0), False),
    ((), False),
    (tuple(np.arange(3)), False),
    (([1, 2], None), True),
    (({"a": ONE},), True),
    ({}, True),
    (FrozenDict(a=ONE), True),
  ],
)
def test_what_is_several_arrays(x, several):
  assert trees.is_tree(x) is several


def test_leaves_are_named_as_python_reaches_them():
  named = trees.map_named(lambda name, leaf: name, "x", TREE)
  assert named == {"a": "x['a']", "b": ("x['b'][0]", "x['b'][1]")}
  assert trees.map_named(lambda name, leaf: name, "x", [ONE]) == "x"
  paths = [*trees.leaves_by_path(TREE)]
  assert paths == [("a",), ("b", 0), ("b", 1)]
  assert [trees.name_of(path) for path in paths] == ["a", "b/0", "b/1"]
  assert trees.at(TREE, ("b", 1)) is TREE["b"][1]
  for nowhere in (("c",), ("b", 2), ("b", "x"), ("a", 0, 0)):
    assert trees.at(TREE, nowhere) is None
  assert trees.present((None, ONE)) == {(1,): ONE} and trees.present(None) == {}


def test_shapes_of_trees():
  shapes = trees.without_batch(TREE)
  assert shapes == {"a": (1, 3), "b": ((3,), (1,))}
  assert trees.is_shape(()) and trees.is_shape((1, 3)) and not trees.is_shape(shapes["b"])
  made = trees.stand_in(shapes, 5)
  assert jax.tree.map(lambda a: a.shape, made)["b"] == ((5, 3), (5, 1))
  types = trees.stand_in(shapes, 5, jax.tree.map(lambda a: a.dtype, TREE))
  assert types["a"].dtype == np.float64 and made["a"].dtype == jnp.float32
  assert trees.shape_text(TREE) == "{'a': (2, 1, 3), 'b': ((2, 3), (2, 1))}"
  assert trees.shape_text(ONE, "batch") == "(batch, 3)"


def test_what_has_other_parts_is_told_by_its_place():
  wanted = {"a": "1", "b": ("2", "3")}
  pair = lambda given: [*trees.paired("x", wanted, given, lambda part: isinstance(part, str))]
  assert [name for name, _, _ in pair(TREE)] == ["x['a']", "x['b'][0]", "x['b'][1]"]
  for given, message in (
    (ONE, "x is one array: give a dictionary of 'a', 'b'"),
    (3, "x is of type int: give a dictionary of 'a', 'b'"),
    ({"a": ONE}, "x has no 'b': give a dictionary of 'a', 'b'"),
    ({**TREE, "c": ONE}, r"x\['c'\] is not taken: give a dictionary of 'a', 'b'"),
    ({**TREE, "b": (ONE,)}, r"x\['b'\] is a tuple of 1: give a tuple of 2"),
    ({**TREE, "a": (ONE, ONE)}, r"x\['a'\] is a tuple of 2: give one array"),
  ):
    with pytest.raises(ValueError, match=f"^{message}$"):
      pair(given)


def test_what_holds_no_arrays_or_has_no_order_is_told():
  with pytest.raises(ValueError, match=r"^x is a dict without arrays: give at least one"):
    trees.map_named(lambda name, leaf: leaf, "x", {})
  with pytest.raises(ValueError, match=r"^x has keys that have no order: let all be text"):
    trees.map_named(lambda name, leaf: leaf, "x", {1: ONE, "a": ONE})
  with pytest.raises(ValueError, match=r"^x\['b'\]\[0\] has 2 rows and x\['a'\] 1: give as many"):
    trees.check_same_count("x", {**TREE, "a": ONE[:1]}, 0, "rows")
  with pytest.raises(ValueError, match=r"labels\['c'\] belongs to no output: the outputs are \['a"):
    trees.check_places("labels", [("c",)], [("a",), ("b", 0)], "output")
  with pytest.raises(ValueError, match=r"labels\['c'\] belongs to no output: there is one output"):
    trees.check_places("labels", [("c",)], [()], "output")
