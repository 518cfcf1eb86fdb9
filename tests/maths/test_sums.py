"""Sums over the first axis: values, kinds and gradients, and that they stand where it counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.evaluation.diagnosis import arrived, sums_of
from tcljax.maths.sums import repeat_first, sum_over_first
from tcljax.training.candidates import squared_errors
from tests.programs import primitives, sums_over_first


@pytest.mark.parametrize("number", [1, 2, 8, 9, 21])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_it_is_the_sum(number, shape):
  x = np.random.default_rng(0).normal(size=(number, *shape)).astype(np.float32)
  np.testing.assert_allclose(sum_over_first(x), x.astype(np.float64).sum(axis=0), atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bfloat16, jnp.float32])
def test_it_keeps_the_kind_of_number(dtype):
  found = sum_over_first(jnp.full((3, 4), 2, dtype))
  assert found.dtype == dtype and found.tolist() == [6, 6, 6, 6]


def test_its_gradient_is_that_of_a_sum():
  x, direction = jax.random.normal(jax.random.key(0), (2, 9, 4, 3))
  weights = jnp.arange(12.0).reshape(4, 3)
  found = jax.grad(lambda x: (weights * sum_over_first(x)).sum())(x)
  np.testing.assert_array_equal(found, np.broadcast_to(weights, x.shape))
  _, forward = jax.jvp(sum_over_first, (x,), (direction,))
  np.testing.assert_allclose(forward, direction.sum(axis=0), atol=1e-5)


def test_its_gradient_has_no_loop():
  _, back = jax.vjp(sum_over_first, jnp.ones((64, 3)))
  assert "scan" not in primitives(back, jnp.ones(3))


def test_the_way_back_of_copies_is_the_sum():
  x, to_copies = jnp.arange(6.0).reshape(2, 3), jax.random.normal(jax.random.key(0), (5, 2, 3))
  found, back = jax.vjp(lambda x: repeat_first(x, 5), x)
  np.testing.assert_array_equal(found, np.repeat(x[None], 5, axis=0))
  np.testing.assert_array_equal(back(to_copies)[0], sum_over_first(to_copies))
  assert not sums_over_first(back, to_copies)


def test_sums_over_steps_and_examples_are_this_one():
  model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
  x = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
  variables = model.init(jax.random.key(1), x)

  def total(variables, neuron):
    spiking = tcljax.SpikingConfig(4, neuron=neuron)
    rates = tcljax.simulate(model, variables, x, spiking, rates=True).rates
    return sum(map(jnp.sum, jax.tree.leaves(rates)))

  for neuron in (tcljax.Neuron(), tcljax.Neuron(signed=True), tcljax.Neuron(burst=2)):
    run = functools.partial(total, neuron=neuron)
    assert not sums_over_first(run, variables)
    assert not sums_over_first(jax.grad(run), variables)

  (found,) = arrived(model, tcljax.SpikingConfig(4), variables, x)[0].values()
  assert not sums_over_first(functools.partial(sums_of, mask=jnp.ones(8, bool)), found)

  currents, shares, parts = jnp.ones((4, 5, 3)), jnp.ones((5, 3)), jnp.ones((2, 4))
  errors = functools.partial(squared_errors, neuron=tcljax.Neuron())
  assert not sums_over_first(errors, currents, shares, shares, jnp.ones((2, 3)), parts)
