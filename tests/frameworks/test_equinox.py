"""Networks of Equinox, which are called with one example."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.frameworks import importing

IMAGES = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)


class Net(eqx.Module):
  conv: eqx.nn.Conv2d
  norm: eqx.nn.BatchNorm
  pool: eqx.nn.MaxPool2d
  drop: eqx.nn.Dropout
  out: eqx.nn.Linear

  def __init__(self, key):
    first, last = jax.random.split(key)
    self.conv = eqx.nn.Conv2d(3, 4, 3, key=first)
    self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
    self.pool = eqx.nn.MaxPool2d(2, 2)
    self.drop = eqx.nn.Dropout(0.5)
    self.out = eqx.nn.Linear(36, 5, key=last)

  def __call__(self, x, state):
    x, state = self.norm(self.conv(x), state)
    return self.out(self.drop(self.pool(jax.nn.relu(x))).ravel()), state


def test_a_network_with_state_is_run_for_inference():
  model, state = eqx.nn.make_with_state(Net)(jax.random.key(0))
  network = tcljax.from_equinox(model, IMAGES, state)
  assert len(network.populations) == 1
  own = eqx.nn.inference_mode(model)
  expected = jax.vmap(lambda x: own(x, state)[0], axis_name="batch")(IMAGES)
  found = network.model.apply(network.variables, IMAGES)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  assert not model.drop.inference


class Aside(eqx.Module):
  """Has BatchNorm, and does without it for inference."""

  conv: eqx.nn.Conv2d
  norm: eqx.nn.BatchNorm

  def __call__(self, x):
    return jax.nn.relu(self.conv(x))


class SameWithState(Aside):
  """Takes a state, and returns none."""

  def __call__(self, x, state=None):
    return super().__call__(x)


def test_a_state_that_is_needed_and_not_given_is_told():
  model, state = eqx.nn.make_with_state(Net)(jax.random.key(0))
  layered = eqx.nn.Sequential([model.conv, model.norm, eqx.nn.Lambda(jax.nn.relu)])
  for one in (model, layered):
    told = r"as BatchNorm .* none is given: .*tcljax.from_equinox\(model, example, state\)$"
    with pytest.raises(ValueError, match=told):
      tcljax.from_equinox(one, IMAGES)
  assert tcljax.from_equinox(layered, IMAGES, state).populations
  aside = Aside(model.conv, model.norm)
  assert tcljax.from_equinox(aside, IMAGES).populations
  # What fails for another reason is told for that one.
  with pytest.raises(ValueError, match="cannot be traced on inputs of shape") as told:
    tcljax.from_equinox(aside, IMAGES[:, :2])
  assert "state" not in str(told.value)
  aside = SameWithState(model.conv, model.norm)
  with pytest.raises(ValueError, match="returns no pair of an output and a state: leave it out"):
    tcljax.from_equinox(aside, IMAGES, state)


def test_layers_of_other_kinds_are_told_with_their_line():
  mlp = eqx.nn.MLP(4, 3, 8, 2, activation=jax.nn.gelu, key=jax.random.key(0))
  with pytest.raises(ValueError, match=r"applies `\w+` in .*: (neurons compute|spikes cannot)"):
    tcljax.from_equinox(mlp, jnp.ones((1, 4)))


class Dropping(eqx.Module):
  """With dropout that does not ask whether it is trained."""

  conv: eqx.nn.Conv2d
  drop: eqx.nn.Dropout

  def __call__(self, x):
    return jax.nn.relu(self.drop(self.conv(x), key=jax.random.key(0), inference=False))


def test_models_that_are_trained_or_in_parts_are_told():
  conv = eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0))
  model = eqx.nn.Sequential([conv, eqx.nn.Lambda(jax.nn.relu)])
  shapes = eqx.filter_eval_shape(lambda: model)
  for one, example, told in (
    (Dropping(conv, eqx.nn.Dropout(0.5)), IMAGES, r"random numbers .*\(test_equinox.py:\d+\)"),
    (shapes, IMAGES, "model has weights without numbers, as eqx.filter_eval_shape"),
    (eqx.partition(model, eqx.is_array), IMAGES, r"model is of type tuple .*eqx.combine\(params"),
    (model, IMAGES[0], r"cannot be traced on inputs of shape \(2, 8, 8\)"),
    (model, IMAGES.transpose(0, 2, 3, 1), r"cannot be traced on inputs of shape \(2, 8, 8, 3\)"),
    (model, IMAGES.astype(np.uint8), "cannot be traced .* uint8, float32"),
  ):
    with pytest.raises(ValueError, match=told) as raised:
      tcljax.from_equinox(one, example)
    assert "\n" not in str(raised.value)


def test_a_framework_that_is_not_there_is_named_with_the_command():
  with pytest.raises(ValueError, match=r"nowhere is not installed: run pip install 'tcljax\[x\]'"):
    importing.framework("nowhere.nn", "x")
