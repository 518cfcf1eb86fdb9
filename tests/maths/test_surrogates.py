"""The derivatives that stand for a spike's."""

import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.maths import surrogates


@pytest.mark.parametrize("surrogate", surrogates.SURROGATES)
def test_surrogates_integrate_to_one_and_are_even(surrogate):
  u = np.linspace(-4000, 4000, 4_000_001)
  h = np.asarray(surrogates.surrogate_derivative(jnp.asarray(u, jnp.float32), surrogate, 0.7))
  np.testing.assert_allclose(h.sum() * (u[1] - u[0]), 1, rtol=2e-3)
  np.testing.assert_array_equal(h, h[::-1])
