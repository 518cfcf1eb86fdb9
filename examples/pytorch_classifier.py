"""A PyTorch module of your own that reads digits, made a spiking network.

    python examples/pytorch_classifier.py

PyTorch trains it on scikit-learn's digits. `from_torch` reads it as it is, functional ReLUs and
all; `calibrate` and `tune` find thresholds for T = 8 steps; `convert` makes a spiking network that
needs no PyTorch.
"""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import tcljax


class Net(nn.Module):
  """A convolution, a residual block and a classifier."""

  def __init__(self):
    super().__init__()
    self.stem = nn.Conv2d(1, 16, 3, padding=1)
    self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    self.norm1 = nn.BatchNorm2d(16)
    self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
    self.last = nn.Linear(16 * 16, 10)

  def forward(self, x):
    """Logits [B, 10] of images [B, 1, 8, 8]."""
    x = functional.max_pool2d(functional.relu(self.stem(x)), 2)
    y = functional.relu(self.norm1(self.conv1(x)))
    x = functional.relu(x + self.conv2(y))
    return self.last(functional.dropout(x.flatten(1), 0.2, self.training))


def train(module, images, labels, steps):
  """Adam on batches of 64; thresholds play no part in it."""
  images, labels = torch.from_numpy(images), torch.from_numpy(labels)
  optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
  for _ in range(steps):
    batch = torch.randint(len(images), (64,))
    loss = functional.cross_entropy(module(images[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main(steps=300, tune_steps=100):
  """Trains, converts and measures; returns what was measured, and the spiking network."""
  digits = load_digits()
  images = np.float32((digits.images[:, None] / 16 - 0.305) / 0.376)  # [1797, 1, 8, 8]
  images, test_images = images[:1437], images[1437:]
  labels, test_labels = digits.target[:1437], digits.target[1437:]
  torch.manual_seed(0)
  torch.set_num_threads(1)  # layers are so small that threads would wait for each other
  module = Net()
  train(module, images, labels, steps)

  net = tcljax.from_torch(module, images[:1])
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
