"""SqueezeNet 1.0 with its published weights, written in three frameworks as each would have it."""

import os
import pathlib

import numpy as np

FIRES = {f"fire{i}": width for i, width in zip(range(2, 10), (16, 16, 32, 32, 48, 48, 64, 64))}
_POOLED = ("fire4", "fire8")  # what maxima follow


def _path() -> pathlib.Path:
  return pathlib.Path(os.environ.get("TCLJAX_WEIGHTS_DIR", "")) / "squeezenet_v10.npz"


def are_there() -> bool:
  """Whether $TCLJAX_WEIGHTS_DIR holds the published weights."""
  return "TCLJAX_WEIGHTS_DIR" in os.environ and _path().exists()


def weights() -> dict[str, np.ndarray]:
  """`NAME.w`, [out, in, height, width], and `NAME.b`: the published ones if they are there."""
  if are_there():
    with np.load(_path()) as found:
      return dict(found)
  shapes, before = {"conv1": (96, 3, 7, 7)}, 96
  for fire, width in FIRES.items():
    shapes[f"{fire}__conv1x1_1"] = (width, before, 1, 1)
    shapes[f"{fire}__conv1x1_2"] = (4 * width, width, 1, 1)
    shapes[f"{fire}__conv3x3_2"] = (4 * width, width, 3, 3)
    before = 8 * width
  shapes["conv_final"] = (1000, before, 1, 1)
  rng, found = np.random.default_rng(0), {}
  for name, shape in shapes.items():
    deviation = np.sqrt(2 / np.prod(shape[1:]))
    found[f"{name}.w"] = rng.normal(0, deviation, shape).astype(np.float32)
    found[f"{name}.b"] = rng.normal(0, 0.05, shape[:1]).astype(np.float32)
  return found


def in_torch(weights):
  """As a module of PyTorch, channels first."""
  import torch
  from torch import nn

  class Fire(nn.Module):
    def __init__(self, before, width):
      super().__init__()
      self.conv1x1_1 = nn.Conv2d(before, width, 1)
      self.conv1x1_2 = nn.Conv2d(width, 4 * width, 1)
      self.conv3x3_2 = nn.Conv2d(width, 4 * width, 3, padding=1)
      self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
      x = self.relu(self.conv1x1_1(x))
      return torch.cat([self.relu(self.conv1x1_2(x)), self.relu(self.conv3x3_2(x))], 1)

  class SqueezeNet(nn.Module):
    def __init__(self):
      super().__init__()
      self.conv1, before = nn.Conv2d(3, 96, 7, 2), 96
      for name, width in FIRES.items():
        self.add_module(name, Fire(before, width))
        before = 8 * width
      self.conv_final = nn.Conv2d(before, 1000, 1)

    def forward(self, x):
      x = nn.functional.max_pool2d(nn.functional.relu(self.conv1(x)), 3, 2)
      for name in FIRES:
        x = getattr(self, name)(x)
        if name in _POOLED:
          x = nn.functional.max_pool2d(x, 3, 2)
      return nn.functional.relu(self.conv_final(x)).mean((2, 3))

  module = SqueezeNet()
  kinds = {"w": "weight", "b": "bias"}
  state = {
    f"{name.replace('__', '.')}.{kinds[kind]}": torch.from_numpy(np.array(a))
    for (name, kind), a in ((key.rsplit(".", 1), a) for key, a in weights.items())
  }
  module.load_state_dict(state)
  return module


def in_keras(weights, size=227):
  """As a functional model of Keras, for images of this size."""
  import keras
  from keras import layers

  def conv(x, name, width, *args, **kwargs):
    return layers.Conv2D(width, *args, activation="relu", name=name, **kwargs)(x)

  inputs = keras.Input((size, size, 3))
  x = layers.MaxPooling2D(3, 2)(conv(inputs, "conv1", 96, 7, 2))
  for fire, width in FIRES.items():
    x = conv(x, f"{fire}__conv1x1_1", width, 1)
    narrow = conv(x, f"{fire}__conv1x1_2", 4 * width, 1)
    wide = conv(x, f"{fire}__conv3x3_2", 4 * width, 3, padding="same")
    x = layers.concatenate([narrow, wide])
    if fire in _POOLED:
      x = layers.MaxPooling2D(3, 2)(x)
  x = layers.GlobalAveragePooling2D()(conv(x, "conv_final", 1000, 1))
  model = keras.Model(inputs, x)
  for layer in model.layers:
    if f"{layer.name}.w" in weights:
      layer.set_weights(
        [weights[f"{layer.name}.w"].transpose(2, 3, 1, 0), weights[f"{layer.name}.b"]]
      )
  return model


def in_linen(weights):
  """As a module of Flax Linen without a field `act`, and its variables."""
  import flax.linen as nn
  import jax.numpy as jnp

  class SqueezeNet(nn.Module):
    @nn.compact
    def __call__(self, x):
      def conv(x, name, width, size, strides=1, padding="VALID"):
        return nn.relu(nn.Conv(width, (size, size), strides, padding, name=name)(x))

      x = nn.max_pool(conv(x, "conv1", 96, 7, 2), (3, 3), (2, 2))
      for fire, width in FIRES.items():
        x = conv(x, f"{fire}__conv1x1_1", width, 1)
        narrow = conv(x, f"{fire}__conv1x1_2", 4 * width, 1)
        wide = conv(x, f"{fire}__conv3x3_2", 4 * width, 3, padding="SAME")
        x = jnp.concatenate([narrow, wide], axis=-1)
        if fire in _POOLED:
          x = nn.max_pool(x, (3, 3), (2, 2))
      return conv(x, "conv_final", 1000, 1).mean((1, 2))

  params = {}
  for key, a in weights.items():
    name, kind = key.rsplit(".", 1)
    leaf = (
      {"kernel": jnp.asarray(a.transpose(2, 3, 1, 0))} if kind == "w" else {"bias": jnp.asarray(a)}
    )
    params.setdefault(name, {}).update(leaf)
  return SqueezeNet(), {"params": params}
