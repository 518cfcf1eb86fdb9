"""The clip and the quantized clip by hand, their gradients, and the softplus of thresholds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.maths import clipping


def test_softplus_and_its_inverse():
  tau = jnp.array([1e-4, 0.1, 1.0, 5.0, 50.0, 500.0])
  np.testing.assert_allclose(
    clipping.threshold_from_raw(clipping.raw_from_threshold(tau)), tau, rtol=1e-5
  )
  np.testing.assert_allclose(clipping.threshold_from_raw(0.0), np.log(2), rtol=1e-6)
  assert np.all(clipping.threshold_from_raw(jnp.array([-80.0, -10.0, 10.0])) > 0)


def test_clip_values_and_gradients_by_hand():
  x = jnp.array([[-1.0, 0.5, 2.0, 3.0]])

  def loss(x, tau):
    return (clipping.clip(x, tau) * jnp.array([[1.0, 10.0, 100.0, 1000.0]])).sum()

  np.testing.assert_array_equal(clipping.clip(x, 2.0), [[0, 0.5, 2, 2]])
  to_x, to_tau = jax.grad(loss, argnums=(0, 1))(x, 2.0)
  np.testing.assert_array_equal(to_x, [[0, 10, 0, 0]])
  assert to_tau == 1100.0  # x = tau counts as clipped


def test_a_bound_holds_and_a_threshold_beyond_it_can_come_back():
  tau = jnp.array([0.5, 6.0, 6.5, 1e30])
  np.testing.assert_array_equal(clipping.bounded(tau, 6.0), [0.5, 6, 6, 6])
  np.testing.assert_array_equal(clipping.bounded(tau, None), tau)
  weights = jnp.array([1.0, 10.0, 100.0, 1000.0])
  to_tau = jax.grad(lambda tau: (weights * clipping.bounded(tau, 6.0)).sum())(tau)
  np.testing.assert_array_equal(to_tau, weights)


def test_integers_are_not_clipped_to_integers():
  np.testing.assert_array_equal(clipping.clip(jnp.array([1, 3]), 1.5), [1, 1.5])
  np.testing.assert_array_equal(clipping.quantized_clip(np.array([1, 3]), 1.5, 1), [1.5, 1.5])


def test_the_quantized_clip_counts_in_float32():
  x = np.array([0.25, 0.5, 0.75])
  for dtype in (jnp.bfloat16, jnp.float16):
    found = clipping.quantized_clip(jnp.asarray(x, dtype), 1.0, 10_001)
    assert found.dtype == dtype
    # 0.5 * 10001 + 0.5 is 5001 spikes; in bfloat16 it would be some multiple of 32
    wide = clipping.quantized_clip(jnp.asarray(x, dtype), jnp.float32(1.0), 10_001)
    np.testing.assert_allclose(wide * 10_001, [2500, 5001, 7501], rtol=1e-6)
  large = clipping.quantized_clip(np.array([300_000]), 1e6, 10_000)  # beyond int32
  np.testing.assert_allclose(large, 300_000)


def test_clip_per_channel():
  x = jnp.full((2, 3, 3, 2), 5.0)
  tau = jnp.array([1.0, 7.0])
  np.testing.assert_array_equal(clipping.clip(x, tau)[1, 2, 2], [1, 5])
  to_tau = jax.grad(lambda tau: clipping.clip(x, tau).sum())(tau)
  np.testing.assert_array_equal(to_tau, [18, 0])


def test_quantized_clip_by_hand():
  # T = 4, tau = 2: levels 0, 0.5, 1, 1.5, 2, rounded to nearest with v_init = 1/2
  x = jnp.array([[-1.0, 0.2, 0.3, 0.74, 0.76, 1.9, 9.0]])
  np.testing.assert_array_equal(clipping.quantized_clip(x, 2.0, 4), [[0, 0, 0.5, 0.5, 1, 2, 2]])
  np.testing.assert_array_equal(
    clipping.quantized_clip(x, 2.0, 4, v_init=0.0), [[0, 0, 0, 0.5, 0.5, 1.5, 2]]
  )


def test_gradient_of_the_quantized_clip_by_hand():
  """Straight through `floor`; T = 4, tau = 2, v_init = 1/2: a current of 1/2 is one step."""
  x = np.array([-0.5, -0.1, 0.3, 0.9, 1.7, 1.8, 3.0], np.float32)
  value = clipping.quantized_clip(x, 2.0, 4)
  np.testing.assert_array_equal(value, [0, 0, 0.5, 1.0, 1.5, 2, 2])
  slope = jax.vmap(jax.grad(lambda x: clipping.quantized_clip(x, 2.0, 4)))(x)
  np.testing.assert_array_equal(slope, [0, 1, 1, 1, 1, 0, 0])
  to_tau = jax.vmap(jax.grad(lambda tau, x: clipping.quantized_clip(x, tau, 4)), (None, 0))(2.0, x)
  # Below the clip nothing, above it 1, between (quantized - x) / tau
  np.testing.assert_allclose(to_tau, [0, 0.05, 0.1, 0.05, -0.1, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda x: clipping.clip(x, jnp.ones(3)),
      r"threshold has shape \(3,\) and must be a scalar or \(4,\), one value a channel",
    ),
    (
      lambda x: clipping.clip(x, jnp.ones((2, 4))),
      r"threshold has shape \(2, 4\) and must be a sc",
    ),
    (
      lambda x: clipping.clip(x[0, 0], jnp.ones(4)),
      r"threshold has shape \(4,\) and must be a scalar",
    ),
    (
      lambda x: clipping.quantized_clip(x, jnp.ones(1), 4),
      r"threshold has shape \(1,\) and must be",
    ),
    (
      lambda x: clipping.quantized_clip(x, 1.0, 4, jnp.ones((8, 4))),
      r"v_init has shape \(8, 4\) and must be a scalar or \(4,\)",
    ),
    (
      lambda x: clipping.per_channel_view(jnp.ones((2, 3)), 4),
      r"threshold has shape \(2, 3\) and must be a scalar or",
    ),
    (
      lambda x: clipping.instalments(1.0, x[0]),
      r"v_init has shape \(\) and must have that of threshold, \(4,\)",
    ),
    (
      lambda x: clipping.instalments(jnp.ones((8, 3)), x[0]),
      r"v_init has shape \(8, 3\) and must have that of threshold after its first axis, \(8, 4\)",
    ),
  ],
)
def test_shapes_that_do_not_fit_are_told(call, message):
  x = jnp.ones((2, 4))
  for run in (call, lambda x: jax.eval_shape(call, x)):
    with pytest.raises(ValueError, match=message):
      run(x)
