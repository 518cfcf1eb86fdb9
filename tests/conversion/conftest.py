"""A converted network with settings that are not the defaults."""

import pytest
from running import calibrate_plainly

import tcljax


@pytest.fixture(scope="module")
def network(vgg, images):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images, per_channel=True, percentile=99)
  spiking = tcljax.SpikingConfig(time_steps=6, neuron=tcljax.Neuron(reset="hard", width=0.5))
  return tcljax.convert(model, variables, (8, 8, 3), spiking, name="test")
