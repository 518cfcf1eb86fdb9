"""A network of Flax NNX that reads digits, made a spiking network.

    python examples/nnx_classifier.py

Optax trains it on scikit-learn's digits. `from_nnx` reads it as it runs for inference;
`calibrate` and `tune` find thresholds for T = 8 steps; `convert` makes a spiking network.
"""

import argparse

import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

import tcljax


class Net(nnx.Module):
  """Two convolutions with BatchNorm and a classifier."""

  def __init__(self, rngs):
    self.convs = nnx.List([nnx.Conv(c, 16, (3, 3), use_bias=False, rngs=rngs) for c in (1, 16)])
    self.norms = nnx.List([nnx.BatchNorm(16, momentum=0.9, rngs=rngs) for _ in range(2)])
    self.drop = nnx.Dropout(0.2, rngs=rngs)
    self.last = nnx.Linear(64, 10, rngs=rngs)

  def __call__(self, x):
    """Logits [B, 10] of images [B, 8, 8, 1]."""
    for conv, norm in zip(self.convs, self.norms):
      x = nnx.max_pool(nnx.relu(norm(conv(x))), (2, 2), (2, 2))
    return self.last(self.drop(x.reshape(len(x), -1)))


def train(model, images, labels, steps):
  """Adam on batches of 64; thresholds play no part in it."""
  optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer, x, y):
    def loss(model):
      return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    optimizer.update(model, nnx.grad(loss)(model))

  rng = np.random.default_rng(0)
  for _ in range(steps):
    batch = rng.integers(len(images), size=64)
    step(model, optimizer, images[batch], labels[batch])


def main(steps=300, tune_steps=100):
  """Trains, converts and measures; returns what was measured, and the spiking network."""
  digits = load_digits()
  images = np.float32((digits.images[..., None] / 16 - 0.305) / 0.376)  # [1797, 8, 8, 1]
  images, test_images = images[:1437], images[1437:]
  labels, test_labels = digits.target[:1437], digits.target[1437:]
  model = Net(nnx.Rngs(0))
  train(model, images, labels, steps)

  net = tcljax.from_nnx(model, images[:1])
  print("populations:", *net.populations)
  eight, sixteen = (tcljax.SpikingConfig(time_steps=t) for t in (8, 16))
  variables = tcljax.calibrate(net.model, net.variables, [images], eight)
  variables = tcljax.tune(net.model, variables, images, spiking=eight, steps=tune_steps)
  found = tcljax.evaluate(net.model, variables, test_images, test_labels, sixteen)
  print(f"ANN {found.ann:.2f} %")
  for t in (8, 16):
    accuracy, spikes = found.snn[t - 1], found.spikes_per_neuron[t - 1]
    print(f"SNN at T = {t}: {accuracy:.2f} %, {spikes:.2f} spikes a neuron and image")
  network = tcljax.convert(net.model, variables, input_shape=images.shape[1:], spiking=eight)
  right = np.mean(network(test_images).argmax(axis=-1) == test_labels)
  print(f"converted, at T = 8: {100 * right:.2f} %")
  return found, network


if __name__ == "__main__":
  flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  flags.add_argument("--steps", type=int, default=300, help="of training")
  flags.add_argument("--tune_steps", type=int, default=100, help="of tuning the thresholds")
  main(**vars(flags.parse_args()))
