"""Winograd's filtering is the convolution, in portions that fit the caches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import primitives

import tcljax
from tcljax.kernels import winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
  ("count", "image", "channels", "taken"),
  [
    (8, (8, 16), (32, 32), True),
    (1, (8, 8), (32, 32), False),
    (5, (16, 14), (40, 33), True),
    (8, (15, 16), (32, 32), False),
    (8, (16, 16), (16, 64), False),
    (24, (32, 32), (32, 64), True),
  ],
)  # in two portions
def test_winograds_filtering_is_the_convolution(rng, count, image, channels, taken):
  x = jnp.asarray(rng.normal(size=(count, *image, channels[0])), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, *channels)) / 20, jnp.float32)

  def run(convolve, x, kernel):
    y, pull = jax.vjp(
      lambda x, kernel: convolve(x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT), x, kernel
    )
    return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

  tolerances = (2e-5, 2e-5, 2e-3)  # the last sums over all pixels
  for ours, theirs, tolerance in zip(
    jax.jit(functools.partial(run, tcljax.convolve))(x, kernel),
    run(jax.lax.conv_general_dilated, x, kernel),
    tolerances,
    strict=True,
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=tolerance)
  forward = primitives(
    functools.partial(
      tcljax.convolve, window_strides=(1, 1), padding="SAME", dimension_numbers=_LAYOUT
    ),
    x,
    kernel,
  )
  assert ("dot_general" in forward, "conv_general_dilated" in forward) == (taken, not taken)
  coarse = primitives(
    functools.partial(
      tcljax.convolve, window_strides=(1, 1), padding="SAME", dimension_numbers=_LAYOUT
    ),
    x.astype(jnp.bfloat16),
    kernel.astype(jnp.bfloat16),
  )
  assert "dot_general" not in coarse  # its sums would lose what bfloat16 has


@pytest.mark.parametrize(
  ("count", "values", "portion"),
  [
    (16, 16384, 16),
    (128, 16384, 16),
    (24, 16384, 12),
    (128, 300_000, 1),
    (7, 2**16, 1),
    (7, 1000, 7),
    (1009, 1000, 1009),
  ],
)
def test_images_are_taken_in_equal_portions_that_fit_the_caches(count, values, portion):
  assert winograd._portion(count, values) == portion


def test_portions_are_a_loop():
  x, kernel = jnp.ones((24, 32, 32, 64)), jnp.ones((3, 3, 64, 64))
  found = lambda x: primitives(
    functools.partial(
      tcljax.convolve, window_strides=(1, 1), padding="SAME", dimension_numbers=_LAYOUT
    ),
    x,
    kernel,
  )
  assert "scan" in found(x)
  assert "scan" not in found(x[:12])
