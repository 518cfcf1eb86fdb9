"""Samples of neurons for which thresholds are tried, and how far what is tried reaches."""

import numpy as np
import pytest

from tcljax.training.candidates import candidates, sample


@pytest.fixture
def activations():
  """Of two channels: nearly all small, and a few that are a thousand times as large."""
  random = np.random.default_rng(0)
  found = random.exponential(size=(20_000, 2)).astype(np.float32)
  found[random.permutation(20_000)[:20]] *= 1000
  return found


def test_a_sample_stands_for_all_neurons(activations):
  """What low thresholds would clip away, and what small activations would lose by rounding."""
  neurons, stand_for = sample(activations, 256, np.random.default_rng(1))
  assert neurons.shape == stand_for.shape == (256, 2)
  taken = np.take_along_axis(activations, neurons, axis=0)
  for threshold in (2.0, 50.0, 500.0):
    clipped = np.square(np.maximum(activations - threshold, 0)).sum(axis=0)
    estimate = (stand_for * np.square(np.maximum(taken - threshold, 0))).sum(axis=0)
    np.testing.assert_allclose(estimate, clipped, rtol=0.05)
  small, few = activations < 2, taken < 2
  np.testing.assert_allclose((stand_for * few).sum(axis=0), small.sum(axis=0), rtol=0.1)


def test_the_largest_are_in_a_sample(activations):
  """Every one of a share of 0.1 %, of which 256 neurons drawn evenly would have none or one."""
  neurons, _ = sample(activations, 256, np.random.default_rng(1))
  for channel in range(2):
    rare = np.flatnonzero(activations[:, channel] > 400)
    assert len(rare) > 5
    assert set(rare) <= set(neurons[:, channel])


def test_a_channel_that_is_never_active_has_a_sample():
  neurons, stand_for = sample(np.zeros((500, 1), np.float32), 100, np.random.default_rng(0))
  assert len(np.unique(neurons)) == 100
  np.testing.assert_allclose(stand_for, 5.0)


def test_few_neurons_are_all_taken():
  neurons, stand_for = sample(np.ones((7, 3), np.float32), 7, np.random.default_rng(0))
  np.testing.assert_array_equal(neurons, np.arange(7)[:, None].repeat(3, axis=1))
  np.testing.assert_array_equal(stand_for, 1.0)


@pytest.mark.parametrize(
  ("time_steps", "instalments", "waits"),
  [(1, 8, []), (2, 8, [1]), (8, 8, [2, 4]), (64, 33, [16, 32]), (64, 8, [7]), (64, 1, [])],
)
def test_potential_is_held_back(time_steps, instalments, waits):
  """Until a quarter or half of the steps, or the last part; all of it is there in the end."""
  factors, parts = candidates(time_steps, instalments)
  assert parts.shape == (len(factors), instalments)
  assert sorted(np.flatnonzero(np.abs(parts[:, 1:]).sum(axis=0)) + 1) == waits
  assert factors[0] == 1.0
  np.testing.assert_array_equal(parts[0], [0.5] + (instalments - 1) * [0.0])
  whole = np.unique(parts.sum(axis=1).round(3))
  assert {0.0, 0.25, 0.5, 0.75, 1.0} <= set(whole)
  reach = max(1.0, (time_steps / 8) ** 0.5)
  np.testing.assert_allclose([whole[0], whole[-1]], [0.5 - reach, 0.5 + reach], atol=1e-3)
