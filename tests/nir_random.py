"""Random networks whose sums are exact in float32: weights and thresholds are powers of two."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from nir_networks import conv, weights

import tcljax
from tcljax.graph.operations import find

relu = jax.nn.relu


def as_wide(a, x):
  """An array with as many axes as another, by new ones in front."""
  return a.reshape((1,) * (x.ndim - a.ndim) + a.shape)


def _any_conv(x, rng):
  """A convolution of any kernel, strides, padding, dilation and groups."""
  rank, channels = x.ndim - 2, x.shape[-1]
  if not 1 <= rank <= 2:
    return x
  groups = int(rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0]))
  padding = [tuple(map(int, pair)) for pair in rng.integers(0, 3, (rank, 2))]
  return _if_it_fits(
    lambda x: jax.lax.conv_general_dilated(
      x,
      weights(*sizes, channels // groups, outer, seed=outer),
      strides,
      padding if own else ("SAME", "VALID")[outer % 2],
      rhs_dilation=dilation,
      dimension_numbers=("NLC", "LIO", "NLC") if rank == 1 else ("NHWC", "HWIO", "NHWC"),
      feature_group_count=groups,
    ),
    x,
    outer := groups * int(rng.integers(1, 4)),
    sizes := [int(n) for n in rng.integers(1, 4, rank)],
    strides := [int(n) for n in rng.integers(1, 3, rank)],
    dilation := [int(n) for n in rng.integers(1, 3, rank)],
    own := rng.random() < 0.5,
  )


def _if_it_fits(run, x, *_):
  return run(x) if 0 not in jax.eval_shape(run, x).shape else x


def _pool(x, rng):
  if x.ndim < 3:
    return x
  rank = x.ndim - 2
  sizes, strides = ([int(n) for n in rng.integers(1, 4, rank)] for _ in range(2))
  padding = ("SAME", "VALID")[rng.integers(2)]
  if rng.random() < 0.3:
    padding = [(0, 0), *((int(rng.integers(n)), int(rng.integers(n))) for n in sizes), (0, 0)]
  window, strides = (1, *sizes, 1), (1, *strides, 1)
  sums = lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, padding) / 4
  return _if_it_fits(sums, x)


def _dense(x, rng):
  return x @ weights(x.shape[-1], int(rng.integers(1, 5))) + 0.125


def _residual(x, rng):
  same = lambda x: conv(x, x.shape[-1]) if x.ndim in (3, 4) else x @ weights(*[x.shape[-1]] * 2)
  y = relu(same(x))
  y = same(y) if rng.random() < 0.5 else y
  return x * rng.choice(np.float32([0.25, 0.5, 1, -1, 2])) + y * rng.choice(np.float32([0.5, 1]))


def _branches(x, rng):
  y = relu(x * rng.choice(np.float32([0.5, 1, 2]))) if rng.random() < 0.5 else x
  return jnp.concatenate([x, y[..., ::-1]], axis=int(rng.integers(1, x.ndim)))


def _part(x, rng):
  axis = int(rng.integers(1, x.ndim))
  start, step = int(rng.integers(2)), int(rng.integers(1, 3))
  return x[(*[slice(None)] * axis, slice(start, None, step))] if x.shape[axis] > 2 else x


def _padded(x, rng):
  pairs = [(*map(int, rng.integers(-1 if n > 3 else 0, 2, 2)), 0) for n in x.shape[1:]]
  return jax.lax.pad(x, np.float32(0), [(0, 0, 0), *pairs])


def _scaled(x, rng):
  scale = rng.choice(np.float32([-1, 0.5, 2, 1, 0.25, 0]), x.shape[-1])
  return x * as_wide(scale, x) + as_wide(weights(x.shape[-1]), x)


def _flat(x, rng):
  order = [0, *(1 + rng.permutation(x.ndim - 1))]
  return x.transpose(*map(int, order)).reshape(len(x), -1)


def _along(run):
  return lambda x, rng: run(x, int(rng.integers(1, x.ndim)))


STEPS = (
  *[_any_conv] * 3,
  *[lambda x, rng: relu(x)] * 3,
  _pool,
  _dense,
  _residual,
  _branches,
  _part,
  _padded,
  _scaled,
  _flat,
  lambda x, rng: jnp.clip(x, 0, float(rng.choice([0.5, 1, 2]))),
  lambda x, rng: jax.nn.leaky_relu(x, 0.25),
  lambda x, rng: relu(x) + x,
  lambda x, rng: x.swapaxes(1, 2) if x.ndim > 3 else x,
  lambda x, rng: x + as_wide(weights(*x.shape[1:]), x) / 2,
  _along(jnp.flip),
  _along(lambda x, axis: jnp.roll(x, 1, axis)),
  _along(lambda x, axis: jnp.repeat(x, 2, axis) if x[0].size < 200 else x),
  _along(lambda x, axis: x.sum(axis) / 4 if x.ndim > 2 else x),
  _along(lambda x, axis: x + x.sum(axis, keepdims=True) / 4),
)


def function_of(*seeds):
  """A function of as many chains of steps, one for each seed, that ends in all their numbers."""

  def chain(x, seed):
    rng = np.random.default_rng(seed)
    y = relu(_any_conv(x, rng))
    for _ in range(int(rng.integers(1, 6))):
      y = STEPS[rng.integers(len(STEPS))](y, rng)
    return y.reshape(len(x), -1) if rng.random() < 0.5 or len(seeds) > 1 else relu(y)

  return lambda x: jnp.concatenate([chain(x, seed) for seed in seeds], axis=-1)


def _channels(traced, shape):
  """How many channels each population has."""
  shapes = {traced.model.graph.inputs: shape}
  for node in traced.model.graph.nodes:
    listed = {key: a.shape for key, a in traced.variables["params"].get(node.name, {}).items()}
    inputs = [shapes[name] for name in node.inputs]
    shapes[node.name] = find(node.op).form(inputs, dict(node.settings), listed).output
  return {name: shapes[name][-1] for name in traced.model.graph.populations()}


@functools.cache
def raw_of(threshold):
  """A parameter whose threshold is exactly this, a power of two."""
  near = np.float32(tcljax.raw_from_threshold(threshold))
  tried = near + np.arange(-40, 41, dtype=np.float32) * np.spacing(near)
  found = np.asarray(tcljax.threshold_from_raw(tried))
  return tried[np.flatnonzero(found == np.float32(threshold))[0]]


def network_of(function, shape, seed, time_steps=6):
  """The network of a function: thresholds by channel or not, v_init in instalments or not."""
  rng = np.random.default_rng([seed, 1])
  traced = tcljax.trace(function, np.zeros((1, *shape), np.float32))
  clipping = {}
  for name, size in _channels(traced, shape).items():
    channels = (size,) if rng.random() < 0.5 else ()
    raw = np.vectorize(raw_of)(rng.choice([0.25, 0.5, 1, 2, 64], channels, p=[0.24] * 4 + [0.04]))
    parts = ((), (2,), (4,))[rng.integers(3)]
    v_init = rng.choice(np.float32([-0.5, 0, 0.25, 0.5, 1]), (*parts, *channels))
    clipping[name] = {"raw_threshold": np.float32(raw), "v_init": np.float32(v_init)}
  variables = {**traced.variables, "clipping": clipping}
  spiking = tcljax.SpikingConfig(time_steps=time_steps)
  return tcljax.convert(traced.model, variables, shape, spiking)


def images_of(shape, count=2):
  """Multiples of 1/16; the first image is silent."""
  found = np.float32(np.random.default_rng(0).integers(0, 17, (count, *shape)) / 16)
  found[0] = 0
  return found
