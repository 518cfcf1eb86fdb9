"""Networks whose costs are counted the long way: how numbers and spikes come to weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
from running import calibrate_plainly

import tcljax

T = 4


class Plain(nn.Module):
  """Convolutions in strides, one of them dilated, and a product."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Conv(6, (3, 3), strides=2)(x))
    x = self.act(name="b")(nn.Conv(4, (3, 2), kernel_dilation=(1, 2), padding=((2, 0), (1, 1)))(x))
    return nn.Dense(3)(x.reshape(len(x), -1))


class Residual(nn.Module):
  """Blocks with and without weights in their shortcut, and two layers without neurons between."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Conv(4, (3, 3), use_bias=False)(x))
    x = self.act(name="b")(x + nn.Conv(4, (3, 3), feature_group_count=2)(x))
    y = nn.Conv(3, (1, 1))(x[:, ::2, ::2])
    x = self.act(name="c")(nn.Conv(6, (1, 1))(y) + nn.Conv(6, (3, 3), strides=2)(x))
    return nn.Dense(3)(nn.avg_pool(x, (2, 2)).reshape(len(x), -1))


class Frames(nn.Module):
  """Products alone; the input comes to the second one too."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    a = self.act(name="a")(nn.Dense(7)(x))
    return nn.Dense(3)(self.act(name="b")(nn.Dense(5)(jnp.concatenate([a, x], -1))))


class Two(nn.Module):
  """Two inputs, two outputs, one of which is neurons."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    a = self.act(name="a")(nn.Dense(6)(x["left"]) + nn.Dense(6)(x["right"]))
    return {"sum": nn.Dense(2)(a), "own": 2.0 * a[:, :3]}


def traced(x):
  """Signed neurons, a transposed convolution, edges repeated, sums along an axis, parts scaled."""
  rng = np.random.default_rng(6)
  first, up = (rng.normal(size=size).astype(np.float32) for size in ((2, 2, 2, 3), (3, 3, 3, 2)))
  last = rng.normal(size=(5, 3)).astype(np.float32)
  layout = ("NHWC", "HWIO", "NHWC")
  conv = jax.lax.conv_general_dilated
  x = conv(x, first, (2, 2), "VALID", dimension_numbers=layout)
  x = jax.nn.leaky_relu(x, 0.25)
  x = jnp.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0)), mode="edge")
  edges = ((1, 1), (1, 1))
  x = conv(x, up, (1, 1), edges, lhs_dilation=(2, 2), dimension_numbers=layout)
  x = jax.nn.relu(x.at[:, 0].set(0.0).at[:, :, 1].multiply(-2.0))
  return x.cumsum(axis=1)[:, -1, :5].mean(axis=-1) @ last


def pruned(variables, share=0.4):
  """Some of the weights are 0."""
  rng = np.random.default_rng(4)
  keep = lambda a: np.where(rng.random(a.shape) < share, 0, a).astype(np.float32)
  params = jax.tree.map(
    lambda a: keep(a) if a.ndim > 1 else a + np.float32(0.1), variables["params"]
  )
  return {**variables, "params": params}


def converted(model, x, shape, encoding="constant"):
  variables = pruned(dict(model.init(jax.random.key(0), x)))
  variables = calibrate_plainly(model, variables, x, percentile=97)
  spiking = tcljax.SpikingConfig(T, encoding=encoding)
  return tcljax.convert(model, variables, shape, spiking)


def made(name):
  """A network and inputs for it, examples first."""
  rng = np.random.default_rng(1)
  images = rng.normal(size=(5, 6, 6, 2)).astype(np.float32)
  images[:, 2] = 0  # pixels that cost nothing
  if name == "plain":
    return converted(Plain(), images, (6, 6, 2)), images
  if name == "residual":
    return converted(Residual(), images, (6, 6, 2)), images
  if name == "traced":
    network = tcljax.trace(traced, images[:1])
    options = {"per_channel": True, "percentile": 97, "instalments": 2}
    variables = calibrate_plainly(network.model, network.variables, images, **options)
    spiking = tcljax.SpikingConfig(6, chunk=3, neuron=tcljax.Neuron("hard"))
    return tcljax.convert(network.model, variables, network.input_shape, spiking), images
  if name in ("everything", "bursts", "phases"):
    fields = {"bursts": {"burst": 3, "signed": True}, "phases": {"phase": 2}}.get(name, {})
    network, images = networks.everything(time_steps=T, neuron=tcljax.Neuron(**fields))
    return network, images[:3]
  if name == "frames":
    frames = (rng.normal(size=(5, T, 9)) > 0.5).astype(np.float32)
    frames[:2] *= 0.5  # these are no spikes
    return converted(Frames(), frames.mean(axis=1), (9,), "frames"), frames
  if name == "poisson":
    x = rng.normal(size=(5, 9)).astype(np.float32)
    return converted(Frames(), x, (9,), "poisson"), x
  x = {name: rng.normal(size=(5, 4)).astype(np.float32) for name in ("left", "right")}
  return converted(Two(), x, {"left": (4,), "right": (4,)}), x
