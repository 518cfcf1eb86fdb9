"""Networks of JAX functions whose sums are exact in float32, and their spikes step by step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import tcljax
from tcljax.layers.integrate_and_fire import IF

SHAPE = (6, 6, 2)


def weights(*shape, seed=0):
  """Multiples of 1/16, the same in each call."""
  rng = np.random.default_rng([seed, *shape])
  return np.float32(rng.integers(-8, 9, shape) / 16)


def conv(x, channels, size=3, stride=1, padding="SAME", **settings):
  """A convolution whose sums are exact."""
  groups = settings.get("feature_group_count", 1)
  names = ("NHWC", "HWIO", "NHWC") if x.ndim == 4 else ("NLC", "LIO", "NLC")
  sizes = size if isinstance(size, tuple) else (size,) * (x.ndim - 2)
  return jax.lax.conv_general_dilated(
    x,
    weights(*sizes, x.shape[-1] // groups, channels),
    (stride,) * (x.ndim - 2),
    padding,
    dimension_numbers=names,
    **settings,
  )


def head(x):
  """A product of all numbers of an example."""
  x = x.reshape(x.shape[0], -1)
  return x @ weights(x.shape[1], 5)


def converted(function, shape=SHAPE, threshold=1.0, v_init=0.5, **spiking):
  """The network of a function, all thresholds and initial potentials the same."""
  traced = tcljax.trace(function, np.zeros((1, *shape), np.float32))
  held = {
    "raw_threshold": np.float32(tcljax.raw_from_threshold(threshold)),
    "v_init": np.float32(v_init),
  }
  clipping = {name: held for name in traced.model.graph.populations()}
  variables = {**traced.variables, "clipping": clipping}
  return tcljax.convert(traced.model, variables, shape, tcljax.SpikingConfig(**spiking))


def everything(x):
  """All that NIR can say, in one network."""
  relu = jax.nn.relu
  a = relu(conv(x, 4, stride=2, padding=((0, 1), (1, 1))) + 0.25)  # 3x3
  b = relu(conv(x, 4, size=(3, 2), feature_group_count=2))  # 6x6
  b = nn.avg_pool(b, (2, 2), (2, 2))
  c = jnp.concatenate([a, b[..., 1:3], b[..., ::-1]], axis=-1)
  d = relu(conv(jnp.pad(c, ((0, 0), (1, 0), (2, 1), (0, 0))), 6, padding="VALID"))
  short = jnp.pad(x[:, ::3, ::3], ((0, 0), (0, 0), (1, 1), (1, 3)))
  e = jnp.clip(conv(d, 6, rhs_dilation=(1, 2)) + short, 0, 0.5)
  f = jax.nn.leaky_relu(conv(e, 4), 0.25)
  g = nn.avg_pool(f, (2, 2), (1, 1), "SAME", count_include_pad=True).transpose(0, 3, 1, 2)
  h = relu(head(jnp.concatenate([g.reshape(x.shape[0], -1)[:, 2:], e.sum((1, 2))], axis=-1)))
  return head(h) + 0.5 * head(e)


def images(count=3):
  """Inputs that are multiples of 1/16."""
  return np.float32(np.random.default_rng(1).integers(0, 17, (count, *SHAPE)) / 16)


def spikes_of(network, x):
  """The spikes of each population, [T, B, ...], and the output at each step."""
  model = network.model.clone(act=functools.partial(IF, neuron=network.spiking.neuron))

  @jax.jit
  def run(variables, x):
    def step(state, _):
      output, new = model.apply(
        {**variables, "membrane": state},
        x,
        mutable=["membrane", "intermediates"],
        capture_intermediates=lambda module, _: isinstance(module, IF),
      )
      fired = {name: found["__call__"][0] > 0 for name, found in new["intermediates"].items()}
      return new["membrane"], (fired, output)

    _, first = model.apply(variables, x, mutable=["membrane"])
    return jax.lax.scan(step, first["membrane"], length=network.spiking.time_steps)[1]

  return jax.tree.map(np.asarray, run(network.variables, x))
