"""The arrays of a converted network: on the device once, and none of a function being traced."""

import dataclasses

import jax
import numpy as np

import tcljax


def test_weights_go_to_the_device_once(network, images, tmp_path):
  loaded = tcljax.load(tcljax.save(network, tmp_path / "net"))
  given = dataclasses.replace(network, variables=jax.tree.map(np.asarray, network.variables))
  for one in (network, loaded, given):
    assert all(isinstance(a, jax.Array) for a in jax.tree.leaves(one.variables))
  shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), network.variables)
  dataclasses.replace(network, variables=shapes).check_shapes()


def test_a_network_may_be_read_while_jax_traces(network, images, tmp_path):
  path, read = tcljax.save(network, tmp_path / "net"), []

  @jax.jit
  def answer(x):
    read.append(tcljax.load(path))
    return read[-1](x)

  np.testing.assert_allclose(answer(images), network(images), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(read[0](images), network(images), rtol=1e-5, atol=1e-5)
