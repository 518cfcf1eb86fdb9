"""Affine operations become one where nothing else reads what is between them."""

import flax.linen as nn
import numpy as np
import pytest
from graphs import both, randomized, relative_error

from tcljax.graph import folded, trace_model
from tcljax.layers.activations import ReLU


def test_folding_batch_norm_changes_logits_by_rounding_only(vgg, images):
  model, variables = vgg
  traced, short, expected = both(model, variables, images)
  assert np.std(expected, axis=0).min() > 0.01  # the network is alive
  assert relative_error(traced, expected) < 1e-5
  assert relative_error(short, expected) < 1e-4
  graph, arrays, _ = folded(*trace_model(model, variables, (8, 8, 3)))
  ops = [node.op for node in graph.nodes]
  assert ops == ["conv", "neurons"] * 2 + [
    "sum_pool",
    "affine",
    "conv",
    "neurons",
    "sum_pool",
    "affine",
    "reshape",
    "dense",
    "neurons",
    "dense",
  ]
  assert set(arrays["conv:1"]) == {"kernel", "bias"}


@pytest.mark.parametrize("use_bias", [False, True])
def test_what_is_read_twice_is_not_folded_into(rng, use_bias):
  class Twice(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      y = nn.Dense(3, use_bias=use_bias)(x)
      return self.act(name="a")(3.0 * y) + y

  x = rng.normal(size=(4, 3)).astype(np.float32)
  traced, short, expected = both(Twice(), randomized(Twice(), x), x)
  np.testing.assert_allclose(traced, expected, rtol=1e-5)
  np.testing.assert_allclose(short, expected, rtol=1e-5)
