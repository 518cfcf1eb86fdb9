"""A user's function of images: what it must give is told at every door that takes one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from doors import LABELS as CLASSES
from doors import images, made
from small_networks import Dense, calibrated, inputs

import tcljax
from tcljax.data.preprocessing import shape_of_preprocessed

MODEL, LABELS, T4 = Dense(3), np.zeros(32, np.int32), tcljax.SpikingConfig(4)
DOORS = {
  "evaluate": lambda v, f: tcljax.evaluate(MODEL, v, inputs(), LABELS, T4, preprocess=f),
  "diagnose": lambda v, f: tcljax.diagnose(MODEL, v, inputs(), T4, preprocess=f),
  "tune": lambda v, f: tcljax.tune(
    MODEL, v, inputs(), LABELS, T4, steps=1, batch_size=8, preprocess=f
  ),
}


@pytest.fixture(scope="module")
def variables():
  return calibrated(MODEL)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
  "function, message",
  [
    (None, "preprocess=None must be a function of images"),
    (lambda x, *key: None, "preprocess gives a value of type NoneType: let it give one array"),
    (lambda x, *key: (x, x), r"cannot be run on \d inputs of shapes \(\(\d, 6\), \(\d, 6\)\)"),
    (lambda x, *key: "x", "preprocess gives a value of type str"),
    (lambda x, *key: x[:1], r"makes an array of shape \(1, 6\) of \d+ images: let it give"),
    (lambda x, *key: x.mean(), r"makes an array of shape \(\) of \d+ images"),
    (lambda x, *key: jnp.concatenate([x, x]), r"makes an array of shape \(\d+, 6\) of \d+ images"),
    (
      lambda: 1,
      "preprocess must be a function of images.*cannot be called so: too many positional",
    ),
    (lambda x, *key: np.asarray(x), "preprocess fails on images of .*: write it with jax.numpy"),
    (lambda x, *key: x.nothing, "preprocess fails on images of shape .*: AttributeError"),
    (lambda x, *key: x[:, :2], r"takes no inputs of shape \(batch, 2\): .*Dense_0/kernel"),
  ],
)
def test_what_gives_no_inputs_is_told(variables, door, function, message):
  with pytest.raises(ValueError, match=message) as raised:
    DOORS[door](variables, function)
  assert "\n" not in str(raised.value)


def test_of_what_fits_two_inputs_are_described():
  images = jax.ShapeDtypeStruct((5, 4, 4, 3), np.uint8)
  assert shape_of_preprocessed(lambda x: x.mean(axis=-1), images).shape == (2, 4, 4)
  found = shape_of_preprocessed(
    lambda x, key: x + jax.random.normal(key, x.shape), images, keyed=True
  )
  assert found.shape == (2, 4, 4, 3) and found.dtype == np.float32
  with pytest.raises(ValueError, match="must be a function of images and a random key"):
    shape_of_preprocessed(lambda x: x, images, keyed=True)


@pytest.mark.parametrize("door", [tcljax.evaluate, tcljax.tune, tcljax.diagnose])
def test_what_a_function_makes_of_images_is_told(door):
  model, variables, _ = made()
  labels = () if door is tcljax.diagnose else (CLASSES,)
  for found, message in (
    (lambda x, *key: x + 1j, "and type complex64: give real numbers"),
    (lambda x, *key: jax.random.split(jax.random.key(0), x.shape), "type key<fry>: give real num"),
  ):
    with pytest.raises(ValueError, match=rf"^preprocess\(images\) .*{message}"):
      door(model, variables, images(), *labels, T4, preprocess=found)
