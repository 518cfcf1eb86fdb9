"""Nodes hold plain data from when they are made."""

import jax.numpy as jnp
import numpy as np
import pytest
from graphs import Function, randomized
from running import calibrate_plainly

import tcljax
from tcljax.graph import Node


def test_a_graph_holds_plain_data_alone(rng, tmp_path):
  model = Function(lambda x: jnp.roll(x.reshape(-1, np.int64(2), 2), np.int32(1), axis=-1))
  x = rng.normal(size=(5, 3)).astype(np.float32)
  variables = calibrate_plainly(model, randomized(model, x), x)
  network = tcljax.convert(model, variables, (3,))
  np.testing.assert_array_equal(tcljax.load(tcljax.save(network, tmp_path / "net"))(x), network(x))
  node = Node("pad:1", "pad", ("input:0",), (("padding", [np.int64(1), (np.bool_(True), 2.0)]),))
  assert node.settings == (("padding", (1, (True, 2.0))),)
  assert [type(v) for v in node.settings[0][1][1]] == [bool, float]
  for value in (jnp.ones(()), object(), {1}):
    with pytest.raises(ValueError, match="no plain data"):
      Node("pad:1", "pad", ("input:0",), (("padding", value),))
