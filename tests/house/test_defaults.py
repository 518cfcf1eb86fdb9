"""The library does by default what the configs do."""

import inspect

import pytest

import tcljax
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
  assert defaults(tcljax.calibrate) == {
    "spiking": config.snn.spiking(),
    "method": tune.calibration,
    "percentile": tune.percentile,
    "per_channel": tune.per_channel,
    "v_init": tune.v_init,
    "instalments": tune.instalments,
  }


def test_tuning(config):
  fields = ("steps", "minutes", "batch_size", "optimizer", "objective", "at")
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
