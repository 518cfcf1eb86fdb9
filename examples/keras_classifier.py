"""A network of Keras 3 that reads digits, made a spiking network.

    python examples/keras_classifier.py

Keras trains it on scikit-learn's digits, with JAX beneath. `from_keras` reads it for inference and
leaves out the softmax at its end; `calibrate` and `tune` find thresholds for T = 8 steps; `convert`
makes a spiking network that needs no Keras.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import tcljax


def build():
  """Two convolutions, the second beside a shortcut, and a classifier."""
  inputs = keras.Input((8, 8, 1))
  x = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(inputs)
  x = shortcut = layers.MaxPooling2D(2)(x)
  x = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x))
  x = layers.ReLU(name="joined")(layers.add([x, shortcut]))
  x = layers.Dropout(0.2)(layers.Flatten()(x))
  return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def main(epochs=10, tune_steps=100):
  """Trains, converts and measures; returns what was measured, and the spiking network."""
  digits = load_digits()
  images = np.float32((digits.images[..., None] / 16 - 0.305) / 0.376)  # [1797, 8, 8, 1]
  images, test_images = images[:1437], images[1437:]
  labels, test_labels = digits.target[:1437], digits.target[1437:]
  keras.utils.set_random_seed(0)
  model = build()
  model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
  model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)

  net = tcljax.from_keras(model)
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
  flags.add_argument("--epochs", type=int, default=10, help="of training")
  flags.add_argument("--tune_steps", type=int, default=100, help="of tuning the thresholds")
  main(**vars(flags.parse_args()))
