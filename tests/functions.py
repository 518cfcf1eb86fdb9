"""Small functions for tests of tracing: weights, a first layer with its ReLU, and a last layer."""

import jax
import jax.numpy as jnp
import numpy as np

IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
_rng = np.random.default_rng(0)


def weights(*shape):
  """Random weights, for sums of about the size of what is summed."""
  scale = np.sqrt(np.prod(shape[:-1]))
  return jnp.asarray(_rng.normal(size=shape) / scale, jnp.float32)


KERNEL, SQUARE, LAST, MIX = weights(3, 3, 3, 4), weights(3, 3, 4, 4), weights(4, 5), weights(4, 4)


def conv(x, kernel, strides=(1, 1), padding="SAME", **settings):
  numbers = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=numbers, **settings
  )


def currents(x):
  return conv(x, KERNEL)


def stem(x):
  return jax.nn.relu(currents(x))


def head(y):
  return y.mean((1, 2)) @ LAST if y.shape[-1] == 4 else y.reshape(y.shape[0], -1)


def ops(network):
  """The operations of a traced network, in their order."""
  return [node.op for node in network.model.graph.nodes]
