"""Histograms of activations, and the thresholds read from them, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.maths import clipping
from tcljax.maths.histogram import (
  BINS,
  LIMIT,
  Histogram,
  bin_edges,
  histogram,
  least_squares_threshold,
  percentile_threshold,
)


def observed(x, per_channel=False):
  return histogram(jnp.asarray(x, jnp.float32), per_channel)


def test_bins_hold_what_their_edges_say(rng):
  edges = bin_edges()
  assert len(edges) == BINS + 1 and np.all(np.diff(edges) > 0)
  x = np.exp(rng.uniform(-10, 10, 3000)).astype(np.float32)
  counts = np.asarray(observed(x[:, None]).counts)[0]
  np.testing.assert_array_equal(counts, np.histogram(x, edges)[0])


def test_zeros_negatives_and_extremes():
  found = observed([[-3.0], [0.0], [1e-9], [1e9]])
  assert found.counts[0, 0] == 3 and found.counts[0, -1] == 1 and LIMIT < 1e9
  assert found.maximum[0] == np.float32(1e9)


def test_streaming_equals_all_at_once(rng):
  x = rng.normal(size=(40, 5, 5, 3)).astype(np.float32)
  parts = [observed(part, per_channel=True) for part in np.split(x, 4)]
  total = parts[0] + parts[1] + parts[2] + parts[3]
  whole = observed(x, per_channel=True)
  np.testing.assert_array_equal(total.counts, whole.counts)
  np.testing.assert_array_equal(total.maximum, whole.maximum)


@pytest.mark.parametrize("percentile", [50, 90, 99, 99.9])
def test_percentile_is_that_of_numpy(rng, percentile):
  x = rng.gamma(2, 1, (100_000, 2)).astype(np.float32) * np.array([1, 100], np.float32)
  x[rng.random(x.shape) < 0.3] = 0
  np.testing.assert_allclose(
    percentile_threshold(observed(x, per_channel=True), percentile),
    np.percentile(x, percentile, axis=0),
    rtol=4e-3,
  )
  np.testing.assert_allclose(
    percentile_threshold(observed(x), percentile)[0], np.percentile(x, percentile), rtol=4e-3
  )


@pytest.mark.parametrize("percentile", [0, 100, -1, 101, float("nan")])
def test_percentile_out_of_range(percentile):
  with pytest.raises(ValueError, match="must lie strictly between 0 and 100"):
    percentile_threshold(observed([[1.0]]), percentile)


@pytest.mark.parametrize("v_init", [0.0, 0.5])
@pytest.mark.parametrize("steps", [1, 4, 16, 64])
def test_least_squares_is_the_best_of_a_fine_search(rng, steps, v_init):
  x = np.maximum(rng.normal(0, 1, (20_000, 1)), 0).astype(np.float32)

  def error(tau):
    return np.mean((x - np.asarray(clipping.quantized_clip(x, tau, steps, v_init))) ** 2)

  found = least_squares_threshold(observed(x), steps, v_init)[0]
  best = min(error(tau) for tau in np.linspace(0.05, x.max(), 400))
  assert error(found) <= 1.03 * best  # bins are 0.8 % wide, candidates 3 % apart


def test_layers_of_equally_many_channels_are_compiled_once(rng, monkeypatch):
  traced, clip = [], clipping.quantized_clip
  monkeypatch.setattr(clipping, "quantized_clip", lambda *of: traced.append(of) or clip(*of))
  x = np.maximum(rng.normal(size=(500, 7)), 0).astype(np.float32)
  small = least_squares_threshold(observed(x, per_channel=True), 5, 0.375)
  once = len(traced)
  large = least_squares_threshold(observed(4 * x, per_channel=True), 5, 0.375)
  assert len(traced) == once > 0
  np.testing.assert_allclose(large, 4 * small)


def test_fewer_steps_want_lower_thresholds(rng):
  x = observed(np.maximum(rng.normal(0, 1, (20_000, 1)), 0))
  found = [least_squares_threshold(x, steps)[0] for steps in (2, 8, 32, 128)]
  assert found == sorted(found) and found[0] < 0.8 * found[-1]


def test_dead_channels_have_no_threshold():
  x = np.zeros((50, 2), np.float32)
  x[:, 1] = np.linspace(0, 1, 50)
  found = observed(x, per_channel=True)
  assert percentile_threshold(found, 99)[0] == 0 == least_squares_threshold(found, 4)[0]
  assert percentile_threshold(found, 99)[1] > 0.9


def test_counts_survive_beyond_32_bits():
  many = Histogram(np.full((1, BINS), 2**40, np.int64), np.array([2.0**20]))
  assert 0 < percentile_threshold(many, 50)[0] < 2**20


def test_arrays_that_do_not_belong_together_are_told():
  with pytest.raises(ValueError, match=r"x has shape \(\) and must be \[\.\.\., C\]"):
    histogram(jnp.ones(()), per_channel=False)
  two_for_three = Histogram(np.ones((3, BINS), np.int64), np.ones(2))
  few_bins = Histogram(np.ones((2, 5), np.int64), np.ones(2))
  for find in (lambda h: percentile_threshold(h, 99), lambda h: least_squares_threshold(h, 4)):
    with pytest.raises(
      ValueError, match=r"maximum has shape \(2,\) and must have that of the rows"
    ):
      find(two_for_three)
    with pytest.raises(
      ValueError, match=r"counts has shape \(2, 5\) and must have that of maximum"
    ):
      find(few_bins)
