"""A portrait says what `diagnose`, `thresholds` and the network itself say of the same images."""

import jax
import numpy as np
import pytest

import tcljax
from tcljax.data import Split
from tcljax.evaluation import portrait as portraits
from tcljax.evaluation.diagnosis import Diagnosis
from tcljax.models import VGG


@pytest.fixture(scope="module")
def images():
  return np.random.default_rng(0).normal(size=(6, 4, 4, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def network(images):
  model = VGG(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
  variables = model.init(jax.random.key(0), images)
  variables = tcljax.calibrate(model, variables, [images], tcljax.SpikingConfig(5))
  return tcljax.convert(model, variables, (4, 4, 1), tcljax.SpikingConfig(5))


def unchanged(images):
  assert isinstance(images, jax.core.Tracer)  # what makes inputs is compiled too
  return images


def test_it_is_the_diagnosis_and_the_answers(network, images, monkeypatch):
  monkeypatch.setattr(portraits, "_NEURONS", 2 * 64)  # two images at a time
  monkeypatch.setattr(portraits, "_POINTS", 100)
  found = portraits.portrait(network, Split(images), unchanged)
  assert (found.images, found.time_steps, found.neurons) == (6, 5, {"act1_1": 64})
  diagnosed = tcljax.diagnose(network.model, network.variables, images, network.spiking)
  for part in Diagnosis.__dataclass_fields__:
    expected = getattr(diagnosed["act1_1"], part)
    np.testing.assert_allclose(getattr(found.diagnosis["act1_1"], part), expected, rtol=1e-4)
  np.testing.assert_allclose(found.answers[-1], network(images), rtol=1e-5, atol=1e-6)
  assert found.answers.shape == (5, 6, 3)
  rates = found.rates["act1_1"]
  assert 100 <= len(rates) < 250 and len(found.activations["act1_1"]) == len(rates)
  # Spikes carry the activation, to one level and what is cut off.
  kept = np.clip(found.activations["act1_1"], 0, 1)
  assert np.abs(kept - rates).max() < 0.5 and np.corrcoef(kept, rates)[0, 1] > 0.95
  simulated = tcljax.simulate(network.model, network.variables, images, network.spiking, rates=True)
  expected = np.asarray(simulated.rates["act1_1"]["spikes"]).mean(axis=0).ravel()
  np.testing.assert_allclose(found.neuron_rates["act1_1"], expected, rtol=1e-5)


def test_without_images_there_is_none(network, images):
  with pytest.raises(ValueError, match="there are no images to look at"):
    portraits.portrait(network, Split(images[:0]), unchanged)
