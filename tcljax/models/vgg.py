"""VGG-style networks: stages of 3x3 convolutions and pooling, then dense layers."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.checks import check_choice
from tcljax.kernels.convolution import convolve
from tcljax.layers.activations import ReLU
from tcljax.maths.max_pooling import MaxPool
from tcljax.models.pooling import POOLINGS, pooled_activation
from tcljax.models.precision import compute_dtype
from tcljax.models.sizes import check_images


class VGG(nn.Module):
  """Convolution stages and dense layers, for any image size and class count.

  Simonyan & Zisserman (ICLR 2015). By default with average in place of maximum pooling, which is
  easiest to convert: a mean of spikes is a sum of spikes, a maximum is not.

  Attributes:
    num_classes: outputs of the last layer.
    stages: widths of the 3x3 convolutions of each stage; 2x2 pooling ends a stage.
    dense: widths of the hidden dense layers.
    batch_norm: whether BatchNorm follows each convolution.
    pooling: "average", or maximum "before" the activation, or by neurons that "gate"; see
      `tcljax.models.pooling`. Weights of torchvision's VGGs want one of the latter two.
    dtype: what layers compute in, "float32" or "bfloat16"; see `tcljax.models.precision`.
    spiking_readout: whether the outputs pass through an activation too, so that the network's
      answer is the firing rate of output neurons instead of their accumulated current.
    act: the activation module; see `tcljax.layers.activations`.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> model = tcljax.VGG(num_classes=3, stages=((4, 4),), dense=(8,))
    >>> images = jnp.ones((2, 4, 4, 1))
    >>> jax.eval_shape(model.init_with_output, jax.random.key(0), images)[0].shape
    (2, 3)
    >>> tcljax.CNN(num_classes=10).stages, tcljax.VGG16(num_classes=10).dense  # sizes with names
    (((32, 32), (64, 64)), (512,))
  """

  num_classes: int
  stages: tuple[tuple[int, ...], ...]
  dense: tuple[int, ...]
  batch_norm: bool = True
  pooling: str = "average"
  dtype: str = "float32"
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
      ValueError: on an unknown pooling or dtype, a stage without convolutions, or images that are
        too small for the poolings.
    """
    check_choice("pooling", self.pooling, POOLINGS)
    if not self.stages or not all(self.stages):
      raise ValueError(
        f"stages={self.stages}: there is at least one stage, and one convolution in each"
      )
    dtype = compute_dtype(self.dtype)
    norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=dtype)
    conv = _WithFixedBias if self.batch_norm and train else nn.Conv
    conv3x3 = functools.partial(
      conv, kernel_size=(3, 3), dtype=dtype, conv_general_dilated=convolve
    )
    check_images(self, x.shape)
    for i, widths in enumerate(self.stages, 1):
      for j, width in enumerate(widths, 1):
        x = conv3x3(width, name=f"conv{i}_{j}")(x)
        if self.batch_norm:
          x = norm(name=f"norm{i}_{j}")(x)
        act = functools.partial(self.act, name=f"act{i}_{j}")
        ends_stage = j == len(widths)
        x = pooled_activation(act, x, self.pooling, MaxPool(2)) if ends_stage else act()(x)
    x = x.reshape(x.shape[0], -1)
    for i, width in enumerate(self.dense, 1):
      x = self.act(name=f"act_dense{i}")(nn.Dense(width, dtype=dtype, name=f"dense{i}")(x))
    x = nn.Dense(self.num_classes, dtype=jnp.float32, name="head")(x)
    return self.act(name="readout")(x) if self.spiking_readout else x


class _WithFixedBias(nn.Conv):
  """A convolution before BatchNorm in training, which takes the mean of the batch away again.

  The gradient to its bias is 0 but for rounding, and costs a pass over that to its output.
  """

  def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
    value = super().param(name, *args, **kwargs)
    return jax.lax.stop_gradient(value) if name == "bias" else value


CNN = functools.partial(VGG, stages=((32, 32), (64, 64)), dense=(256,))
"""The small network of the paper: a `VGG` of 4 convolutions and 2 dense layers, with the last one.

Takes the fields of `VGG`.

Examples:
  >>> import tcljax
  >>> model = tcljax.CNN(num_classes=10)
  >>> model.stages, model.dense
  (((32, 32), (64, 64)), (256,))
"""


def _of_depth(*convolutions: int) -> functools.partial:
  stages = tuple(
    (width,) * n for n, width in zip(convolutions, (64, 128, 256, 512, 512), strict=True)
  )
  return functools.partial(VGG, stages=stages, dense=(512,))


# Simonyan & Zisserman, table 1: configurations A, B, D and E.
VGG11 = _of_depth(1, 1, 2, 2, 2)
VGG13 = _of_depth(2, 2, 2, 2, 2)
VGG16 = _of_depth(2, 2, 3, 3, 3)
"""A `VGG` of 13 convolutions and 2 dense layers, for small images.

Takes the fields of `VGG`.

Examples:
  >>> import tcljax
  >>> model = tcljax.VGG16(num_classes=10)
  >>> [len(widths) for widths in model.stages]
  [2, 2, 3, 3, 3]
"""
VGG19 = _of_depth(2, 2, 4, 4, 4)
