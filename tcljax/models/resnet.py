"""Residual networks: the CIFAR ones of depth 6n+2, and ResNet-18 and ResNet-34."""

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

SHORTCUTS = ("pad", "projection")
STEMS = ("cifar", "imagenet")

# Padding is written out: "SAME" would pad a strided convolution on one side only.
_conv = functools.partial(nn.Conv, use_bias=False, conv_general_dilated=convolve)
_conv3x3 = functools.partial(_conv, kernel_size=(3, 3), padding=1)


class ResNet(nn.Module):
  """Stages of basic residual blocks, global average pooling, one dense layer.

  He et al. (CVPR 2016). The sum of branch and shortcut is an input current like any other: the
  activation after it integrates what both deliver.

  Attributes:
    num_classes: outputs of the dense layer.
    blocks: number of blocks of each stage; from the second stage on, the first block halves the
      image.
    widths: channels of each stage.
    shortcut: where a block changes the shape, "pad" takes every second pixel and fills new channels
      with zeros on both sides (option A), "projection" is a strided 1x1 convolution (option B).
    stem: "cifar" is a 3x3 convolution; "imagenet" a strided 7x7 convolution and 3x3 pooling,
      strided as well.
    pooling: of the stem for ImageNet: "average", or maximum "before" the activation, or by neurons
      that "gate"; see `tcljax.models.pooling`. Torchvision's weights want one of the latter two.
    dtype: what layers compute in, "float32" or "bfloat16"; see `tcljax.models.precision`.
    spiking_readout: whether the outputs pass through an activation too, so that the network's
      answer is the firing rate of output neurons instead of their accumulated current.
    act: the activation module; see `tcljax.layers.activations`.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> resnet20 = tcljax.ResNet(num_classes=10, blocks=(3, 3, 3), widths=(16, 32, 64))
    >>> variables = jax.eval_shape(resnet20.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))
    >>> sum(a.size for a in jax.tree.leaves(variables["params"]))  # 0.27 million in the paper
    269722
  """

  num_classes: int
  blocks: tuple[int, ...]
  widths: tuple[int, ...]
  shortcut: str = "pad"
  stem: str = "cifar"
  pooling: str = "average"
  dtype: str = "float32"
  spiking_readout: bool = False
  act: Callable[..., Any] = ReLU

  def smallest_image(self) -> int:
    """The least height and width: below it, stages would have no pixels left to halve."""
    return 2 ** (len(self.blocks) - 1) * (4 if self.stem == "imagenet" else 1)

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Logits [B, num_classes] of images [B, H, W, C].

    Args:
      x: images.
      train: whether BatchNorm uses the batch's statistics and updates the running ones.

    Raises:
      ValueError: on an unknown stem, shortcut, pooling or dtype, or a pooling where none is.
    """
    check_choice("stem", self.stem, STEMS)
    check_choice("shortcut", self.shortcut, SHORTCUTS)
    check_choice("pooling", self.pooling, POOLINGS)
    if self.stem == "cifar" and self.pooling != "average":
      raise ValueError(
        f"pooling={self.pooling!r} is of stem='imagenet', and stem='cifar' pools "
        "nothing: leave it out"
      )
    dtype = compute_dtype(self.dtype)
    check_images(self, x.shape)
    if len(self.blocks) != len(self.widths):
      raise ValueError(f"blocks={self.blocks} and widths={self.widths} must be equally long")
    norm = functools.partial(
      nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=dtype, name="stem_norm"
    )
    act = functools.partial(self.act, name="stem_act")
    if self.stem == "cifar":
      x = act()(norm()(_conv3x3(self.widths[0], dtype=dtype, name="stem_conv")(x)))
    else:
      x = norm()(
        _conv(self.widths[0], (7, 7), strides=2, padding=3, dtype=dtype, name="stem_conv")(x)
      )
      x = pooled_activation(act, x, self.pooling, MaxPool(3, stride=2, padding=1))
    for i, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True), 1):
      for j in range(1, blocks + 1):
        x = BasicBlock(
          width,
          2 if i > 1 and j == 1 else 1,
          self.shortcut,
          dtype,
          self.act,
          name=f"stage{i}_block{j}",
        )(x, train)
    x = x.mean(axis=(1, 2), dtype=jnp.float32)
    x = nn.Dense(self.num_classes, dtype=jnp.float32, name="head")(x)
    return self.act(name="readout")(x) if self.spiking_readout else x


class BasicBlock(nn.Module):
  """Two 3x3 convolutions beside a shortcut, and an activation after their sum.

  Attributes:
    width: channels of its output.
    stride: 2 where the block halves the image.
    shortcut: see `ResNet`.
    dtype: what its layers compute in.
    act: the activation module.
  """

  width: int
  stride: int
  shortcut: str
  dtype: Any
  act: Callable[..., Any]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """[B, H, W, C] to [B, H / stride, W / stride, width]."""
    conv3x3 = functools.partial(_conv3x3, self.width, dtype=self.dtype)
    norm = functools.partial(
      nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype
    )
    y = conv3x3(strides=self.stride, name="conv1")(x)
    y = self.act(name="act1")(norm(name="norm1")(y))
    y = norm(name="norm2")(conv3x3(name="conv2")(y))
    if self.stride != 1 or x.shape[-1] != self.width:
      if self.shortcut == "projection":
        x = _conv(self.width, (1, 1), strides=self.stride, dtype=self.dtype, name="projection")(x)
        x = norm(name="projection_norm")(x)
      else:
        x = _pad_channels(x[:, :: self.stride, :: self.stride], self.width)
    return self.act(name="act2")(x + y)


def _pad_channels(x, width):
  """Zeros as new channels, half of them before the old ones."""
  new = width - x.shape[-1]
  if new < 0:
    raise ValueError(
      f"shortcut='pad' cannot go from {x.shape[-1]} channels to {width}: choose "
      "widths that do not shrink, or shortcut='projection'"
    )
  return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))


_CIFAR_WIDTHS = (16, 32, 64)
ResNet20, ResNet32, ResNet44, ResNet56, ResNet110 = (
  functools.partial(ResNet, blocks=(n,) * 3, widths=_CIFAR_WIDTHS) for n in (3, 5, 7, 9, 18)
)
ResNet18, ResNet34 = (
  functools.partial(
    ResNet, blocks=blocks, widths=(64, 128, 256, 512), shortcut="projection", stem="imagenet"
  )
  for blocks in ((2, 2, 2, 2), (3, 4, 6, 3))
)
