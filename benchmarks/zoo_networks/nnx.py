"""Networks of Flax NNX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import tcljax
from zoo_networks.entry import Entry, Network, digits


class Cnn(nnx.Module):
  """Convolutions with BatchNorm and dropout, means of windows."""

  def __init__(self, rngs, size=28):
    self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
    self.norm1 = nnx.BatchNorm(16, rngs=rngs)
    self.drop1 = nnx.Dropout(0.1, rngs=rngs)
    self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
    self.norm2 = nnx.BatchNorm(32, rngs=rngs)
    self.linear1 = nnx.Linear((size // 4) ** 2 * 32, 64, rngs=rngs)
    self.drop2 = nnx.Dropout(0.1, rngs=rngs)
    self.linear2 = nnx.Linear(64, 10, rngs=rngs)
    self.pool = functools.partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))

  def __call__(self, x):
    x = self.pool(nnx.relu(self.norm1(self.drop1(self.conv1(x)))))
    x = self.pool(nnx.relu(self.norm2(self.conv2(x))))
    return self.linear2(self.drop2(nnx.relu(self.linear1(x.reshape(x.shape[0], -1)))))


class Mlp(nnx.Module):
  """Of NNX's basics: BatchNorm, dropout and an activation."""

  def __init__(self, rngs, act=nnx.relu):
    self.linear1 = nnx.Linear(8, 32, rngs=rngs)
    self.bn = nnx.BatchNorm(32, rngs=rngs)
    self.dropout = nnx.Dropout(0.2, rngs=rngs)
    self.linear2 = nnx.Linear(32, 4, rngs=rngs)
    self.act = act

  def __call__(self, x):
    return self.linear2(self.act(self.dropout(self.bn(self.linear1(x)))))


class Autoencoder(nnx.Module):
  """An encoder and a decoder, modules of a module."""

  def __init__(self, rngs):
    self.encoder = nnx.Sequential(
      nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 8, rngs=rngs)
    )
    self.decoder = nnx.Sequential(
      nnx.Linear(8, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 64, rngs=rngs)
    )

  def __call__(self, x):
    return nnx.sigmoid(self.decoder(self.encoder(x)))


class UNet(nnx.Module):
  """Down by maxima, up by transposed convolutions, with what was above beside it."""

  def __init__(self, rngs):
    conv = functools.partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs)
    self.down1, self.down2, self.bottom = conv(3, 8), conv(8, 16), conv(16, 32)
    up = functools.partial(nnx.ConvTranspose, kernel_size=(2, 2), strides=(2, 2), rngs=rngs)
    self.up2, self.up1 = up(32, 16), up(16, 8)
    self.merge2, self.merge1 = conv(32, 16), conv(16, 8)
    self.out = nnx.Conv(8, 2, (1, 1), rngs=rngs)

  def __call__(self, x):
    a = nnx.relu(self.down1(x))
    b = nnx.relu(self.down2(nnx.max_pool(a, (2, 2), (2, 2))))
    x = nnx.relu(self.bottom(nnx.max_pool(b, (2, 2), (2, 2))))
    x = nnx.relu(self.merge2(jnp.concatenate([self.up2(x), b], axis=-1)))
    x = nnx.relu(self.merge1(jnp.concatenate([self.up1(x), a], axis=-1)))
    return self.out(x)


class Layer(nnx.Module):
  """One of those that are scanned over."""

  def __init__(self, rngs):
    self.linear = nnx.Linear(12, 12, rngs=rngs)
    self.norm = nnx.BatchNorm(12, rngs=rngs)

  def __call__(self, x):
    return x + nnx.relu(self.norm(self.linear(x)))


class Scanned(nnx.Module):
  """Layers made by vmap and run by scan."""

  def __init__(self, rngs):
    make = nnx.vmap(lambda rngs: Layer(rngs), in_axes=(0,), out_axes=0)
    self.layers = make(rngs.split(4))
    self.out = nnx.Linear(12, 3, rngs=rngs)

  def __call__(self, x):
    run = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    return self.out(run(x, self.layers))


class Block(nnx.Module):
  """Residual, activated before its convolutions."""

  def __init__(self, width, rngs):
    self.norm1, self.norm2 = (nnx.BatchNorm(width, rngs=rngs) for _ in range(2))
    self.conv1, self.conv2 = (nnx.Conv(width, width, (3, 3), rngs=rngs) for _ in range(2))

  def __call__(self, x):
    y = self.conv1(nnx.relu(self.norm1(x)))
    return x + self.conv2(nnx.relu(self.norm2(y)))


class ResNet(nnx.Module):
  """Blocks in a list."""

  def __init__(self, rngs):
    self.stem = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
    self.blocks = nnx.List([Block(8, rngs) for _ in range(3)])
    self.out = nnx.Linear(8, 10, rngs=rngs)

  def __call__(self, x):
    x = self.stem(x)
    for block in self.blocks:
      x = block(x)
    return self.out(nnx.relu(x).mean((1, 2)))


class Shuffle(nnx.Module):
  """Convolutions by groups whose channels are shuffled between."""

  def __init__(self, rngs):
    self.stem = nnx.Conv(3, 12, (3, 3), rngs=rngs)
    self.groups1 = nnx.Conv(12, 24, (1, 1), feature_group_count=3, rngs=rngs)
    self.groups2 = nnx.Conv(24, 12, (3, 3), feature_group_count=3, rngs=rngs)
    self.out = nnx.LinearGeneral((8, 8, 12), 5, axis=(1, 2, 3), rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.groups1(nnx.relu(self.stem(x))))
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 3, c // 3).swapaxes(-1, -2).reshape(n, h, w, c)
    return self.out(nnx.leaky_relu(self.groups2(x), 0.1))


class Recurrent(nnx.Module):
  """A GRU over a sequence."""

  def __init__(self, rngs):
    self.rnn = nnx.RNN(nnx.GRUCell(8, 12, rngs=rngs))
    self.out = nnx.Linear(12, 3, rngs=rngs)

  def __call__(self, x):
    return self.out(nnx.relu(self.rnn(x)[:, -1]))


class GroupNormed(nnx.Module):
  """GroupNorm after a convolution."""

  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
    self.norm = nnx.GroupNorm(8, 2, rngs=rngs)
    self.out = nnx.Linear(8, 3, rngs=rngs)

  def __call__(self, x):
    return self.out(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


def _lively(model):
  rng = np.random.default_rng(0)
  for _, module in nnx.iter_modules(model):
    if isinstance(module, nnx.BatchNorm):
      for variable, a in (
        (module.mean, rng.normal(0, 0.2, module.mean.shape)),
        (module.var, rng.uniform(0.5, 2.0, module.var.shape)),
        (module.scale, rng.uniform(0.5, 1.5, module.scale.shape)),
        (module.bias, rng.normal(0, 0.1, module.bias.shape)),
      ):
        variable[...] = jnp.asarray(a, jnp.float32)
  return model


def _of(model, shape) -> Network:
  example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  own = nnx.clone(model)
  own.eval()
  run = nnx.jit(lambda model, x: model(x))
  return Network(functools.partial(run, own), lambda: tcljax.from_nnx(model, example), shape)


def _trained() -> Network:
  images, labels = map(jnp.asarray, digits())
  model = Cnn(nnx.Rngs(0), size=8)
  optimizer = nnx.Optimizer(model, optax.adam(2e-3), wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer, x, y):
    def loss(model):
      return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss)(model))

  for batch in np.random.default_rng(0).integers(0, len(images), (150, 64)):
    step(model, optimizer, images[batch], labels[batch])
  return _of(model, (8, 8, 1))


def _entry(name, make, shape, source="", refused=""):
  return Entry(name, "nnx", lambda: _of(_lively(make(nnx.Rngs(0))), shape), source, refused)


NETWORKS = (
  _entry("MNIST CNN", Cnn, (28, 28, 1), "Flax NNX MNIST tutorial"),
  _entry("MLP with BatchNorm", Mlp, (8,), "Flax NNX basics, with ReLU"),
  _entry("autoencoder", Autoencoder, (64,), "Flax NNX on modules of modules"),
  _entry("U-Net", UNet, (16, 16, 3)),
  _entry("layers scanned over", Scanned, (12,), "Flax NNX guide on transforms"),
  _entry("ResNet, activated first", ResNet, (16, 16, 3)),
  _entry("shuffled groups", Shuffle, (8, 8, 3)),
  Entry("MNIST CNN, digits", "nnx", _trained, trained=True),
  _entry(
    "MLP with GELU", lambda rngs: Mlp(rngs, nnx.gelu), (8,), "Flax NNX basics", "gelu|tanh|integer"
  ),
  _entry("GRU", Recurrent, (6, 8), "", "rnn"),
  _entry("GroupNorm", GroupNormed, (8, 8, 3), "", "norm"),
)
