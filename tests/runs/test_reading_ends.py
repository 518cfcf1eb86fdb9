"""What reads images for a run ends with what it reads them for, also where this fails."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from tcljax.data import Split, first_examples
from tcljax.runs import calibration


class Read(Split):
  """Keeps what reads it, so that nothing is ended by being forgotten."""

  def take(self, positions):
    return self

  def evaluation(self, parts):
    object.__setattr__(self, "reading", super().evaluation(parts))
    return self.reading

  def has_ended(self):
    return inspect.getgeneratorstate(self.reading) == inspect.GEN_CLOSED


@pytest.fixture
def split():
  return Read(np.arange(300.0)[:, None], np.arange(300))


def test_of_the_first_examples(split):
  assert first_examples(split, 3)["label"].tolist() == [0, 1, 2]
  assert split.has_ended()


def fails(model, variables, batches, *_, **__):
  assert next(iter(batches)).shape == (128, 1)
  raise ValueError("no thresholds")


def test_of_calibration_and_of_the_delay(split, monkeypatch):
  experiment = SimpleNamespace(
    dataset=SimpleNamespace(train=split),
    model=None,
    preprocess=lambda images: images,
    seed=0,
    snn=SimpleNamespace(encoding="constant"),
    spiking=None,
    tune=SimpleNamespace(images=300, percentile=99.0),
  )
  monkeypatch.setattr(calibration, "calibrate", fails)
  monkeypatch.setattr(calibration, "choose_delay", fails)
  for run in (
    lambda: calibration.calibrate_by("maximum", experiment, {}, False, 0.0),
    lambda: calibration.settled(experiment, {}),
  ):
    with pytest.raises(ValueError, match="no thresholds"):
      run()
    assert split.has_ended()
