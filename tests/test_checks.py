"""Values of the wrong kind are told by name, at each door of the library that takes them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.checks import check_count, check_finite, check_function, check_least, must_be
from tcljax.data import Preprocessing
from tcljax.runs.training_sections import JointConfig


class Bypassing(nn.Module):
  act: type = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    return 2.0 * x


class Unnamed(nn.Module):
  act: type = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(x)


MODEL = tcljax.CNN(num_classes=3, stages=((4,),), dense=())
IMAGES = np.zeros((8, 4, 4, 1), np.float32)
LABELS = np.zeros(8, np.int32)
T4 = tcljax.SpikingConfig(4)


@pytest.fixture(scope="module")
def variables():
  return MODEL.clone(act=tcljax.TCL).init(jax.random.key(0), IMAGES)


def test_numbers_of_python_numpy_and_jax_are_numbers():
  for one in (1, np.int64(1), np.float32(1), jnp.float32(1), np.array(1), jnp.bfloat16(1)):
    check_least("x", one, 1)
    check_finite("x", one)
  for one in (1, np.int64(1), jnp.int32(1)):
    check_count("x", one, 1)
  scalars = (np.complex64(1), np.str_("1"), np.datetime64("2020"), np.timedelta64(1, "s"))
  for value in ("1", None, [1], 1j, np.ones((2, 2)), jax.random.key(0), *scalars):
    with pytest.raises(ValueError, match=r"^x=.* must be a number"):
      check_finite("x", value)
  for value in (1.0, np.float32(1), "1", None, np.ones((2, 2), int), jax.random.key(0), *scalars):
    with pytest.raises(ValueError, match=r"^x=.* must be a whole number, at least 1"):
      check_count("x", value, 1)
  with pytest.raises(ValueError, match="x=0 must be at least 1"):
    check_count("x", 0, 1)


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda v: tcljax.tune(MODEL, v, IMAGES, LABELS, T4, steps=1.5),
      "steps=1.5 must be a whole number",
    ),
    (
      lambda v: tcljax.evaluate(MODEL, v, IMAGES, LABELS, T4, batch_size=2.5),
      "batch_size=2.5 must be a whole number",
    ),
    (
      lambda v: tcljax.calibrate(MODEL, v, [IMAGES], instalments=1.5),
      "instalments=1.5 must be a whole number",
    ),
    (lambda v: tcljax.calibrate(MODEL, v, [IMAGES], v_init="a"), "v_init='a' must be a number"),
    (
      lambda v: tcljax.calibrate(MODEL, v, [IMAGES], v_init=np.ones(2)),
      r"v_init=.* must be a number",
    ),
    (
      lambda v: tcljax.simulate(MODEL, {**v, "clipping": None}, IMAGES, T4),
      "'clipping' holds no thresholds by name",
    ),
    (lambda v: tcljax.calibrate(MODEL, v, [IMAGES[:0]]), "batches holds an empty batch"),
    (lambda v: tcljax.calibrate(MODEL, v, []), "batches is empty"),
    (lambda v: tcljax.calibrate(MODEL, v, IMAGES), "batches is a single array"),
    (
      lambda v: tcljax.choose_margin(tcljax.convert(MODEL, v, (4, 4, 1)), IMAGES),
      "batches is a single array",
    ),
    (
      lambda v: tcljax.calibrate(MODEL, v, [(IMAGES, LABELS)]),
      "no pair of images and labels",
    ),
    (
      lambda v: tcljax.calibrate(MODEL, v, [{"image": IMAGES}]),
      r"the model cannot be run on 2 inputs of shapes {'image': \(2, 4, 4, 1\)}: AttributeError",
    ),
    (lambda v: tcljax.calibrate(MODEL, v, [[IMAGES]]), "batches holds a list, such as"),
    (lambda v: tcljax.calibrate(MODEL, v, [np.float32(1)]), "batches holds an empty batch"),
    (lambda v: tcljax.calibrate(MODEL, v, None), "batches=None must be an iterable of batches"),
    (
      lambda v: tcljax.calibrate(MODEL, v, [IMAGES, IMAGES[:, :3]]),
      r"the model takes no inputs of shape \(batch, 3, 4, 1\): .* params/head/kernel has shape ",
    ),
    (
      lambda v: tcljax.convert(MODEL, v, (4, 4, 1))("abc"),
      r"inputs of shape \(\) and type <U3: give real numbers",
    ),
    (
      lambda v: tcljax.convert(MODEL, v, (4, -4, 1)),
      r"input_shape=\(4, -4, 1\) must be a sequence",
    ),
    (lambda v: tcljax.convert(MODEL, v, 4), "input_shape=4 must be a sequence"),
    (lambda v: tcljax.calibrate(Bypassing(), {}, [IMAGES]), "applies its field act nowhere"),
    (
      lambda v: tcljax.convert(MODEL, v, ((4, 4, 1), (4, 4, 1))),
      r"cannot be run on 2 inputs of shapes \(\(2, 4, 4, 1\), \(2, 4, 4, 1\)\)",
    ),
    (lambda v: Unnamed().init(jax.random.key(0), IMAGES), "name the activation first, then apply"),
    (
      lambda v: tcljax.OptimizerConfig(learning_rate="x"),
      "learning_rate='x' must be a number",
    ),
    (lambda v: tcljax.OptimizerConfig(warmup_steps=0.5), "warmup_steps=0.5 must be a whole"),
    (lambda v: Preprocessing(shift=0.5), "shift=0.5 must be a whole number"),
    (lambda v: tcljax.quantized_clip(jnp.ones(3), 1.0, 0), "time_steps=0 must be at least 1"),
    (lambda v: JointConfig(start="nowhere"), "start='nowhere' is unknown"),
    (lambda v: JointConfig(threshold=0.0), "threshold=0.0 must be above 0"),
    (
      lambda v: tcljax.simulate(tcljax.models.VGG, v, IMAGES, T4),
      "must be an instance of a Flax Linen module",
    ),
    (lambda v: tcljax.simulate(MODEL, None, IMAGES, T4), "variables=None must be collections"),
    (
      lambda v: MODEL.clone(stages=()).init(jax.random.key(0), IMAGES),
      r"stages=\(\): there is at least one stage",
    ),
  ],
)
def test_a_value_of_the_wrong_kind_is_told(variables, call, message):
  with pytest.raises(ValueError, match=message):
    call(variables)


def test_values_are_told_in_one_line():
  for value, words in (
    (None, "x=None must be"),
    ("a", "x='a' must be"),
    ("a" * 100, "x is of type str and must be"),
    (np.ones(1000), "x is of type ndarray and must be"),
    (MODEL, "x is of type VGG and must be"),
    (int, "x is the class int and must be"),
  ):
    assert must_be("x", value, "small") == f"{words} small"


def test_functions_are_checked_by_what_they_take():
  for good in (jnp.asarray, jax.jit(lambda x: x), Preprocessing(), max, lambda *x: x, dict):
    check_function("f", good, ("x",))
  for bad in (lambda: 1, lambda x, y: 1, lambda *, x: 1, 3, None, "abc"):
    with pytest.raises(ValueError, match=r"^f.* must be a function of x"):
      check_function("f", bad, ("x",))
  with pytest.raises(ValueError, match="on_metrics=None must be"):
    tcljax.tune(MODEL, {"clipping": {}}, IMAGES, LABELS, T4, on_metrics=None, batch_size=8)
