"""Values that cannot be are told where they are known, by each public function that takes them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.maths import neurons


@pytest.mark.parametrize(
  "threshold, bad", [(0.0, 0), (-1, -1), (math.nan, "nan"), (math.inf, "inf"), (np.float32(-2), -2)]
)
def test_thresholds_that_are_not_positive_are_told(threshold, bad):
  x = jnp.ones((2, 3))
  calls = [
    lambda tau: neurons.spike(x, tau),
    lambda tau: neurons.if_step(x, x, tau),
    lambda tau: neurons.integrate(x, x[0], tau),
    lambda tau: neurons.integrate_and_fire(x, tau),
    lambda tau: tcljax.clip(x, tau),
    lambda tau: tcljax.quantized_clip(x, tau, 4),
    lambda tau: tcljax.raw_from_threshold(tau),
  ]
  for call in calls:
    with pytest.raises(ValueError, match=rf"threshold={bad}\S* and must be finite and above 0"):
      call(threshold)
    for several in (np.array([1.0, threshold, 2.0]), jnp.array([1.0, threshold, 2.0])):
      with pytest.raises(ValueError, match=rf"threshold holds {bad}\S* and must be finite and abo"):
        call(several)
    jax.jit(call)(threshold)  # traced, it has no value to be looked at
  with pytest.raises(ValueError, match=rf"threshold={bad}.* and must be finite and above 0"):
    tcljax.TCL(name="a", threshold=threshold).init(jax.random.key(0), x)


def test_initial_potentials_that_are_not_finite_are_told():
  x = jnp.ones((2, 3))
  with pytest.raises(ValueError, match="v_init=nan and must be finite"):
    neurons.integrate_and_fire(x, 1.0, math.nan)
  with pytest.raises(ValueError, match="v_init holds inf and must be finite"):
    neurons.integrate_and_fire(x, 1.0, np.array([0.5, np.inf, 0.5]))
  with pytest.raises(ValueError, match="v_init=nan and must be finite"):
    tcljax.quantized_clip(x, 1.0, 4, math.nan)
