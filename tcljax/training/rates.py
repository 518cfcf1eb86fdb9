"""How far firing rates are from what they stand for: what tuning sees beside the answers.

A deep network whose thresholds are not tuned yet answers by chance, and learning from its answers
alone is slow to leave that. What the rates of a layer are to be is known from the start, as in
knowledge distillation by hints (Romero et al., ICLR 2015).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.layers.activations import Clipped, with_activation
from tcljax.layers.collections import Variables, leave
from tcljax.maths import clipping
from tcljax.maths.max_pooling import CURRENTS, SPIKES
from tcljax.maths.spikes import Neuron


class _Compared(Clipped):
  """ReLU that leaves the error of its neurons' rates, as a share of its mean square.

  Attributes:
    neuron: what it can send.
  """

  neuron: Neuron = Neuron()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    tau, _ = self.thresholds(x)
    activation = self.activate(self.pooled(x, CURRENTS))
    spikes = self.get_variable("replayed", "spikes")
    height = clipping.per_channel_view(tau, spikes.ndim) / self.neuron.most
    wanted = jax.lax.stop_gradient(activation.astype(jnp.float32))
    error, power = (jnp.mean(jnp.square(a)) for a in (spikes * height - wanted, wanted))
    # Of an activation that is silent in these examples no share can be taken.
    share = jnp.where(power > 0, error / jnp.where(power > 0, power, 1.0), 0.0)
    leave(self, "compared", "share", share)
    return self.pooled(activation, SPIKES)


def with_rate_error(
  model: nn.Module, variables: Variables, x: Any, rates: Any, neuron: Neuron
) -> tuple[Any, jax.Array]:
  """What the ANN answers, and how far firing rates are from its activations.

  The error is the mean over the activations of mean (rate * V_th - activation)^2 / mean
  activation^2, over neurons and examples; zero for one that is silent in all examples.

  Args:
    model: a network with a field `act`.
    variables: its variables, the collection `clipping` included.
    x: what the ANN sees, [B, ...].
    rates: what `simulate` found on it with rates=True.
    neuron: what it can send.

  Returns:
    The output of `model` with ReLU, and the error, a scalar.
  """
  network = with_activation(model, functools.partial(_Compared, neuron=neuron))
  output, state = network.apply({**variables, "replayed": rates}, x, mutable=["compared"])
  return output, jnp.mean(jnp.stack(jax.tree.leaves(state["compared"])))
