"""Inputs that a model does not take are told at every door, with what its variables are for."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.layers.inputs import told_of_inputs

CNN = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
IMAGES = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype(np.float32)
LABELS = np.zeros(8, np.int32)
T4 = tcljax.SpikingConfig(4)


class Unpacking(nn.Module):
  """Takes images alone, in words of its own."""

  act: object = tcljax.TCL

  @nn.compact
  def __call__(self, x):
    batch, height, width, channels = x.shape
    x = nn.Dense(4)(x.reshape(batch, height * width * channels))
    return nn.Dense(3)(self.act(name="act1")(x))


class Vectors(nn.Module):
  """Takes vectors of one length, whose layer comes after others by name."""

  act: object = tcljax.TCL

  @nn.compact
  def __call__(self, x):
    x = self.act(name="act1")(nn.Dense(4, name="z")(x))
    return nn.Dense(3, name="a")(x.reshape(len(x), -1))


DOORS = {
  "simulate": lambda model, variables, x: tcljax.simulate(model, variables, x, T4),
  "calibrate": lambda model, variables, x: tcljax.calibrate(model, variables, [x]),
  "convert": lambda model, variables, x: tcljax.convert(model, variables, x.shape[1:]),
  "diagnose": lambda model, variables, x: tcljax.diagnose(model, variables, x, T4),
  "evaluate": lambda model, variables, x: tcljax.evaluate(
    model, variables, x, LABELS[: len(x)], T4
  ),
  "tune": lambda model, variables, x: tcljax.tune(
    model, variables, x, LABELS[: len(x)], T4, steps=1, batch_size=8
  ),
}


def told(door, model, variables, x):
  with pytest.raises(ValueError) as raised:
    DOORS[door](model, variables, x)
  assert "\n" not in str(raised.value)
  return str(raised.value), raised.value.__cause__


@pytest.fixture(scope="module")
def made():
  return {model: model.init(jax.random.key(0), IMAGES) for model in (CNN, Unpacking(), Vectors())}


@pytest.mark.parametrize("door", DOORS)
def test_inputs_of_a_wrong_shape_are_told(made, door):
  message, cause = told(door, CNN, made[CNN], np.zeros((8, 4, 4, 3), np.float32))
  assert message == (
    "the model takes no inputs of shape (batch, 4, 4, 3): its variables were made for others: "
    "params/conv1_1/kernel has shape (3, 3, 1, 4), and for such inputs it would have (3, 3, 3, 4)"
  )
  assert type(cause).__name__ == "ScopeParamShapeError"
  # The first layer that does not fit, by the order of the layers and not of their names.
  message, _ = told(door, Vectors(), made[Vectors()], np.zeros((8, 5), np.float32))
  assert "shape (batch, 5): " in message and "params/z/kernel has shape (1, 4), and" in message
  # A model that fails in words of its own.
  message, cause = told(door, Unpacking(), made[Unpacking()], np.zeros((8, 16), np.float32))
  assert "inputs of shape (16,) and type float32: ValueError" in message
  assert message.endswith("ValueError: not enough values to unpack (expected 4, got 2)")
  assert isinstance(cause, ValueError)


@pytest.mark.parametrize("door", DOORS)
def test_variables_of_another_model_are_told(made, door):
  given = {**made[CNN], "params": made[Vectors()]["params"]}
  message, _ = told(door, CNN, given, IMAGES)
  assert "have no params/conv1_1/kernel of shape (3, 3, 1, 4); give all that model.init" in message
  message, _ = told(door, CNN, {"clipping": made[CNN]["clipping"]}, IMAGES)
  assert re.search("of this model, not (clipping|nothing)$", message)  # calibrate replaces them


@pytest.mark.parametrize("shape", [(4, 4, 1), (8, 16), (8,)])
def test_models_of_ours_say_that_they_take_images(made, shape):
  with pytest.raises(ValueError, match=r"must be a batch of them, \[B, H, W, C\]|takes no inputs"):
    tcljax.simulate(CNN, made[CNN], np.zeros(shape, np.float32), T4)


def test_weights_from_elsewhere_need_images(tmp_path):
  np.savez(tmp_path / "w.npz", a=np.zeros(3))
  with pytest.raises(ValueError, match=r"must be a batch of them, \[B, H, W, C\]"):
    tcljax.load_pretrained(tmp_path / "w.npz", CNN, (4,))


def test_what_is_no_fault_of_the_inputs_stays_as_it_is(made):
  """But for errors of Flax and JAX from the activation that took the place of ReLU."""
  for error in (ValueError("ours"), MemoryError("none left")):
    with pytest.raises(type(error), match=str(error)), told_of_inputs(CNN, made[CNN], IMAGES):
      raise error
  with pytest.raises(ValueError, match=r"runs with tcljax.ReLU, and not .*: KeyError: 'v'; tcljax"):
    with told_of_inputs(CNN, made[CNN], IMAGES):
      raise KeyError("v")

  class Mapped(nn.Module):
    act: object = tcljax.TCL

    @nn.compact
    def __call__(self, x):
      axes = {"params": 0, "clipping": 0}
      inner = nn.vmap(
        Vectors, in_axes=1, out_axes=1, variable_axes=axes, split_rngs={"params": True}
      )
      return inner(self.act, name="b")(x).reshape(len(x), -1)

  variables = Mapped().init(jax.random.key(0), IMAGES)
  with pytest.raises(ValueError, match=r"runs with tcljax.ReLU.*such as nn.vmap around an activ"):
    tcljax.simulate(Mapped(), variables, jnp.asarray(IMAGES), T4)
