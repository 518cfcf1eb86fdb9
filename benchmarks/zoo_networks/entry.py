"""What the zoo knows of a network, whatever its framework."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import tcljax


@dataclasses.dataclass(frozen=True)
class Network:
  """A network with weights.

  Attributes:
    answer: the framework's own outputs for inputs [B, ...], in inference mode.
    trace: converts it by the framework's adapter.
    shape: of one input.
  """

  answer: Callable[[np.ndarray], Any]
  trace: Callable[[], tcljax.Traced]
  shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
  """A network of the zoo.

  Attributes:
    name: of the network.
    framework: the name of its module in `zoo_networks`.
    make: the network, with weights that are the same each time.
    source: the example of a framework's documentation, or the network of its library, whose kind
      it is of; "" for one of our own.
    refused: what `tcljax` must say, as a regular expression; "" for a network that it converts.
    trained: whether its weights are trained, on scikit-learn's digits or elsewhere.
  """

  name: str
  framework: str
  make: Callable[[], Network]
  source: str = ""
  refused: str = ""
  trained: bool = False


def digits() -> tuple[np.ndarray, np.ndarray]:
  """Training images of scikit-learn's digits, [1437, 8, 8, 1], and their labels."""
  from sklearn.datasets import load_digits

  found = load_digits()
  images = (found.images[..., None] / 16 - 0.305) / 0.376
  return images[:1437].astype(np.float32), found.target[:1437].astype(np.int32)
