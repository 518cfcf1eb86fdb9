"""The library does by default what the configs do."""

import inspect

import jax
import numpy as np
import pytest

import tcljax
from tcljax.layers.collections import thresholds_by_path
from tcljax.runs.config_forms import base_config, parse


def defaults(function):
  """Of the arguments that have one, but for functions, which no config holds."""
  found = {name: p.default for name, p in inspect.signature(function).parameters.items()}
  return {
    name: default
    for name, default in found.items()
    if default is not inspect.Parameter.empty and not callable(default)
  }


@pytest.fixture
def config():
  return parse(base_config())


def test_calibration(config):
  tune = config.tune
  model, images = tcljax.CNN(num_classes=2, stages=((3,),), dense=()), np.ones((2, 4, 4, 1))
  variables = tcljax.calibrate(model, model.init(jax.random.key(0), images), [images])
  (found,) = thresholds_by_path(variables).values()
  assert found.v_init.shape == (8, 3)
  assert defaults(tcljax.calibrate) == {
    "spiking": config.snn.spiking(),
    "method": tune.calibration,
    "percentile": tune.percentile,
    "per_channel": tune.per_channel,
    "v_init": tune.v_init,
    "instalments": tune.instalments,
  }


def test_tuning(config):
  fields = ("steps", "minutes", "batch_size", "accumulate", "optimizer", "objective", "at")
  # Configs are of classes alone, and have labels.
  assert defaults(tcljax.tune) == {
    "labels": None,
    "outputs": "classes",
    "spiking": config.snn.spiking(),
    "seed": config.seed,
    **{field: getattr(config.tune, field) for field in fields},
  }


def test_simulation(config):
  assert tcljax.SpikingConfig() == config.snn.spiking()
  neuron = tcljax.Neuron()
  assert (neuron.reset, neuron.surrogate, neuron.width) == (
    config.snn.reset,
    config.snn.surrogate,
    config.snn.width,
  )
  assert defaults(tcljax.convert) == {"spiking": config.snn.spiking()}


def test_evaluation(config):
  assert defaults(tcljax.evaluate) == {
    "outputs": "classes",
    "batch_size": config.eval.batch_size,
    "reference": None,
    "seed": config.seed,
  }
  assert defaults(tcljax.diagnose) == {"batch_size": config.eval.batch_size}
