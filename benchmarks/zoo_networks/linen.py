"""Networks of Flax Linen."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

import tcljax
from zoo_networks.entry import Entry, Network, digits


class Mlp(nn.Module):
  """Dense layers with ReLU between."""

  widths: tuple[int, ...] = (32, 32, 5)

  @nn.compact
  def __call__(self, x):
    for width in self.widths[:-1]:
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(self.widths[-1])(x)


class MnistCnn(nn.Module):
  """Two convolutions, means of windows, two dense layers."""

  @nn.compact
  def __call__(self, x):
    for width in (32, 64):
      x = nn.relu(nn.Conv(width, (3, 3))(x))
      x = nn.avg_pool(x, (2, 2), (2, 2))
    x = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
    return nn.Dense(10)(x)


class Bottleneck(nn.Module):
  """A residual block of three convolutions."""

  width: int
  strides: tuple[int, int]
  conv: Callable[..., Any]
  norm: Callable[..., Any]

  @nn.compact
  def __call__(self, x):
    y = nn.relu(self.norm()(self.conv(self.width, (1, 1))(x)))
    y = nn.relu(self.norm()(self.conv(self.width, (3, 3), self.strides)(y)))
    y = self.norm()(self.conv(4 * self.width, (1, 1))(y))
    if x.shape != y.shape:
      x = self.norm(name="norm_proj")(
        self.conv(4 * self.width, (1, 1), self.strides, name="conv_proj")(x)
      )
    return nn.relu(x + y)


class ResNet(nn.Module):
  """The form of ResNet-50, with few blocks and channels."""

  @nn.compact
  def __call__(self, x, train=False):
    conv = functools.partial(nn.Conv, use_bias=False)
    norm = functools.partial(nn.BatchNorm, use_running_average=not train)
    x = nn.relu(norm(name="bn_init")(conv(16, (7, 7), (2, 2), [(3, 3)] * 2, name="conv_init")(x)))
    x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
    for stage, blocks in enumerate((1, 2)):
      for block in range(blocks):
        strides = (2, 2) if stage and not block else (1, 1)
        x = Bottleneck(8 * 2**stage, strides, conv, norm)(x)
    return nn.Dense(10)(x.mean((1, 2)))


class Autoencoder(nn.Module):
  """The means of a variational autoencoder, back to pixels between 0 and 1."""

  @nn.compact
  def __call__(self, x):
    z = nn.Dense(6, name="mean")(nn.relu(nn.Dense(40, name="encoder")(x)))
    return nn.sigmoid(nn.Dense(x.shape[-1], name="out")(nn.relu(nn.Dense(40, name="decoder")(z))))


class ActorCritic(nn.Module):
  """The policy of an agent that sees four frames."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(32, (8, 8), (4, 4), name="conv1")(x))
    x = nn.relu(nn.Conv(64, (4, 4), (2, 2), name="conv2")(x))
    x = nn.relu(nn.Conv(64, (3, 3), (1, 1), name="conv3")(x))
    x = nn.relu(nn.Dense(64, name="hidden")(x.reshape(x.shape[0], -1)))
    return nn.log_softmax(nn.Dense(6, name="logits")(x))


class Heads(nn.Module):
  """Products over several axes, and a fixed mixture written as einsum."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.DenseGeneral((4, 6))(x))  # [B, 10, 4, 6]
    mix = self.param("mix", nn.initializers.lecun_normal(), (4, 10, 3))
    x = nn.relu(jnp.einsum("bnhd,hnm->bmhd", x, mix))
    return nn.DenseGeneral(5, axis=(-3, -2, -1))(x)


class Residual(nn.Module):
  """One layer of those that are scanned over."""

  @nn.compact
  def __call__(self, x, _):
    return x + nn.Dense(x.shape[-1])(nn.relu(nn.Dense(24)(x))), None


class Scanned(nn.Module):
  """Layers of one shape, written as a scan with checkpoints."""

  @nn.compact
  def __call__(self, x):
    layers = nn.scan(
      nn.remat(Residual), variable_axes={"params": 0}, split_rngs={"params": True}, length=4
    )
    x, _ = layers()(nn.Dense(12)(x), None)
    return nn.Dense(3)(nn.relu(x))


class Video(nn.Module):
  """Convolutions over time and space."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 3, 3), (1, 2, 2))(x))
    x = nn.relu(nn.Conv(12, (2, 3, 3), (2, 1, 1), "VALID")(x))
    return nn.Dense(4)(x.mean((1, 2, 3)))


class Segmenter(nn.Module):
  """Depthwise and dilated convolutions with ReLU6, then enlarged again."""

  @nn.compact
  def __call__(self, x, train=False):
    norm = functools.partial(nn.BatchNorm, use_running_average=not train)
    x = nn.relu6(norm()(nn.Conv(8, (3, 3), (2, 2))(x)))
    y = nn.relu6(norm()(nn.Conv(8, (3, 3), feature_group_count=8)(x)))
    z = nn.relu6(norm()(nn.Conv(8, (3, 3), kernel_dilation=2)(x)))
    x = nn.relu(nn.ConvTranspose(8, (2, 2), (2, 2))(jnp.concatenate([x, y, z], axis=-1)))
    return nn.Conv(3, (1, 1))(x)


class Transformer(nn.Module):
  """A block of attention."""

  @nn.compact
  def __call__(self, x):
    x = x + nn.MultiHeadDotProductAttention(2)(x)
    return nn.Dense(3)(nn.relu(nn.Dense(16)(x)).mean(1))


class Normed(nn.Module):
  """LayerNorm within a network of dense layers."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.relu(nn.LayerNorm()(nn.Dense(16)(x))))


class Tagger(nn.Module):
  """A recurrent network, as of sequences of characters."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.relu(nn.RNN(nn.OptimizedLSTMCell(12))(x)[:, -1]))


def lively(variables):
  """Variables whose BatchNorm moves and scales."""
  rng = np.random.default_rng(0)
  flat = traverse_util.flatten_dict(variables)
  draws = {
    "mean": lambda a: rng.normal(0, 0.2, a.shape),
    "var": lambda a: rng.uniform(0.5, 2.0, a.shape),
    "scale": lambda a: rng.uniform(0.5, 1.5, a.shape),
    "bias": lambda a: rng.normal(0, 0.1, a.shape),
  }
  changed = {
    path: jnp.asarray(draws[path[-1]](a), a.dtype) if path[-1] in draws else a
    for path, a in flat.items()
  }
  return traverse_util.unflatten_dict(changed)


def of(module: nn.Module, variables, shape) -> Network:
  """A module with its variables."""
  example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  return Network(
    jax.jit(functools.partial(module.apply, variables)),
    lambda: tcljax.from_flax(module, variables, example),
    shape,
  )


def _random(module, shape) -> Network:
  variables = module.init(jax.random.key(0), jnp.ones((1, *shape)))
  return of(module, lively(variables), shape)


def _trained(module: nn.Module) -> Network:
  images, labels = digits()
  params = module.init(jax.random.key(0), images[:1])["params"]
  optimizer = optax.adam(2e-3)

  @jax.jit
  def step(carry, batch):
    params, state = carry

    def loss(params):
      logits = module.apply({"params": params}, images[batch])
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels[batch]).mean()

    update, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, update), state

  images, labels = jnp.asarray(images), jnp.asarray(labels)
  carry = params, optimizer.init(params)
  for batch in np.random.default_rng(0).integers(0, len(images), (150, 64)):
    carry = step(carry, batch)
  return of(module, {"params": carry[0]}, (8, 8, 1))


def _entry(name, module, shape, source="", refused=""):
  return Entry(name, "linen", functools.partial(_random, module, shape), source, refused)


NETWORKS = (
  _entry("MLP", Mlp(), (8,), "Flax Linen quick start"),
  _entry("MNIST CNN", MnistCnn(), (28, 28, 1), "Flax example mnist"),
  _entry("ResNet, bottlenecks", ResNet(), (32, 32, 3), "Flax example imagenet"),
  _entry("autoencoder", Autoencoder(), (64,), "Flax example vae"),
  _entry("actor-critic", ActorCritic(), (84, 84, 4), "Flax example ppo"),
  _entry("products over heads", Heads(), (10, 8)),
  _entry("layers scanned over", Scanned(), (8,), "Flax guide on lifted transforms"),
  _entry("video, 3-D", Video(), (4, 12, 12, 2)),
  _entry("segmentation with ReLU6", Segmenter(), (16, 16, 3)),
  Entry("MNIST CNN, digits", "linen", lambda: _trained(MnistCnn()), trained=True),
  _entry("attention", Transformer(), (6, 8), "Flax example wmt", "MultiHeadDotProductAttention"),
  _entry("LayerNorm MLP", Normed(), (8,), "", "LayerNorm"),
  _entry("LSTM", Tagger(), (6, 8), "Flax example seq2seq", "LSTMCell"),
)
