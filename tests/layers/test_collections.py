"""The collections of variables are known in one module; every door asks for thresholds alike."""

import ast
import contextlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from doors import DOORS, NO_IMAGES, images, made
from flax import traverse_util
from small_networks import Dense, inputs

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


def clipping(raw_threshold, v_init=0.5, **others):
  return {"act1": {"raw_threshold": raw_threshold, "v_init": v_init, **others}}


def doors(model, variables, x):
  labels, spiking = np.zeros(len(x), np.int32), tcljax.SpikingConfig(2)
  yield lambda: tcljax.thresholds(variables)
  yield lambda: tcljax.simulate(model, variables, x, spiking)
  yield lambda: tcljax.diagnose(model, variables, x, spiking)
  yield lambda: tcljax.convert(model, variables, x.shape[1:], spiking)
  yield lambda: tcljax.evaluate(model, variables, x, labels, spiking)
  yield lambda: tcljax.tune(model, variables, x, labels, spiking, steps=1, batch_size=8)


@pytest.mark.parametrize(
  "held, message",
  [
    (clipping(np.ones(16), np.ones((0, 16))), r"'act1' has a v_init of shape \(0, 16\): it must"),
    (clipping(1.0, np.ones(0)), r"'act1' has a v_init of shape \(0,\): .* of raw_threshold, \(\),"),
    (clipping(np.ones(16), np.ones((2, 3))), r"'act1' has a v_init of shape \(2, 3\)"),
    (clipping(np.ones(16), np.ones((2, 3, 16))), r"'act1' has a v_init of shape \(2, 3, 16\)"),
    (clipping(np.ones(16)), r"'act1' has a v_init of shape \(\): it must have that of .* \(16,\)"),
    (
      clipping(np.ones((2, 16)), np.ones((2, 16))),
      r"'act1' has a raw_threshold of shape \(2, 16\)",
    ),
    (
      clipping(np.ones(0), np.ones(0)),
      r"'act1' has a raw_threshold of shape \(0,\): it must be a s",
    ),
    (clipping("x"), r"^clipping/act1/raw_threshold of shape \(\) and type <U1: give real numbers"),
    (
      clipping(None),
      "'act1' has a raw_threshold of type NoneType: it must be a number or an array of re",
    ),
    (clipping([1.0] * 16, np.ones(16)), "'act1' has a raw_threshold of type list"),
    (clipping(np.array([None])), r"clipping/act1/raw_threshold of shape \(1,\) and type object"),
    (clipping(1j), "clipping/act1/raw_threshold of shape .* and type complex128"),
    (clipping(True), "'act1' has a raw_threshold of type bool"),
    (clipping(1.0, "x"), "clipping/act1/v_init of shape .* and type <U1: give real"),
    (clipping(1.0, None), "'act1' has a v_init of type NoneType"),
    ({"act1": {"raw_threshold": 1.0}}, "no threshold for activation 'act1' in the collection"),
    ({"act1": {"v_init": 1.0}}, "no threshold for activation 'act1' in the collection"),
    ({"act1": 1.0}, "no threshold for activation 'act1' in the collection"),
    ({1: clipping(1.0)["act1"]}, "'clipping' has .1, 'raw_threshold', 'v_init'. for names, which"),
    (np.ones(3), "the collection 'clipping' holds no thresholds by name"),
  ],
)
def test_thresholds_that_cannot_be_are_told_at_every_door(held, message):
  model, x = Dense(3), inputs(8)
  variables = {"params": model.init(jax.random.key(0), x)["params"], "clipping": held}
  for door in doors(model, variables, x):
    with pytest.raises(ValueError, match=message):
      door()
  # calibrate replaces them, whatever they are.
  assert tcljax.thresholds(tcljax.calibrate(model, variables, [x]))["act1"].shape == (16,)


def test_whole_numbers_are_taken_and_trained():
  model, x = Dense(3), inputs(8)
  params = {"params": model.init(jax.random.key(0), x)["params"]}
  whole, real = ({**params, "clipping": clipping(*pair)} for pair in ((1, 0), (1.0, 0.0)))
  spiking = tcljax.SpikingConfig(4)
  found, expected = (tcljax.simulate(model, v, x, spiking).logits for v in (whole, real))
  np.testing.assert_array_equal(found, expected)
  found, expected = (
    tcljax.tune(model, v, x, np.zeros(8, np.int32), spiking, steps=2, batch_size=8)["clipping"]
    for v in (whole, real)
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
  "door", ["simulate", "calibrate", "diagnose", "evaluate", "tune", "convert"]
)
@pytest.mark.parametrize("path", ["params/Dense_0/kernel", "clipping/a/raw_threshold"])
def test_weights_and_thresholds_that_are_none_are_told_by_their_path(path, door):
  model, variables, network = made()
  call = DOORS.get(door, lambda m, v, n, x: tcljax.convert(m, v, (4,)))
  replaced = door == "calibrate" and path.startswith("clipping")
  for x, message in NO_IMAGES.values():
    if isinstance(x, (np.ndarray, jax.Array)):
      held = traverse_util.flatten_dict(variables, sep="/") | {path: x}
      told = pytest.raises(ValueError, match=rf"^{path}\b.*({message})")
      with contextlib.nullcontext() if replaced else told:
        call(model, traverse_util.unflatten_dict(held, sep="/"), network, images())
