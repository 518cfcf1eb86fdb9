"""Maxima of windows and the gate of spikes, against loops in NumPy and by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.maths.max_pooling import MaxPool, max_pool, running_maximum


@pytest.mark.parametrize(
  "pool, sizes, strides, padding",
  [
    (MaxPool(1), (1, 1), (1, 1), [(0, 0), (0, 0)]),
    (MaxPool(2), (2, 2), (2, 2), [(0, 0), (0, 0)]),
    (MaxPool(3), (3, 3), (3, 3), [(0, 0), (0, 0)]),
    (MaxPool(3, 2, 1), (3, 3), (2, 2), [(1, 1), (1, 1)]),
    (MaxPool(2, stride=1), (2, 2), (1, 1), [(0, 0), (0, 0)]),
    (MaxPool(4, padding=3), (4, 4), (4, 4), [(3, 3), (3, 3)]),
    (MaxPool((3, 2)), (3, 2), (3, 2), [(0, 0), (0, 0)]),
    (MaxPool((7, 1), (1, 4)), (7, 1), (1, 4), [(0, 0), (0, 0)]),
    (MaxPool(3, (1, 2), (1, 2)), (3, 3), (1, 2), [(1, 1), (2, 2)]),
    (MaxPool((2, 4), 2, ((0, 1), (3, 1))), (2, 4), (2, 2), [(0, 1), (3, 1)]),
    (MaxPool([2, 3], padding=[1, [0, 2]]), (2, 3), (2, 3), [(1, 1), (0, 2)]),
    (MaxPool((3, 4), (2, 3), "SAME"), (3, 4), (2, 3), [(1, 1), (0, 1)]),
    (MaxPool((2, 3), padding="SAME"), (2, 3), (2, 3), [(0, 1), (0, 0)]),
  ],
  ids=str,
)
def test_maxima_of_windows(rng, pool, sizes, strides, padding):
  x = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
  padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=-np.inf)
  rows, columns = (
    (n - size) // stride + 1 for n, size, stride in zip(padded.shape[1:3], sizes, strides)
  )
  expected = np.empty((2, rows, columns, 3), np.float32)
  for i in range(rows):
    for j in range(columns):
      top, left = i * strides[0], j * strides[1]
      window = padded[:, top : top + sizes[0], left : left + sizes[1]]
      expected[:, i, j] = window.max(axis=(1, 2))
  np.testing.assert_array_equal(jax.jit(max_pool, static_argnums=1)(x, pool), expected)


def test_other_numbers_of_axes(rng):
  x = rng.normal(size=(2, 7, 3)).astype(np.float32)
  for pool in (MaxPool(2), MaxPool((2,))):
    np.testing.assert_array_equal(max_pool(x, pool), np.maximum(x[:, 0:6:2], x[:, 1:6:2]))
  assert max_pool(np.zeros((1, 5, 6, 7, 2)), MaxPool((1, 2, 3))).shape == (1, 5, 3, 2, 2)


@pytest.mark.parametrize("window, stride", [(1, 3), (2, 2), (3, 2), (5, 1), (7, 5)])
def test_same_is_what_flax_pads(rng, window, stride):
  pool = MaxPool(window, stride, "SAME")
  assert (pool.window, pool.stride, pool.padding) == (window, stride, "SAME")
  for pixels in (1, 6, 7, 12):
    x = rng.normal(size=(1, pixels, 2)).astype(np.float32)
    expected = nn.max_pool(x, (window,), (stride,), "SAME")
    np.testing.assert_array_equal(max_pool(x, pool), expected)
  assert MaxPool(3, 2, "SAME").along((12, 12)) == ((3, 3), (2, 2), ((0, 1), (0, 1)))


def window_of_two(a, b):
  """Spikes [K, 1, 2, 1] of two neurons that share a window."""
  return jnp.asarray([a, b], jnp.float32).T[:, None, :, None]


def test_the_gate_by_hand():
  # Counts: 1 1 2 3 and 0 1 2 2. The second neuron draws level with its first two spikes, at steps
  # 2 and 3; what passes are the spikes that raise the maximum, 1 1 2 3.
  spikes = window_of_two([1, 0, 1, 1], [0, 1, 1, 0])
  passed, counts = running_maximum(spikes, jnp.zeros((1, 2, 1)), MaxPool(2))
  np.testing.assert_array_equal(passed.ravel(), [1, 0, 1, 1])
  np.testing.assert_array_equal(counts.ravel(), [3, 2])
  # The lead changes: a neuron that was behind passes nothing until it is ahead.
  passed, _ = running_maximum(
    window_of_two([0, 0, 0], [1, 1, 1]), jnp.asarray([2.0, 0])[None, :, None], MaxPool(2)
  )
  np.testing.assert_array_equal(passed.ravel(), [0, 0, 1])


def test_the_gradient_of_the_gate_by_hand():
  def total(spikes, weights):
    return (weights * running_maximum(spikes, jnp.zeros((1, 2, 1)), MaxPool(2))[0].ravel()).sum()

  found = jax.grad(total)(window_of_two([1, 0, 1, 1], [0, 1, 1, 0]), jnp.ones(4))
  # All spikes that pass together are the count of the winner.
  np.testing.assert_array_equal(found[:, 0, :, 0], [[1, 0]] * 4)
  found = jax.grad(total)(window_of_two([1, 0], [0, 1]), jnp.asarray([0.0, 1.0]))
  # What passes in step 2 is the maximum then, which both share, less that before, the first's.
  np.testing.assert_array_equal(found[:, 0, :, 0], [[0.5 - 1.0, 0.5], [0.5, 0.5]])


def test_of_currents_the_largest_sum_passes(rng):
  # Two currents that take turns: the maximum of each step is 1, that of their means is 1/2.
  currents = window_of_two([1, 0, 1, 0], [0, 1, 0, 1])
  passed, sums = running_maximum(currents, jnp.zeros((1, 2, 1)), MaxPool(2, of="currents"))
  np.testing.assert_array_equal(passed.ravel(), [1, 0, 1, 0])
  np.testing.assert_array_equal(sums.ravel(), [2, 2])
  # Of either sign, and in parts of any length to the bit.
  currents = jnp.asarray(rng.normal(size=(12, 2, 6, 6, 3)), jnp.float32)
  none = jnp.zeros(currents.shape[1:])
  passed, sums = running_maximum(currents, none, MaxPool(2))
  np.testing.assert_allclose(passed.sum(0), max_pool(currents.sum(0), MaxPool(2)), atol=1e-5)
  first, carried = running_maximum(currents[:5], none, MaxPool(2))
  second, after = running_maximum(currents[5:], carried, MaxPool(2))
  np.testing.assert_array_equal(jnp.concatenate([first, second]), passed)
  np.testing.assert_array_equal(after, sums)


@pytest.mark.parametrize(
  "pool",
  [MaxPool(2), MaxPool(3, 2, 1), MaxPool((3, 2), 2, "SAME")],
  ids=str,
)
def test_as_many_spikes_pass_as_the_most_active_neuron_fired(rng, pool):
  spikes = jnp.asarray(rng.integers(0, 2, (12, 2, 6, 6, 3)), jnp.float32)
  none = jnp.zeros(spikes.shape[1:])
  passed, counts = running_maximum(spikes, none, pool)
  assert set(np.unique(passed)) == {0, 1}
  for t in range(12):
    np.testing.assert_array_equal(
      passed[: t + 1].sum(axis=0), max_pool(spikes[: t + 1].sum(axis=0), pool)
    )
  first, carried = running_maximum(spikes[:5], none, pool)
  second, after = running_maximum(spikes[5:], carried, pool)
  np.testing.assert_array_equal(jnp.concatenate([first, second]), passed)
  np.testing.assert_array_equal(after, counts)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"window": 0}, "window=0 and stride=0 must be at least 1"),
    ({"window": 2, "stride": -1}, "stride=-1 must be at least 1"),
    ({"window": 2.0}, "window=2.0 must be an integer"),
    ({"window": 2, "padding": 2}, "padding=2 must be at least 0 and below window=2"),
    ({"window": 2, "padding": -1}, "padding=-1 must be at least 0"),
    ({"window": True}, "window=True must be an integer, or a tuple of one integer an axis"),
    ({"window": (2, None)}, r"window=\(2, None\) must be an integer, or a tuple of one integer an"),
    ({"window": ()}, r"window=\(\) and stride=\(\) must be at least 1"),
    ({"window": (2, 0), "stride": 1}, r"window=\(2, 0\) and stride=1 must be at least 1"),
    ({"window": (2, 3), "padding": 2}, r"padding=2 must be at least 0 and below window=\(2, 3\)"),
    (
      {"window": 2, "padding": (1, (0, 2))},
      r"padding=\(1, \(0, 2\)\) must be at least 0 and below",
    ),
    ({"window": 2, "padding": ((0, -1),)}, r"padding=\(\(0, -1\),\) must be at least 0 and below"),
    (
      {"window": 2, "padding": ((0, 1, 1),)},
      r"padding=\(\(0, 1, 1\),\) must be .* pair \(low, high",
    ),
    ({"window": 2, "padding": "VALID"}, "padding='VALID' must be an integer, .* or 'SAME'; 0 is n"),
    ({"window": 2, "padding": 0.5}, "padding=0.5 must be an integer, a tuple"),
    (
      {"window": (2, 2), "stride": (1,)},
      r"stride=\(1,\) and padding=0 must have one entry an axis",
    ),
    ({"window": 2, "of": "pixels"}, "MaxPool: of='pixels' is unknown: choose one of spikes, curr"),
  ],
)
def test_bad_windows(fields, message):
  with pytest.raises(ValueError, match=message):
    MaxPool(**fields)


def test_what_windows_do_not_fit_into():
  with pytest.raises(
    ValueError, match=r"x has shape \(3, 4\) and must be images .* for MaxPool\(w"
  ):
    max_pool(jnp.ones((3, 4)), MaxPool(2))
  with pytest.raises(ValueError, match="does not fit into images of 4x2 pixels: enlarge"):
    max_pool(jnp.ones((1, 4, 2, 3)), MaxPool(3))
  with pytest.raises(ValueError, match="does not fit into images of 4x2 pixels: enlarge"):
    max_pool(jnp.ones((1, 4, 2, 3)), MaxPool((1, 4), 1, (0, (0, 1))))
  for pool in (MaxPool((2, 2, 2)), MaxPool(2, (1, 1, 1), "SAME"), MaxPool(2, 1, (1, 0, 1))):
    with pytest.raises(ValueError, match="images of 4x2 pixels: its tuples must have 2 entries"):
      max_pool(jnp.ones((1, 4, 2, 3)), pool)
  with pytest.raises(ValueError, match=r"x has shape \(4, 2, 1\) and must be \[K, B, H, W, C\]"):
    running_maximum(jnp.ones((4, 2, 1)), jnp.ones((2, 1)), MaxPool(2))
  with pytest.raises(ValueError, match=r"sums has shape \(2, 1\) and must have that of one step"):
    running_maximum(jnp.ones((4, 1, 2, 1)), jnp.ones((2, 1)), MaxPool(2))
