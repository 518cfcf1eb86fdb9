"""The collections of variables are known in one module; every door asks for thresholds alike."""

import ast
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.layers import collections
from tcljax.layers.collections import Thresholds

PACKAGE = pathlib.Path(tcljax.__file__).parent
NAMES = {"clipping", "membrane", "totals", "teacher", "raw_threshold", "v_init", "batch_stats"}
MESSAGE = "^the variables have no collection 'clipping': run tcljax.calibrate first$"


def keys(source):
  """Names of collections and their arrays that a module uses to look into a dictionary."""
  for node in ast.walk(ast.parse(source)):
    found = []
    if isinstance(node, ast.Subscript):
      found = [node.slice]
    elif isinstance(node, ast.Dict):
      found = node.keys
    elif isinstance(node, ast.Compare):
      found = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
      if node.func.attr in ("get", "pop", "variable", "has_variable", "sow"):
        found = node.args[:2]
    for key in found:
      if isinstance(key, ast.Constant) and key.value in NAMES:
        yield key.value


def test_no_other_module_looks_into_them_by_name():
  for line in ("a['clipping']", "a = {'teacher': 1}", "a.get('totals')", "'membrane' in a"):
    assert list(keys(line))
  found = {
    str(path.relative_to(PACKAGE)): sorted(set(keys(path.read_text())))
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "layers" / "collections.py"
  }
  assert {path: names for path, names in found.items() if names} == {}


def test_every_door_asks_for_thresholds_alike(vgg, images):
  model, variables = vgg
  spiking, labels = tcljax.SpikingConfig(time_steps=2), np.zeros(len(images), np.int32)
  doors = [
    lambda: tcljax.simulate(model, variables, images, spiking),
    lambda: tcljax.evaluate(model, variables, images, labels, spiking),
    lambda: tcljax.diagnose(model, variables, images, spiking),
    lambda: tcljax.tune(model, variables, images, labels, spiking),
    lambda: tcljax.convert(model, variables, (8, 8, 3), spiking),
    lambda: tcljax.thresholds(variables),
  ]
  for door in doors:
    with pytest.raises(ValueError, match=MESSAGE):
      door()


def test_thresholds_are_written_and_read():
  held = Thresholds(jnp.asarray([0.0, 1.0]), jnp.asarray([[0.5, 0.25], [0.5, 0.5]]))
  other = collections.new_thresholds(jnp.zeros(()), 0.25, 4)
  given = {"params": {}, "clipping": {"old": {}}}
  variables = collections.with_thresholds(given, {("block", "act"): held, ("last",): other})
  assert jax.tree.map(jnp.shape, variables) == {
    "params": {},
    "clipping": {
      "block": {"act": {"raw_threshold": (2,), "v_init": (2, 2)}},
      "last": {"raw_threshold": (), "v_init": (4,)},
    },
  }
  found = collections.thresholds_by_path(variables)
  assert list(found) == [("block", "act"), ("last",)] and found[("block", "act")] is not None
  np.testing.assert_allclose(found[("block", "act")].tau, np.log1p(np.exp([0, 1])), rtol=1e-6)
  # The second part is added before the second step, as one of two.
  np.testing.assert_allclose(found[("block", "act")].instalments, [[0.5, 0.25], [0.25, 0.25]])
  np.testing.assert_allclose(found[("last",)].instalments, [0.25] + [0.25 / 4] * 3)


def test_half_a_threshold_is_told():
  variables = {"clipping": {"block": {"act": {"raw_threshold": 1.0}}}}
  with pytest.raises(ValueError, match="no threshold for activation 'block/act' in the collection"):
    collections.thresholds_by_path(variables)


def test_a_teacher_comes_and_goes():
  variables = {"params": 1}
  assert collections.teacher_of(variables) is None
  taught = collections.with_teacher(variables, {"params": 2})
  assert collections.teacher_of(taught) == {"params": 2} and taught["params"] == 1
  assert collections.without(taught, collections.TEACHER) == variables
