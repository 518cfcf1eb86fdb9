"""Samples of neurons for which thresholds are tried, and how far what is tried reaches."""

import numpy as np
import pytest

from tcljax.maths.neurons import integrate
from tcljax.maths.spikes import Neuron
from tcljax.training.candidates import candidates, sample, squared_errors


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


@pytest.mark.parametrize(
  ("time_steps", "phase", "ends"), [(16, 1, (4, 8, 12, 16)), (12, 4, (4, 8, 12)), (1, 1, (1,))]
)
def test_errors_on_the_way_count_less(time_steps, phase, ends):
  """At quarters, or ends of periods; each neuron as often as it stands for others."""
  random, neuron = np.random.default_rng(0), Neuron(phase=phase)
  currents = random.normal(0.4, 1, size=(time_steps, 5, 1)).astype(np.float32)
  wanted = random.uniform(0, 1, size=(5, 1)).astype(np.float32)
  stand_for = np.float32([[1], [2], [3], [40], [0.5]])
  parts = random.uniform(0, 0.5, size=(1, time_steps)).astype(np.float32)
  (found,) = squared_errors(
    currents, wanted, stand_for, np.float32([[0.75]]), parts, neuron
  ).tolist()
  v, said, squares = np.zeros(5), np.zeros(5), []
  for step in range(time_steps):
    height = 0.75 * neuron.heights[step % phase]
    v = v + currents[step, :, 0] + 0.75 * parts[0, step]
    spikes = v >= height
    v, said = v - spikes * height, said + spikes * height
    if step + 1 in ends:
      off = (said - (step + 1) * wanted[:, 0]) / time_steps
      squares.append((stand_for[:, 0] * np.square(off)).sum())
  on_the_way = 0.3 * np.mean(squares[:-1]) if squares[:-1] else 0
  np.testing.assert_allclose(found, [squares[-1] + on_the_way], rtol=1e-5)


def test_errors_of_neurons_that_take_spikes_back():
  """In the end the error is that of `integrate`, which counts what has been sent."""
  rng = np.random.default_rng(0)
  currents = rng.normal(size=(1, 40, 3)).astype(np.float32).repeat(3, axis=0) * [
    [[1]],
    [[-1]],
    [[1]],
  ]
  currents, neuron = np.asarray(currents, np.float32), Neuron(signed=True)
  zeros, height, ones = np.zeros((40, 3), np.float32), np.full(3, 0.4, np.float32), np.ones((40, 3))
  found = squared_errors(currents, zeros, ones, height[None], np.zeros((1, 3), np.float32), neuron)
  spikes, _ = integrate(currents, zeros, height[None], neuron)
  said = np.cumsum(spikes, axis=0) * 0.4 / 3
  weights = np.array([0.15, 0.15, 1.0])[:, None, None]  # on the way, and in the end
  np.testing.assert_allclose(found[0], (weights * said**2).sum(axis=(0, 1)), rtol=1e-4)
