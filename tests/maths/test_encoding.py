"""Images as random spikes."""

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.maths import encoding


def test_poisson_input_is_the_image_on_average():
  x = jnp.array([[-1.0, 0.25, 0.5, 0.0]])
  keys = jax.random.split(jax.random.key(0), 20_000)
  frames = jax.vmap(lambda key: encoding.poisson_spikes(key, x))(keys)
  assert set(np.unique(frames)) <= {-1.0, 0.0, 1.0}
  np.testing.assert_allclose(frames.mean(axis=0), x, atol=0.02)
