"""What is compiled is kept for functions that stay what they are, and for no others."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import Dense, calibrated, inputs

import tcljax
from tcljax.evaluation import compiling
from tcljax.evaluation.accuracy import evaluate

MODEL, LABELS, T4 = Dense(3), np.zeros(32, np.int32), tcljax.SpikingConfig(4)


scale_of_this_module = 1.0
act_of_this_module = jnp.positive


def halved(images):
  return images / 2


def scaled_by_a_global(images):
  return scale_of_this_module * images


def changed_by_a_function(images):
  return act_of_this_module(2 * halved(images))


def scaled_by_another(images):
  return jax.vmap(lambda image: scaled_by_a_global(image))(images)


@dataclasses.dataclass
class Scaled:
  by: float

  def __call__(self, images):
    return self.by * images


@dataclasses.dataclass(frozen=True)
class Reading:
  by: float

  def __call__(self, images):
    return scaled_by_a_global(images)


@dataclasses.dataclass(frozen=True)
class Holding:
  function: Callable

  def __call__(self, images):
    return self.function(images)


@dataclasses.dataclass(frozen=True)
class Fixed:
  by: float

  def __call__(self, images):
    return self.by * images


def changing():
  scale = [1.0]
  held = Scaled(1.0)
  yield lambda images: scale[0] * images, lambda: scale.__setitem__(0, -1.0)
  yield held, lambda: setattr(held, "by", -1.0)
  again = Scaled(1.0)
  yield functools.partial(again.__call__), lambda: setattr(again, "by", -1.0)
  third = Scaled(1.0)
  yield third.__call__, lambda: setattr(third, "by", -1.0)
  for function in (scaled_by_a_global, scaled_by_another, Reading(2.0), Reading(2.0).__call__):
    yield function, lambda: globals().update(scale_of_this_module=-1.0)
  of_a_field = [1.0]
  yield Holding(lambda images: of_a_field[0] * images), lambda: of_a_field.__setitem__(0, -1.0)
  for name, value in {"halved": lambda a: -a / 2, "act_of_this_module": jnp.negative}.items():
    yield changed_by_a_function, lambda name=name, value=value: globals().update({name: value})
  weights = {"by": 1.0}
  with_default = lambda images, given=weights: given["by"] * images
  yield with_default, lambda: weights.update(by=-1.0)


@pytest.mark.parametrize("number", range(12))
def test_a_function_that_changes_is_run_as_it_is(number, monkeypatch):
  for name in ("scale_of_this_module", "act_of_this_module", "halved"):
    monkeypatch.setitem(globals(), name, globals()[name])  # as it is again after the test
  variables = calibrated(MODEL)
  preprocess, change = list(changing())[number]
  rates = lambda f: evaluate(MODEL, variables, inputs(), LABELS, T4, preprocess=f).firing_rates
  before = rates(preprocess)
  change()
  assert rates(preprocess) == rates(lambda images: -images) != before


def test_a_function_that_cannot_change_is_compiled_once():
  variables = calibrated(MODEL)
  named = lambda images: jnp.tanh(jax.nn.relu(halved(images)))
  for preprocess in (halved, lambda images: images / 2, Fixed(2.0), named):
    compiling.kept.cache_clear()
    for _ in range(2):
      evaluate(MODEL, variables, inputs(), LABELS, T4, preprocess=preprocess)
    assert compiling.kept.cache_info().hits == 1
