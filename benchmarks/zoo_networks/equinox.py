"""Networks of Equinox, which take one example, channels first."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import tcljax
from zoo_networks.entry import Entry, Network, digits


class Cnn(eqx.Module):
  """The MNIST example: layers and functions in one list."""

  layers: list

  def __init__(self, key, act=jax.nn.relu, size=28):
    a, b, c, d = jax.random.split(key, 4)
    self.layers = [
      eqx.nn.Conv2d(1, 3, kernel_size=4, key=a),
      eqx.nn.MaxPool2d(kernel_size=2),
      jax.nn.relu,
      jnp.ravel,
      eqx.nn.Linear(3 * (size - 4) ** 2, 128, key=b),
      act,
      eqx.nn.Linear(128, 64, key=c),
      jax.nn.relu,
      eqx.nn.Linear(64, 10, key=d),
      jax.nn.log_softmax,
    ]

  def __call__(self, x):
    for layer in self.layers:
      x = layer(x)
    return x


class MixerBlock(eqx.Module):
  """Mixes patches, then channels."""

  patch_mixer: eqx.nn.MLP
  hidden_mixer: eqx.nn.MLP

  def __init__(self, patches, hidden, key):
    a, b = jax.random.split(key)
    self.patch_mixer = eqx.nn.MLP(patches, patches, 24, 1, key=a)
    self.hidden_mixer = eqx.nn.MLP(hidden, hidden, 24, 1, key=b)

  def __call__(self, y):
    y = y + jax.vmap(self.patch_mixer)(y)
    y = y.T
    return (y + jax.vmap(self.hidden_mixer)(y)).T


class Mixer(eqx.Module):
  """An MLP-Mixer with ReLU, without its norms."""

  conv_in: eqx.nn.Conv2d
  blocks: list
  out: eqx.nn.Linear

  def __init__(self, key):
    a, b, *keys = jax.random.split(key, 5)
    self.conv_in = eqx.nn.Conv2d(1, 12, 4, 4, key=a)
    self.blocks = [MixerBlock(16, 12, k) for k in keys]
    self.out = eqx.nn.Linear(12, 5, key=b)

  def __call__(self, x):
    y = self.conv_in(x)
    y = y.reshape(y.shape[0], -1)
    for block in self.blocks:
      y = block(y)
    return self.out(y.mean(1))


class UNet(eqx.Module):
  """Recursive, with an MLP's activations between convolutions."""

  down: eqx.nn.Conv2d
  inner: eqx.Module | None
  up: eqx.nn.ConvTranspose2d | None
  out: eqx.nn.Conv2d

  def __init__(self, before, width, depth, key):
    a, b, c, d = jax.random.split(key, 4)
    self.down = eqx.nn.Conv2d(before, width, 3, padding=1, key=a)
    self.inner = UNet(width, 2 * width, depth - 1, b) if depth else None
    self.up = eqx.nn.ConvTranspose2d(2 * width, width, 2, 2, key=c) if depth else None
    self.out = eqx.nn.Conv2d(width * (2 if depth else 1), width, 3, padding=1, key=d)

  def __call__(self, x):
    x = jax.nn.relu(self.down(x))
    if self.inner is not None:
      below = self.inner(eqx.nn.AvgPool2d(2, 2)(x))
      x = jnp.concatenate([x, jax.nn.relu(self.up(below))])
    return jax.nn.relu(self.out(x))


class ResNet(eqx.Module):
  """Residual blocks whose BatchNorm keeps its statistics in a state."""

  stem: eqx.nn.Conv2d
  convs: list
  norms: list
  out: eqx.nn.Linear

  def __init__(self, key):
    a, b, *keys = jax.random.split(key, 5)
    self.stem = eqx.nn.Conv2d(3, 8, 3, 2, 1, key=a)
    self.convs = [eqx.nn.Conv2d(8, 8, 3, padding=1, key=k) for k in keys]
    self.norms = [eqx.nn.BatchNorm(8, "batch", mode="ema") for _ in keys]
    self.out = eqx.nn.Linear(8, 5, key=b)

  def __call__(self, x, state):
    x = jax.nn.relu(self.stem(x))
    for conv, norm in zip(self.convs, self.norms):
      y, state = norm(conv(x), state)
      x = jax.nn.relu(x + y)
    return self.out(x.mean((1, 2))), state


class Series(eqx.Module):
  """Convolutions over time with PReLU."""

  layers: eqx.nn.Sequential

  def __init__(self, key):
    a, b, c = jax.random.split(key, 3)
    self.layers = eqx.nn.Sequential(
      [
        eqx.nn.Conv1d(2, 8, 5, padding=2, key=a),
        eqx.nn.Lambda(eqx.nn.PReLU(0.2)),
        eqx.nn.MaxPool1d(2, 2),
        eqx.nn.Conv1d(8, 12, 3, dilation=2, key=b),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.AdaptiveAvgPool1d(1),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Linear(12, 4, key=c),
      ]
    )

  def __call__(self, x):
    return self.layers(x)


class Decoder(eqx.Module):
  """Transposed convolutions, images out."""

  first: eqx.nn.Linear
  ups: list

  def __init__(self, key):
    a, b, c = jax.random.split(key, 3)
    self.first = eqx.nn.Linear(6, 8 * 16, key=a)
    self.ups = [
      eqx.nn.ConvTranspose2d(8, 8, 4, 2, padding=1, key=b),
      eqx.nn.ConvTranspose2d(8, 1, 4, 2, padding=1, key=c),
    ]

  def __call__(self, z):
    x = jax.nn.relu(self.first(z)).reshape(8, 4, 4)
    return jax.nn.sigmoid(self.ups[1](jax.nn.relu(self.ups[0](x))))


class Rnn(eqx.Module):
  """A GRU cell scanned over a sequence."""

  cell: eqx.nn.GRUCell
  linear: eqx.nn.Linear

  def __init__(self, key):
    a, b = jax.random.split(key)
    self.cell, self.linear = eqx.nn.GRUCell(3, 8, key=a), eqx.nn.Linear(8, 2, key=b)

  def __call__(self, x):
    hidden, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(8), x)
    return self.linear(jax.nn.relu(hidden))


class Attention(eqx.Module):
  """A block of a vision transformer."""

  norm: eqx.nn.LayerNorm
  attention: eqx.nn.MultiheadAttention
  linear: eqx.nn.Linear

  def __init__(self, key):
    a, b = jax.random.split(key)
    self.norm, self.attention = eqx.nn.LayerNorm(8), eqx.nn.MultiheadAttention(2, 8, key=a)
    self.linear = eqx.nn.Linear(8, 3, key=b)

  def __call__(self, x):
    y = jax.vmap(self.norm)(x)
    return self.linear(jax.nn.relu((x + self.attention(y, y, y)).mean(0)))


def _of(model, shape, state=None) -> Network:
  example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  own = eqx.nn.inference_mode(model)
  one = own if state is None else lambda x: own(x, state)[0]
  answer = jax.jit(jax.vmap(one, axis_name="batch"))
  return Network(answer, lambda: tcljax.from_equinox(model, example, state), shape)


def _random(make, shape):
  return _of(make(jax.random.key(0)), shape)


def _with_state(shape):
  """With the statistics of some random batches."""
  model, state = eqx.nn.make_with_state(ResNet)(jax.random.key(0))
  rng = np.random.default_rng(0)
  drawn = [rng.uniform(0.5, 1.5, 8) for _ in model.norms]
  drawn += [rng.normal(0, 0.1, 8) for _ in model.norms]
  model = eqx.tree_at(
    lambda m: [norm.weight for norm in m.norms] + [norm.bias for norm in m.norms],
    model,
    [jnp.asarray(a, jnp.float32) for a in drawn],
  )
  run = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
  for _ in range(3):
    x = jnp.asarray(rng.normal(0.3, 1.5, (8, *shape)), jnp.float32)
    _, state = run(x, state)
  return _of(model, shape, state)


def _trained():
  images, labels = digits()
  images, labels = jnp.asarray(images.transpose(0, 3, 1, 2)), jnp.asarray(labels)
  model = Cnn(jax.random.key(0), size=8)
  optimizer = optax.adam(2e-3)
  state = optimizer.init(eqx.filter(model, eqx.is_array))

  @eqx.filter_jit
  def step(model, state, x, y):
    def loss(model):
      return -jnp.take_along_axis(jax.vmap(model)(x), y[:, None], axis=1).mean()

    update, state = optimizer.update(eqx.filter_grad(loss)(model), state)
    return eqx.apply_updates(model, update), state

  for batch in np.random.default_rng(0).integers(0, len(images), (150, 64)):
    model, state = step(model, state, images[batch], labels[batch])
  return _of(model, (1, 8, 8))


def _entry(name, make, shape, source="", refused=""):
  return Entry(name, "equinox", functools.partial(_random, make, shape), source, refused)


NETWORKS = (
  _entry("MLP", lambda key: eqx.nn.MLP(6, 3, 32, 3, key=key), (6,), "eqx.nn.MLP"),
  _entry("MNIST CNN", Cnn, (1, 28, 28), "Equinox example mnist, with ReLU"),
  _entry("MLP-Mixer", Mixer, (1, 16, 16), "Equinox example score_based_diffusion, with ReLU"),
  _entry(
    "U-Net", lambda key: UNet(2, 6, 2, key), (2, 16, 16), "Equinox example unet, without norms"
  ),
  Entry("ResNet with a state", "equinox", lambda: _with_state((3, 16, 16)), "Equinox on BatchNorm"),
  _entry("time series, PReLU", Series, (2, 24)),
  _entry("decoder of images", Decoder, (6,)),
  Entry("MNIST CNN, digits", "equinox", _trained, "Equinox example mnist", trained=True),
  _entry(
    "MNIST CNN with sigmoid",
    functools.partial(Cnn, act=jax.nn.sigmoid),
    (1, 28, 28),
    "Equinox example mnist",
    "logistic",
  ),
  _entry("RNN", Rnn, (5, 3), "Equinox example train_rnn", "GRUCell|gru|logistic"),
  _entry("attention", Attention, (6, 8), "Equinox example vision_transformer", "LayerNorm|norm"),
)
