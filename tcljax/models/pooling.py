"""Three ways to pool the image around an activation."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from tcljax.maths.max_pooling import MaxPool

POOLINGS = ("average", "before", "gate")


def pooled_activation(
  act: Callable[..., Any], x: jax.Array, pooling: str, windows: MaxPool
) -> jax.Array:
  """The activation with pooling before, in or after it.

  As an ANN, "before" and "gate" are the same network: the maximum of ReLUs is the ReLU of the
  maximum. As a spiking one, "before" takes the largest input current of each step, which is more
  than the largest mean current; "gate" passes as many spikes as the neuron that fired most.

  Args:
    act: makes the activation; its name is given already.
    x: pre-activations, [B, H, W, C].
    pooling: "average" of the activations, maximum "before" them, or "gate", see `MaxPool`.
    windows: what is pooled; averages leave out padded pixels.

  Returns:
    [B, H', W', C].
  """
  if pooling == "gate":
    return act(max_pool=windows)(x)
  window, strides = ((n,) * 2 for n in (windows.window, windows.stride))
  padding: Any = ((windows.padding,) * 2,) * 2  # Flax's functions take pairs; their type is str
  if pooling == "before":
    return act()(nn.max_pool(x, window, strides, padding))
  return nn.avg_pool(act()(x), window, strides, padding, count_include_pad=not windows.padding)
