"""Networks of two inputs and two outputs: traced, and one of Linen with its twin of one array."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import tcljax

T4 = tcljax.SpikingConfig(time_steps=4)
KINDS = {"class": "classes", "box": "quantities"}
SHAPES = {"image": (6, 6, 1), "vector": (3,)}
_rng = np.random.default_rng(0)


def weights(*shape):
  return jnp.asarray(_rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), jnp.float32)


KERNEL, MIX, JOIN = weights(3, 3, 1, 4), weights(3, 5), weights(41, 8)
CLASS, BOX = weights(8, 3), 50 * weights(8, 4)


def function(x):
  layout = ("NHWC", "HWIO", "NHWC")
  y = jax.lax.conv_general_dilated(x["image"], KERNEL, (2, 2), "SAME", dimension_numbers=layout)
  y = jax.nn.relu(y).reshape(len(y), -1)
  z = jax.nn.relu(jnp.concatenate([y, jax.nn.relu(x["vector"] @ MIX)], axis=1) @ JOIN)
  return {"class": z @ CLASS, "box": z @ BOX}


def inputs(count=16):
  rng = np.random.default_rng(1)
  drawn = {name: rng.normal(size=(count, *shape)) for name, shape in SHAPES.items()}
  return {name: array.astype(np.float32) for name, array in drawn.items()}


@functools.cache
def made():
  """The traced function and its variables with thresholds."""
  traced = tcljax.trace(function, inputs(1))
  return traced.model, tcljax.calibrate(traced.model, traced.variables, [inputs()], T4)


@functools.cache
def converted():
  return tcljax.convert(*made(), SHAPES, T4)


@functools.cache
def _compiled():
  model = made()[0]
  return jax.jit(
    lambda variables, x: tcljax.simulate(
      model, variables, x, T4, observe=lambda chunk: chunk.logits
    )
  )


def simulated(variables, x):
  """What the traced function's network answers in the end, and after each step."""
  return _compiled()(variables, x)[:2]


class Joined(nn.Module):
  """Of one array [B, ..., 6] one, [B, ..., 5]; `parted` of two two, with the same numbers."""

  parted: bool = False
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = jnp.concatenate(x, axis=-1) if self.parted else x
    x = self.act(name="a")(nn.Dense(7)(x))
    x = nn.Dense(5)(self.act(name="b")(nn.Dense(7)(x)))
    return (x[..., :3], x[..., 3:]) if self.parted else x


def whole(count=16):
  return np.random.default_rng(2).normal(size=(count, 6)).astype(np.float32)


def halves(x):
  """What a parted network takes in place of x."""
  return x[..., :2], x[..., 2:]


@functools.cache
def joined():
  """The variables of both, with thresholds."""
  variables = Joined().init(jax.random.key(0), whole())
  return tcljax.calibrate(Joined(), variables, [whole()], T4)
