"""Three ways to pool the image around an activation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from tcljax.maths.max_pooling import CURRENTS, SPIKES, MaxPool

POOLINGS = ("average", "before", "gate")


def pooled_activation(
  act: Callable[..., Any], x: jax.Array, pooling: str, windows: MaxPool
) -> jax.Array:
  """The activation with pooling before, in or after it.

  As an ANN, "before" and "gate" are the same network: the maximum of ReLUs is the ReLU of the
  maximum. As a spiking one, "before" has one neuron for each window, whose input is the largest of
  the window's currents; "gate" has one for each pixel, and passes as many spikes as the neuron that
  fired most. Both come to the ANN with T.

  Args:
    act: makes the activation; its name is given already.
    x: pre-activations, [B, H, W, C].
    pooling: "average" of the activations, maximum "before" them, or "gate"; see `MaxPool.of`.
    windows: what is pooled; averages leave out padded pixels.

  Returns:
    [B, H', W', C].
  """
  if pooling != "average":
    of = {"before": CURRENTS, "gate": SPIKES}[pooling]
    return act(max_pool=MaxPool(windows.window, windows.stride, windows.padding, of))(x)
  sizes, strides, ends = windows.along(x.shape[1:-1])
  padding: Any = ends  # Flax's functions take pairs; their type is str
  padded = any(map(any, ends))
  return nn.avg_pool(act()(x), sizes, strides, padding, count_include_pad=not padded)
