"""A small network with thresholds, and images and labels to train it on."""

import numpy as np
import pytest
from running import calibrate_plainly


@pytest.fixture(scope="module")
def case(vgg):
  model, variables = vgg
  rng = np.random.default_rng(4)
  images = rng.normal(size=(64, 8, 8, 3)).astype(np.float32)
  labels = rng.integers(0, 10, 64).astype(np.int32)
  return model, calibrate_plainly(model, variables, images, percentile=99), images, labels
