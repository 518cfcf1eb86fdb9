"""Models keep their axes in any order, and the graph keeps them channels last at no cost.

`trace` itself compares the network with the function, at two batch sizes.
"""

import jax
import jax.numpy as jnp
import pytest
from functions import IMAGES, LAST, MIX, SQUARE, conv, currents, head, ops, stem, weights

import tcljax

CHANNELS_FIRST = jax.ShapeDtypeStruct((2, 3, 8, 8), jnp.float32)
FIRST, SECOND = weights(4, 3, 3, 3), weights(4, 4, 3, 3)
FLAT, WIDE, NARROW, BIAS = weights(64, 5), weights(192, 16), weights(16, 5), weights(16)
TOKENS, BACK = weights(64, 10), weights(10, 64)
GROUPED, WHOLE = weights(2, 2, 6), weights(4, 8, 8, 5)


def channels_first(x, kernel):
  numbers = ("NCHW", "OIHW", "NCHW")
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def like_pytorch(x):
  """Convolutions, a norm, a shortcut, pooling and a flattening, channels first."""
  scale = jnp.array([1.0, -0.5, 2.0, 0.3])[None, :, None, None]
  y = jax.nn.relu(channels_first(x, FIRST) * scale + 0.1)
  y = jax.nn.relu(y + channels_first(y, SECOND))
  y = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
  return y.reshape(y.shape[0], -1) @ FLAT


def test_channels_first_cost_one_transposition_of_the_input():
  network = tcljax.trace(like_pytorch, CHANNELS_FIRST)
  # The flattening keeps the order of the model: the weights that follow are sorted instead.
  wanted = ["transpose", "conv", "neurons", "conv", "add", "neurons", "reshape", "dense"]
  assert ops(network) == wanted
  assert [shape[-1] for shape in channels(network)] == [4, 4]


def channels(network):
  """The shapes of the thresholds that calibration finds."""
  images = jax.random.normal(jax.random.key(0), (4, 3, 8, 8))
  variables = tcljax.calibrate(network.model, network.variables, [images])
  return [tau.shape for tau in tcljax.thresholds(variables).values()]


@pytest.mark.parametrize(
  "function, wanted",
  [
    # The batch is where jax.vmap puts it.
    (
      jax.vmap(lambda x: NARROW.T @ jax.nn.relu(WIDE.T @ x.reshape(-1) + BIAS)),
      ["reshape", "dense", "neurons", "dense"],
    ),
    (
      jax.vmap(lambda x: stem(x[None])[0].mean((0, 1)) @ LAST),
      ["conv", "neurons", "sum", "affine", "dense"],
    ),
    # Tokens are merged with the batch, then mixed with each other.
    (
      lambda x: (jax.nn.relu(stem(x).reshape(-1, 4) @ MIX) @ LAST).reshape(-1, 64, 5).mean(1),
      ["conv", "neurons", "dense", "neurons", "dense", "sum", "affine"],
    ),
    (
      lambda x: jnp.einsum(
        "btc,ts->bsc", jax.nn.relu(jnp.einsum("btc,ts->bsc", x.reshape(-1, 64, 3), TOKENS)), BACK
      ).mean(1),
      ["transpose", "reshape", "dense", "neurons", "dense", "sum", "affine"],
    ),
    # Products over several axes, and groups with weights of their own.
    (
      lambda x: jnp.einsum("bhwc,chwd->bd", stem(x), WHOLE),
      ["conv", "neurons", "reshape", "dense"],
    ),
    (
      lambda x: head(
        jnp.einsum("bhwgi,gio->bhwgo", stem(x).reshape(-1, 8, 8, 2, 2), GROUPED).reshape(
          -1, 8, 8, 12
        )
      ),
      ["conv", "neurons", "reshape", "conv", "reshape"],
    ),
    # A convolution of several images an example: one more axis, on which the kernel has size 1.
    (
      lambda x: jax.vmap(lambda y: conv(y, SQUARE), in_axes=1, out_axes=1)(
        jnp.stack([stem(x)] * 2, axis=1)
      ).sum((1, 2, 3)),
      ["conv", "neurons", "reshape", "concatenate", "conv", "sum"],
    ),
    (
      lambda x: head(stem(x).reshape(-1, 8, 8, 2, 2).swapaxes(-1, -2).reshape(-1, 8, 8, 4) * 2.0),
      ["conv", "neurons", "reshape", "affine", "sum", "affine", "reshape", "dense"],
    ),
    # Axes that no stored one ends at.
    (
      lambda x: stem(x)[:, :6].reshape(-1, 4, 48).sum(1),
      ["conv", "neurons", "slice", "reshape", "sum"],
    ),
  ],
)
def test_what_a_layout_becomes(function, wanted):
  assert ops(tcljax.trace(function, IMAGES)) == wanted


def test_branches_of_unlike_layouts_are_added():
  """Tokens beside images, and a mean over the image beside the image."""
  flat = lambda x: stem(x).reshape(-1, 64, 4).swapaxes(1, 2)
  network = tcljax.trace(
    lambda x: (flat(x) + currents(x).transpose(0, 3, 1, 2).reshape(-1, 4, 64)).sum(-1), IMAGES
  )
  assert ops(network).count("add") == 1
  network = tcljax.trace(lambda x: head(stem(x) + stem(x).mean((1, 2), keepdims=True)), IMAGES)
  assert "take" not in ops(network)  # the sum repeats it


def test_the_batch_must_come_first_and_alone_in_what_is_returned():
  for function in (lambda x: stem(x).mean((1, 2)).T, lambda x: stem(x).reshape(-1, 4)):
    with pytest.raises(ValueError, match=r"whose first axis is not the batch: let it return \[bat"):
      tcljax.trace(function, IMAGES)
