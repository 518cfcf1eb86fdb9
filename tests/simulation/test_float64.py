"""Where JAX has float64: networks compute in float32 all the same, and answer as they did."""

import contextlib

import jax
import numpy as np
import pytest

import tcljax
from tcljax import Neuron

NEURONS = {
  "binary": Neuron(),
  "hard": Neuron(reset="hard"),
  "burst": Neuron(burst=3),
  "signed": Neuron(signed=True),
  "phase": Neuron(phase=2),
}


@pytest.fixture(scope="module")
def made():
  model = tcljax.CNN(num_classes=3, stages=((4,),), dense=())
  images = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype(np.float32)
  return model, jax.jit(model.init)(jax.random.key(1), images), images


def in_both(run):
  """What it gives without float64, and with it."""
  found = []
  for enabled in (False, True):
    with jax.enable_x64(enabled) if enabled else contextlib.nullcontext():
      found.append(run())
  return found


@pytest.mark.parametrize("name", NEURONS)
def test_spiking_networks_answer_alike(made, name):
  model, variables, images = made
  spiking = tcljax.SpikingConfig(time_steps=4, neuron=NEURONS[name])

  def answer():
    held = tcljax.calibrate(model, variables, [images], spiking)
    network = tcljax.convert(model, held, images.shape[1:], spiking)
    logits = network(images)
    assert logits.dtype == np.float32
    assert network(images.astype(np.float64)).dtype == np.float32
    return np.asarray(logits)

  without, with_it = in_both(answer)
  np.testing.assert_allclose(with_it, without, rtol=1e-5, atol=1e-6)


def test_all_that_is_asked_of_a_network_is_the_same(made):
  model, variables, images = made
  spiking, labels = tcljax.SpikingConfig(time_steps=8), np.arange(8) % 3

  def ask():
    held = tcljax.calibrate(model, variables, [images], spiking, method="delivered")
    held = tcljax.tune(model, held, images, None, spiking, steps=2, batch_size=8)
    network = tcljax.convert(model, held, images.shape[1:], spiking)
    margin = tcljax.choose_margin(network, [images], changed=0.5)
    return {
      "accuracy": list(tcljax.evaluate(model, held, images, labels, spiking).snn),
      "errors": [of.total for of in tcljax.diagnose(model, held, images, spiking).values()],
      "delay": tcljax.choose_delay(model, held, [images], spiking).delay,
      "costs": np.asarray(tcljax.costs(network, images).synaptic_operations),
      "early": [np.asarray(a) for a in tcljax.answer_early(network, images, margin)],
    }

  without, with_it = in_both(ask)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), without, with_it)


@pytest.mark.parametrize("encoding", ["poisson", "frames"])
def test_other_encodings_run(made, encoding):
  model, variables, images = made
  spiking = tcljax.SpikingConfig(time_steps=4, encoding=encoding)
  x = np.stack([images] * 4) if encoding == "frames" else images
  keys = jax.random.split(jax.random.key(2), 8) if encoding == "poisson" else None
  with jax.enable_x64(True):
    held = tcljax.calibrate(model, variables, [x], spiking)
    network = tcljax.convert(model, held, images.shape[1:], spiking)
    assert network(x, keys=keys).dtype == np.float32
