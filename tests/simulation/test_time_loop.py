"""Simulations: the same spikes in any chunks, and the clipped network's answers in the end."""

import functools
import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import calibrate_plainly

import tcljax
from tcljax.layers.activations import TCL
from tcljax.simulation.settings import SpikingConfig
from tcljax.simulation.time_loop import simulate


@pytest.fixture(scope="module")
def calibrated(vgg, images):
  model, variables = vgg
  return model, calibrate_plainly(model, variables, images, percentile=99, per_channel=True)


def observe(steps):
  return steps.logits, steps.spikes


def run(calibrated, images, **config):
  model, variables = calibrated
  spiking = SpikingConfig(**config)
  return jax.jit(lambda v, x: simulate(model, v, x, spiking, observe=observe))(variables, images)


@pytest.mark.bits
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_chunk_sizes_agree_to_the_last_spike(calibrated, images, reset):
  results = [
    run(calibrated, images, time_steps=12, chunk=chunk, neuron=tcljax.Neuron(reset))
    for chunk in (1, 4, 12)
  ]
  assert sum(float(s.sum()) for s in jax.tree.leaves(results[0].observed[1])) > 1000
  for other in results[1:]:
    chex.assert_trees_all_equal(results[0].observed[1], other.observed[1])
    np.testing.assert_array_equal(results[0].observed[0].argmax(-1), other.observed[0].argmax(-1))
    np.testing.assert_allclose(results[0].logits, other.logits, rtol=1e-5, atol=1e-5)


def test_logits_at_every_step_are_those_of_a_shorter_run(calibrated, images):
  whole = run(calibrated, images, time_steps=8)
  for steps in (1, 3, 8):
    np.testing.assert_allclose(
      whole.observed[0][steps - 1],
      run(calibrated, images, time_steps=steps).logits,
      rtol=1e-5,
      atol=1e-5,
    )
  np.testing.assert_allclose(whole.logits, whole.observed[0][-1], rtol=1e-6, atol=1e-6)


def test_approaches_the_clipped_network(calibrated, images):
  model, variables = calibrated
  clipped = model.clone(act=TCL).apply(variables, images)
  errors = [
    np.abs(run(calibrated, images, time_steps=steps).logits - clipped).max()
    for steps in (8, 64, 512)
  ]
  assert errors[2] < 0.1 * errors[0] and errors[2] < 0.02 * np.abs(clipped).max()


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_delayed_readout_leaves_the_first_steps_out(calibrated, images, chunk):
  whole = np.asarray(run(calibrated, images, time_steps=8).observed[0])
  outputs = np.diff(whole * np.arange(1, 9)[:, None, None], axis=0, prepend=0)  # of single steps
  delayed = run(calibrated, images, time_steps=8, delay=3, chunk=chunk)
  for t in range(1, 9):
    expected = outputs[3:t].mean(axis=0) if t > 3 else outputs[:t].mean(axis=0)
    np.testing.assert_allclose(delayed.observed[0][t - 1], expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(delayed.logits, outputs[3:].mean(axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 6])
def test_rates_are_means_over_all_steps(calibrated, images, chunk):
  """The identity of soft reset ties currents to spikes: what is left is a potential below tau."""
  model, variables = calibrated
  spiking = SpikingConfig(time_steps=12, chunk=chunk)
  found = jax.jit(lambda v, x: simulate(model, v, x, spiking, observe=observe, rates=True))(
    variables, images
  )
  for name, counts in found.observed[1].items():
    rates = found.rates[name]
    np.testing.assert_allclose(
      12 * rates["spikes"].reshape(16, -1).sum(axis=1), counts["count"].sum(axis=0), rtol=1e-5
    )
    tau = tcljax.thresholds(variables)[name].reshape((1,) * (rates["current"].ndim - 1) + (-1,))
    left = 12 * (rates["current"] / tau - rates["spikes"]) + 0.5
    never = np.asarray(rates["spikes"]) == 0
    assert np.all(np.asarray(left)[never] < 1 + 1e-4) and never.any()
    assert np.all(np.asarray(left)[np.asarray(rates["current"]) > tau] > 0)
  assert simulate(model, variables, images, spiking).rates is None


def test_spike_counts_add_up_to_the_rates(calibrated, images):
  # The first layer sees a constant current: its spikes are those of the closed form.
  model, variables = calibrated
  first = jax.jit(functools.partial(model.clone(act=TCL).apply, capture_intermediates=True))(
    variables, images
  )[1]
  currents = first["intermediates"]["norm1_1"]["__call__"][0]
  threshold = tcljax.thresholds(variables)["act1_1"]
  expected = tcljax.quantized_clip(currents, threshold, 10) / threshold[None, None, None] * 10
  # To rounding where a potential meets the threshold.
  spikes = run(calibrated, images, time_steps=10).observed[1]["act1_1"]["count"].sum(axis=0)
  np.testing.assert_allclose(spikes, expected.sum(axis=(1, 2, 3)), atol=2)


@pytest.mark.slow
def test_gradients_do_not_depend_on_the_chunk(calibrated, images):
  model, variables = calibrated

  def loss(clipping, chunk):
    spiking = SpikingConfig(time_steps=4, chunk=chunk)
    return jnp.square(
      simulate(model, {**variables, "clipping": clipping}, images, spiking).logits
    ).mean()

  grad = jax.jit(jax.grad(loss), static_argnums=1)
  grads = [grad(variables["clipping"], chunk) for chunk in (1, 2, 4)]
  assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(grads[0]))
  for other in grads[1:]:
    chex.assert_trees_all_close(grads[0], other, rtol=1e-3, atol=1e-5)


class Identity(nn.Module):
  """A network without neurons."""

  act: object = None

  def __call__(self, x):
    return x


def test_poisson_spikes_are_drawn_anew_at_every_step(rng):
  x = rng.uniform(-1, 1, (3, 5)).astype(np.float32)
  keys = jax.random.split(jax.random.key(0), 3)

  def mean_input(steps):
    spiking = SpikingConfig(time_steps=steps, encoding="poisson")
    return np.abs(simulate(Identity(), {"clipping": {}}, x, spiking, keys=keys).logits - x).max()

  assert mean_input(2000) < 0.06 < 0.3 < mean_input(1)


@pytest.mark.slow
def test_poisson_spikes_depend_on_the_key_alone(calibrated, images):
  model, variables = calibrated
  keys = jax.random.split(jax.random.key(1), len(images))

  def logits(rows, chunk):
    spiking = SpikingConfig(time_steps=4, chunk=chunk, encoding="poisson")
    return simulate(model, variables, images[rows], spiking, keys=keys[rows]).logits

  whole = logits(slice(0, 16), 4)
  np.testing.assert_allclose(whole[3:7], logits(slice(3, 7), 1), rtol=1e-5, atol=1e-5)
  assert not np.allclose(
    whole, simulate(model, variables, images, SpikingConfig(time_steps=4)).logits
  )
  poisson = SpikingConfig(encoding="poisson")
  with pytest.raises(ValueError, match="needs keys"):
    simulate(model, variables, images, poisson)
  with pytest.raises(ValueError, match=r"keys has shape \(9,\) and must have that of the batch of"):
    simulate(model, variables, images, poisson, keys=keys[:9])
  with pytest.raises(ValueError, match=r"keys has shape \(\) and must be \[B\]"):
    simulate(model, variables, images, poisson, keys=keys[0])


@pytest.mark.slow
@pytest.mark.compiler
def test_the_first_layers_current_is_computed_once(rng):
  """XLA moves it out of the loop over time; all other layers are in there."""
  model, x = tcljax.CNN(num_classes=10), jnp.ones((2, 8, 8, 3))
  variables = tcljax.calibrate(model, model.init(jax.random.key(0), x), [x])
  compiled = (
    jax.jit(
      lambda variables, x: (
        simulate(model, variables, x, SpikingConfig(time_steps=4, chunk=1)).logits
      )
    )
    .lower(variables, x)
    .compile()
  )
  *_, entry = compiled.as_text().partition("\nENTRY ")
  of_layer = r"/%s/jit\(\w+\)/conv_general_dilated"
  assert re.search(of_layer % "conv1_1", entry)
  assert re.search(of_layer % "conv1_2", compiled.as_text())
  assert not re.search(of_layer % "conv1_2", entry)
