"""Networks of one hidden layer, in some milliseconds: what their outputs may look like."""

import flax.linen as nn
import jax
import numpy as np
from running import calibrate_plainly

from tcljax.layers.activations import ReLU


class Dense(nn.Module):
  """Of inputs [B, ...] outputs [B, ..., width] times `scale`; in parts, if asked for."""

  width: int = 1
  scale: float = 1.0
  parts: int = 1
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="act1")(nn.Dense(16)(x))
    x = self.scale * nn.Dense(self.width)(x)
    return x if self.parts == 1 else (x,) * self.parts


def inputs(count=32):
  return np.random.default_rng(5).normal(size=(count, 6)).astype(np.float32)


def calibrated(model, **options):
  """The variables of a model on `inputs`, with thresholds."""
  whole = model.clone(parts=1)
  variables = whole.init(jax.random.key(3), inputs())
  return calibrate_plainly(whole, variables, inputs(), **options)
