"""A network of Equinox that reads digits, made a spiking network.

    python examples/equinox_classifier.py

Optax trains it on scikit-learn's digits. `from_equinox` reads it for inference and gives it a
batch, as Equinox's layers take one example; `calibrate` and `tune` find thresholds for T = 8 steps;
`convert` makes a spiking network that needs no Equinox.
"""

import argparse

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import tcljax


class Net(eqx.Module):
  """Two convolutions and a classifier."""

  convs: list
  last: eqx.nn.Linear

  def __init__(self, key):
    first, second, last = jax.random.split(key, 3)
    self.convs = [eqx.nn.Conv2d(c, 16, 3, padding=1, key=k) for c, k in ((1, first), (16, second))]
    self.last = eqx.nn.Linear(64, 10, key=last)

  def __call__(self, x):
    """Logits [10] of one image [1, 8, 8]."""
    for conv in self.convs:
      x = eqx.nn.MaxPool2d(2, 2)(jax.nn.relu(conv(x)))
    return self.last(x.ravel())


def train(model, images, labels, steps):
  """The model after Adam on batches of 64; thresholds play no part in it."""
  optimizer = optax.adam(3e-3)
  state = optimizer.init(eqx.filter(model, eqx.is_array))

  @eqx.filter_jit
  def step(model, state, x, y):
    def loss(model):
      return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    updates, state = optimizer.update(eqx.filter_grad(loss)(model), state)
    return eqx.apply_updates(model, updates), state

  rng = np.random.default_rng(0)
  for _ in range(steps):
    batch = rng.integers(len(images), size=64)
    model, state = step(model, state, images[batch], labels[batch])
  return model


def main(steps=300, tune_steps=100):
  """Trains, converts and measures; returns what was measured, and the spiking network."""
  digits = load_digits()
  images = np.float32((digits.images[:, None] / 16 - 0.305) / 0.376)  # [1797, 1, 8, 8]
  images, test_images = images[:1437], images[1437:]
  labels, test_labels = digits.target[:1437], digits.target[1437:]
  model = train(Net(jax.random.key(0)), images, labels, steps)

  net = tcljax.from_equinox(model, images[:1])
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
