"""Sums of counts, which are exact beyond 32 bits."""

import jax.numpy as jnp

from tcljax.evaluation.counting import exact_sums, whole


def test_sums_beyond_32_bits_are_exact(rng):
  counts = rng.integers(0, 2**21, (3, 3000, 5))
  pairs = exact_sums(jnp.asarray(counts, jnp.int32))
  sums = whole({"arrived": pairs, "ann": pairs, "fired": pairs[:, 0]})["arrived"]
  assert sums.tolist() == counts.sum(axis=(1, 2)).tolist() and sums.min() > 2**32
