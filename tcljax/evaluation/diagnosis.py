"""Why a network converts well or badly: for each activation, where its error comes from."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tcljax.checks import check_count
from tcljax.data.preprocessing import preprocessed, shape_of_preprocessed
from tcljax.layers.activations import Activation, ReLU, check_model, with_activation
from tcljax.layers.collections import (
  Path,
  Variables,
  leave,
  rates_by_path,
  require_clipping,
  thresholds_by_path,
)
from tcljax.maths import clipping
from tcljax.maths.inputs import as_inputs
from tcljax.maths.max_pooling import CURRENTS, SPIKES
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.simulation.time_loop import count_neurons, simulate

PARTS = ("inherited", "pooling", "clipping", "quantization", "unevenness")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """The errors of one activation: root mean squares, as shares of that of the ANN's activation.

  With m a neuron's mean input current, n the current that the model makes of the mean outputs of
  the activations before, tau the threshold and q the quantized clip (`tcljax.quantized_clip`), the
  error of a rate is a sum of five:

      rate * tau - relu(x) = [relu(n) - relu(x)] + [relu(m) - relu(n)] + [clip(m) - relu(m)]
                             + [q(m) - clip(m)] + [rate * tau - q(m)]

  Attributes:
    total: of rate * tau against relu(x), the activation in the ANN.
    inherited: what came with the input current, from the layers before.
    pooling: what a maximum in the model itself makes of currents that vary; its mean lies above the
      maximum of their means. Layers are linear otherwise, and m is n. Give the pooling to the
      activation, `max_pool=`; no number of steps mends it.
    clipping: what lies above the threshold; large where the threshold is too low.
    quantization: of T + 1 levels; large where the threshold is too high for T.
    unevenness: spikes fired too early or too late for their currents to balance, so that T * m is
      not what was counted; no threshold alone mends it, initial potentials and larger T do.
    dead: share of the neurons that fired on none of the images.
    saturated: share of all neurons and images in which the neuron fired at every step.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> few, many = (
    ...   tcljax.diagnose(model, variables, images, tcljax.SpikingConfig(time_steps=t))["act1_1"]
    ...   for t in (2, 32)
    ... )
    >>> few.quantization > 8 * many.quantization, abs(few.clipping - many.clipping) < 1e-4
    (True, True)
  """

  total: float
  inherited: float
  pooling: float
  clipping: float
  quantization: float
  unevenness: float
  dead: float
  saturated: float


def diagnose(
  model: nn.Module,
  variables: Variables,
  images: np.ndarray,
  spiking: SpikingConfig,
  *,
  batch_size: int = 128,
  preprocess: Callable[[jax.Array], jax.Array] = jnp.asarray,
) -> dict[str, Diagnosis]:
  """Splits the error of every activation's firing rates into its causes.

  Args:
    model: a network with a field `act`.
    variables: its variables, the collection `clipping` included.
    images: some hundred inputs, [N, ...].
    spiking: how to simulate; with hard reset, what that loses counts as unevenness.
    batch_size: images at a time.
    preprocess: a function of JAX that makes inputs [B, ...] of each batch of images.

  Returns:
    A `Diagnosis` for each activation, by its path, in the order in which they are computed.

  Raises:
    ValueError: if there are no images, they are no real numbers (or other ones in JAX) in a shape
      that the model takes, thresholds are missing, `preprocess` gives no inputs, or an activation
      is not finite.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> spiking = tcljax.SpikingConfig(time_steps=8)
    >>> found = tcljax.diagnose(model, variables, images, spiking)
    >>> found["act1_1"].inherited < 1e-5  # the first activation's current is what it is in the ANN
    True
  """
  check_model(model)
  variables = require_clipping(variables)
  check_spiking(spiking)
  check_count("batch_size", batch_size, 1)
  images = np.asarray(as_inputs("images", images))
  if not len(images):
    raise ValueError("there are no images to diagnose")
  if spiking.encoding != "constant":
    raise ValueError(
      f"encoding={spiking.encoding!r}: a diagnosis takes constant input, whose mean "
      "currents are those of the network"
    )
  given = jax.ShapeDtypeStruct((max(2, batch_size), *images.shape[1:]), images.dtype)
  neurons = count_neurons(model, variables, shape_of_preprocessed(preprocess, given).shape[1:])
  measure = jax.jit(functools.partial(_measure, model, spiking))
  totals: Any = None  # trees of arrays; there is at least one batch
  for start in range(0, len(images), batch_size):
    batch = jnp.asarray(images[start : start + batch_size])
    found = jax.device_get(measure(variables, preprocessed(preprocess, batch)))
    totals = found if totals is None else jax.tree.map(np.add, totals, found)
  for name, found in totals.items():
    if not np.isfinite([*found["squares"].values()]).all():
      raise ValueError(f"activation {name!r} is not finite on these images")
  return {name: _diagnosis(totals[name]) for name in neurons}


class _Replayed(Activation):
  """Leaves its input, and answers what the neurons' spikes came to on average."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    leave(self, "arrived", "current", self.pooled(x, CURRENTS))
    return self.pooled(self.get_variable("replayed", "output"), SPIKES).astype(x.dtype)


def _measure(
  model: nn.Module, spiking: SpikingConfig, variables: Variables, x: jax.Array
) -> dict[str, Any]:
  """Sums over a batch: squares of each error, spikes of each neuron, and the saturated ones."""
  # `activate` is of all neurons, also where their activation pools.
  _, state = with_activation(model, ReLU).apply(
    variables,
    x,
    capture_intermediates=lambda module, method: isinstance(module, ReLU) and method == "activate",
  )
  intermediates: dict[Path, Any] = traverse_util.flatten_dict(state["intermediates"])
  activations = {path[:-1]: value[0] for path, value in intermediates.items()}
  rates = rates_by_path(simulate(model, variables, x, spiking, rates=True).rates)
  thresholds = thresholds_by_path(variables)
  outputs = {
    (*path, "output"): spikes * clipping.per_channel_view(thresholds[path].tau, spikes.ndim)
    for path, (_, spikes) in rates.items()
  }
  _, state = with_activation(model, _Replayed).apply(
    {**variables, "replayed": traverse_util.unflatten_dict(outputs)}, x, mutable=["arrived"]
  )
  arrived: dict[Path, Any] = traverse_util.flatten_dict(state["arrived"])
  found = {}
  for path, activation in activations.items():
    tau = thresholds[path].tau
    parts = thresholds[path].instalments[: spiking.time_steps]
    current, spikes = rates[path]
    fired = outputs[(*path, "output")]
    stages = [
      activation,
      jax.nn.relu(arrived[(*path, "current")]),
      jax.nn.relu(current),
      clipping.clip(current, tau),
      clipping.quantized_clip(current, tau, spiking.time_steps, parts.sum(axis=0)),
      fired,
    ]
    errors = {name: b - a for name, (a, b) in zip(PARTS, itertools.pairwise(stages), strict=True)}
    errors |= {"total": fired - activation, "activation": activation}
    found["/".join(path)] = {
      # Those of a layer of 16 bits may be beyond its numbers.
      "squares": {
        name: jnp.square(error.astype(jnp.float32)).sum() for name, error in errors.items()
      },
      "spikes": spikes.sum(axis=0),
      "saturated": (spikes >= 1).sum(),
      "pairs": spikes.size,
    }
  return found


def _diagnosis(sums: dict[str, Any]) -> Diagnosis:
  squares = sums["squares"]

  def share(name):
    if not squares["activation"]:  # silent in the ANN: nothing to be a share of
      return float("inf") if squares[name] else 0.0
    return float(np.sqrt(squares[name] / squares["activation"]))

  return Diagnosis(
    **{name: share(name) for name in ("total", *PARTS)},
    dead=float(np.mean(sums["spikes"] == 0)),
    saturated=float(sums["saturated"] / sums["pairs"]),
  )
