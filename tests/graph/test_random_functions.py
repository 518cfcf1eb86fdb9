"""Random functions of supported operations are traced, and their networks answer as they do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tcljax

IMAGES = jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32)
EVEN = st.integers(0, 2**16)


def held(seed, *shape):
  """Weights that are the same each time a function is called."""
  scale = np.sqrt(np.prod(shape[:-1]))
  return np.float32(np.random.default_rng(seed).normal(size=shape) / scale)


def _conv(x, seed):
  if x.ndim != 4:
    return x
  kernel = held(seed, 3, 1 + seed % 3, x.shape[3], 4)
  strides, padding = (1 + seed % 2, 1), ("SAME", ((1, 2), (2, 0)))[seed % 5 == 0]
  numbers = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers)


def _turned(x, seed):
  """A convolution of the image lying on its side, which stays so."""
  return _conv(x.swapaxes(1, 2), seed) if x.ndim == 4 else x


def _product(x, seed):
  axis = 1 + seed % (x.ndim - 1)
  return jnp.moveaxis(jnp.tensordot(x, held(seed, x.shape[axis], 4), ((axis,), (0,))), -1, axis)


def _reshape(x, seed):
  sizes = x.shape[1:]
  if seed % 3 == 0:
    return x.reshape(x.shape[0], -1, sizes[-1])
  if seed % 3 == 1:
    return x.reshape(-1, sizes[-1]).reshape(x.shape[0], *sizes[::-1]) if len(sizes) < 4 else x
  return x[:, None].squeeze(1)


def _norm(x, seed):
  axis = 1 + seed % (x.ndim - 1)
  shape = [n if i == axis else 1 for i, n in enumerate(x.shape)]
  scale, shift = (held((seed, i), 1, x.shape[axis]).reshape(shape) for i in range(2))
  return x * (0.5 + scale) + shift


def _pool(x, seed):
  if x.ndim != 4 or min(x.shape[1:3]) < 2:
    return x
  window, strides = (1, 2, 1 + seed % 2, 1), (1, 1 + seed % 2, 1, 1)
  if seed % 3:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "VALID")
  return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "SAME") / 2.0


def _branch(x, seed):
  y = jax.nn.relu(_product(x, seed)) if x.shape[1 + seed % (x.ndim - 1)] == 4 else x
  return x + y if seed % 2 else jnp.concatenate([x, y * 0.5], axis=-1)[..., :6]


def _mean(x, seed):
  axis = 1 + seed % (x.ndim - 1)
  return x - x.mean(axis, keepdims=True) if seed % 2 or x.ndim < 3 else x.mean(axis)


MODES = ("edge", "constant", "wrap")
STEPS = (
  _conv,
  _turned,
  _product,
  _reshape,
  _norm,
  _pool,
  _branch,
  _mean,
  lambda x, seed: jnp.moveaxis(x, 1 + seed % (x.ndim - 1), -1),
  lambda x, seed: jnp.roll(x, 1, axis=1 + seed % (x.ndim - 1)),
  lambda x, seed: jnp.flip(x, 1 + seed % (x.ndim - 1)),
  lambda x, seed: x[:, seed % 2 :: 1 + seed % 2] if x.shape[1] > 2 else x,
  lambda x, seed: jnp.repeat(x, 2, axis=-1)[..., :6],
  lambda x, seed: jnp.pad(
    x, [(0, 0), (1, 0), *[(0, 0)] * (x.ndim - 2)], mode=("edge", "constant")[seed % 2]
  ),
  lambda x, seed: jnp.cumsum(x, axis=1 + seed % (x.ndim - 1)) / 2,
  lambda x, seed: jax.nn.relu(x),
  lambda x, seed: jnp.clip(x, 0, 0.5 + seed % 3),
  lambda x, seed: jax.nn.leaky_relu(x, 0.1),
  lambda x, seed: jax.vmap(lambda y: jax.nn.relu(y - 0.1))(x),
)
CHAIN = st.lists(st.tuples(st.sampled_from(range(len(STEPS))), EVEN), min_size=1, max_size=4)


def function_of(chains):
  """A function of as many outputs, so that they are compiled at once."""

  def function(x):
    outputs = []
    for number, chain in enumerate(chains):
      y = jax.nn.relu(_conv(x, number))
      for step, seed in chain:
        y = STEPS[step](y, seed)
      outputs.append(y)
    return tuple(outputs)

  return function


_FEW = dict(
  deadline=None,
  derandomize=True,
  phases=[Phase.generate],
  suppress_health_check=list(HealthCheck),
)


@given(st.lists(CHAIN, min_size=10, max_size=10))
@settings(max_examples=30, **_FEW)
def test_300_random_functions_are_traced(chains):
  network = tcljax.trace(function_of(chains), IMAGES)
  assert len(network.populations) >= len(chains)
  assert "max_pool" not in {node.op for node in network.model.graph.nodes}


@pytest.mark.full
@given(CHAIN)
@settings(max_examples=12, **_FEW)
def test_their_spiking_networks_come_to_the_clipped_ones(chain):
  images = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32)
  function = function_of([chain])
  network = tcljax.trace(lambda x: function(x)[0].reshape(len(x), -1), IMAGES)
  variables = tcljax.calibrate(
    network.model, network.variables, [images], method="maximum", v_init=0.5, instalments=1
  )
  made = tcljax.convert(network.model, variables, (4, 4, 3))
  clipped = network.model.clone(act=tcljax.TCL).apply(variables, images)
  error = np.abs(made(images, time_steps=512) - clipped).max()
  assert error <= 0.05 * np.abs(clipped).max() + 1e-6
