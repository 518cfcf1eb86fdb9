"""The networks of benchmarks/nir_clients.py, as they are and with weights whose sums are exact."""

import functools
import os

import jax
import nir
import numpy as np

import tcljax
from tcljax.layers.activations import TCL, with_activation

TIME_STEPS = 64
# Multiples that are exact: pixels are below 4, and potentials stay far below 2**24 of their units.
_PIXELS, _ANALOG, _SPIKING = 2.0**-6, 2.0**-7, 2.0**-10


def cnn(images, seed=0):
  """The paper's CNN with random weights."""
  model = tcljax.CNN(num_classes=10)
  return model, drawn(model, images, seed)


def resnet20(images):
  """The pretrained ResNet-20; ValueError where its weights are not."""
  weights = os.environ.get("TCLJAX_WEIGHTS_DIR")
  if not weights:
    raise ValueError("TCLJAX_WEIGHTS_DIR is not set: name the folder of resnet20_cifar10.th")
  model = tcljax.create_model("resnet20", num_classes=10)
  return model, tcljax.load_pretrained(f"{weights}/resnet20_cifar10.th", model, images.shape[1:])


def vgg16(images):
  """VGG-16 with random weights."""
  model = tcljax.VGG16(num_classes=10)
  return model, drawn(model, images, 2)


# By name: title, model and variables, and how thresholds are calibrated.
NETWORKS = {
  "cnn": ("CNN", cnn, {"per_channel": False}),
  "per_channel": ("CNN, thresholds per channel", functools.partial(cnn, seed=1), {}),
  # The initial potential in the library's default number of instalments.
  "resnet20": ("ResNet-20, pretrained", resnet20, {"instalments": 8}),
  "vgg16": ("VGG-16", vgg16, {}),
}


def converted(name, images, training_images):
  """One of the networks, converted at T = 64."""
  _, make, given = NETWORKS[name]
  model, variables = make(images)
  model = with_activation(model, TCL)
  settings = {"per_channel": True, "instalments": 1, **given}
  variables = tcljax.calibrate(
    model,
    variables,
    [training_images],
    method="percentile",
    percentile=99.9,
    v_init=0.5,
    **settings,
  )
  spiking = tcljax.SpikingConfig(time_steps=TIME_STEPS)
  return tcljax.convert(model, variables, images.shape[1:], spiking)


def drawn(model, images, seed):
  """Random variables of a model, BatchNorm's too."""
  rng = np.random.default_rng(seed)
  spread = {"scale": (0.7, 1.3), "bias": (-0.2, 0.2), "mean": (-0.2, 0.2), "var": (0.5, 1.5)}

  def draw(path, a):
    return a if a.ndim > 1 else np.float32(rng.uniform(*spread[path[-1].key], a.shape))

  return jax.tree_util.tree_map_with_path(draw, model.init(jax.random.key(seed), images[:1]))


def rounded_pixels(images):
  """Images of pixels that are multiples of a power of two."""
  return np.float32(np.round(images / _PIXELS) * _PIXELS)


def on_a_grid(graph):
  """The same graph with weights and biases that are multiples of powers of two."""
  analog, waiting = set(), ["input"]
  while waiting:
    name = waiting.pop()
    analog.add(name)
    waiting += [b for a, b in graph.edges if a == name and not isinstance(graph.nodes[b], nir.IF)]
  for name, node in graph.nodes.items():
    if hasattr(node, "weight"):
      unit = _ANALOG if name in analog else _SPIKING
      node.weight = (np.round(node.weight / unit) * unit).astype(np.float32)
      node.bias = (np.round(node.bias / unit) * unit).astype(np.float32)
  return graph
