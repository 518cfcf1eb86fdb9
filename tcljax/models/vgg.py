"""VGG-style networks: stages of 3x3 convolutions and average pooling, then dense layers."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from tcljax.activations import ReLU
from tcljax.models.sizes import check_image_size


class VGG(nn.Module):
  """Convolution stages and dense layers, for any image size and class count.

  Simonyan & Zisserman (ICLR 2015) with average in place of maximum pooling, as conversion wants
  it: a mean of spikes is a sum of spikes, a maximum is not.

  Attributes:
    num_classes: outputs of the last layer.
    stages: widths of the 3x3 convolutions of each stage; 2x2 average pooling ends a stage.
    dense: widths of the hidden dense layers.
    batch_norm: whether BatchNorm follows each convolution.
    spiking_readout: whether the outputs pass through an activation too, so that the network's
      answer is the firing rate of output neurons instead of their accumulated current.
    act: the activation module; see `tcljax.activations`.
  """

  num_classes: int
  stages: tuple[tuple[int, ...], ...]
  dense: tuple[int, ...]
  batch_norm: bool = True
  spiking_readout: bool = False
  act: Callable[..., Any] = ReLU

  def smallest_image(self) -> int:
    """The least height and width that survive the poolings."""
    return 2 ** len(self.stages)

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [B, num_classes] of images [B, H, W, C].

    Args:
      x: images.
      train: whether BatchNorm uses the batch's statistics and updates the running ones.

    Raises:
      ValueError: if the images are too small for the poolings.
    """
    check_image_size(self, x.shape[1:3])
    for i, widths in enumerate(self.stages, 1):
      for j, width in enumerate(widths, 1):
        x = nn.Conv(width, (3, 3), name=f"conv{i}_{j}")(x)
        if self.batch_norm:
          x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"norm{i}_{j}")(x)
        x = self.act(name=f"act{i}_{j}")(x)
      x = nn.avg_pool(x, (2, 2), strides=(2, 2))
    x = x.reshape(x.shape[0], -1)
    for i, width in enumerate(self.dense, 1):
      x = self.act(name=f"act_dense{i}")(nn.Dense(width, name=f"dense{i}")(x))
    x = nn.Dense(self.num_classes, name="head")(x)
    return self.act(name="readout")(x) if self.spiking_readout else x


# The small network of the paper: 4 convolutions and 2 dense layers, the output layer counted.
CNN = functools.partial(VGG, stages=((32, 32), (64, 64)), dense=(256,))
VGG16 = functools.partial(
    VGG, stages=((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3), dense=(512,))
