"""Why a network converts well or badly: for each activation, where its error comes from."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tcljax.checks import check_count
from tcljax.data import Split, evaluation_batches
from tcljax.data.preprocessing import preprocessed, shape_of_preprocessed, unchanged
from tcljax.evaluation.compiling import compiled
from tcljax.evaluation.scores import over_images
from tcljax.layers.activations import Clipped, ReLU, check_model, with_activation
from tcljax.layers.collections import (
  Path,
  Rates,
  Variables,
  leave,
  rates_by_path,
  require_clipping,
)
from tcljax.maths import clipping
from tcljax.maths.encoding import constant_input, constant_inputs_of, time_first
from tcljax.maths.max_pooling import CURRENTS, SPIKES
from tcljax.maths.spikes import Neuron
from tcljax.maths.sums import sum_over_first
from tcljax.maths.trees import stand_in, without_batch
from tcljax.simulation.chunks import count_neurons
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.simulation.time_loop import Simulation, simulate

PARTS = ("inherited", "pooling", "clipping", "quantization", "unevenness")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """The errors of one activation: root mean squares, as shares of that of the ANN's activation.

  With m a neuron's mean input current, n the current that the model makes of the mean outputs of
  the activations before, relu the ANN's activation (with its `bound`), tau the threshold (no more
  than `bound`) and q the quantized clip (`tcljax.quantized_clip`), the
  error of a rate, the share of all the spikes that there can be, is a sum of five:

      rate * tau - relu(x) = [relu(n) - relu(x)] + [relu(m) - relu(n)] + [clip(m) - relu(m)]
                             + [q(m) - clip(m)] + [rate * tau - q(m)]

  Attributes:
    total: of rate * tau against relu(x), the activation in the ANN.
    inherited: what came with the input current, from the layers before.
    pooling: what a maximum in the model itself makes of currents that vary; its mean lies above the
      maximum of their means. Layers are linear otherwise, and m is n. Give the pooling to the
      activation, `max_pool=`; no number of steps mends it.
    clipping: what lies above the threshold; large where the threshold is too low.
    quantization: of T + 1 levels, T * burst + 1 of neurons that send bursts, more of phases
      (`tcljax.quantized_clip`); large where the threshold is too high for T.
    unevenness: spikes fired too early or too late for their currents to balance, so that T * m is
      not what was counted; no threshold alone mends it, initial potentials and larger T do.
    dead: share of the neurons that fired on none of the images, or took back all they sent; 1 of an
      activation that is silent, whose threshold then does not matter.
    saturated: share of all neurons and images in which the neuron sent all it can at every step.

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
  images: Any,
  spiking: SpikingConfig,
  *,
  batch_size: int = 128,
  preprocess: Callable[[Any], Any] = unchanged,
) -> dict[str, Diagnosis]:
  """Splits the error of every activation's firing rates into its causes.

  Args:
    model: a network with a field `act`.
    variables: its variables, the collection `clipping` included.
    images: some hundred inputs, [N, ...]; of encoding="frames" sequences, [N, T, ...], whose ANN
      sees the mean of the frames. A tuple or dictionary of these where the network takes several
      arrays.
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
  split = Split(images)
  if not len(split):
    raise ValueError("there are no images to diagnose")
  if spiking.encoding == "poisson":
    raise ValueError(
      f"encoding={spiking.encoding!r}: a diagnosis takes constant input, or frames, whose mean "
      "currents are those of the network"
    )
  given = stand_in(split.image_shape, max(2, batch_size), split.image_dtype)
  example = constant_inputs_of(
    "images", shape_of_preprocessed(preprocess, given), spiking.encoding, spiking.time_steps
  )
  neurons = count_neurons(model, variables, without_batch(example))
  measure = compiled(_measuring, preprocess, model, spiking)
  totals: Any = None  # trees of arrays; there is at least one batch
  for batch in evaluation_batches(split, min(batch_size, len(split)), everywhere=True):
    totals = added(totals, measure(variables, batch["image"], batch["mask"]))
  for name, found in totals.items():
    if not np.isfinite([*found["squares"].values()]).all():
      raise ValueError(f"activation {name!r} is not finite on these images")
  return {name: diagnosis_of(totals[name], len(split)) for name in neurons}


class _Replayed(Clipped):
  """Answers what the neurons' spikes came to on average, and leaves each stage on the way there.

  Attributes:
    time_steps: T.
    neuron: what it can send.
  """

  time_steps: int = 1
  neuron: Neuron = Neuron()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    tau, parts = self.thresholds(x)
    current, spikes = (self.get_variable("replayed", name) for name in Rates._fields)
    height = clipping.per_channel_view(tau, spikes.ndim) / self.neuron.most
    fired = spikes * height
    v_init = parts[: self.time_steps].sum(axis=0)
    count = self.time_steps, v_init, self.neuron.burst, self.neuron.phase
    stages = [
      self.activate(self.pooled(x, CURRENTS)),
      self.activate(current),
      clipping.clip(current, tau),
      clipping.quantized_clip(current, tau, *count),
      fired,
    ]
    leave(self, "arrived", "stages", stages)
    leave(self, "arrived", "thresholds", clipping.per_channel_view(tau, spikes.ndim))
    return self.pooled(fired, SPIKES).astype(x.dtype)


class Arrived(NamedTuple):
  """What one activation came to, in the ANN and spiking; all [B, ...], of each neuron.

  Attributes:
    stages: the ANN's activation, what each part of the error makes of it, and rate * tau.
    spikes: what was sent as a share of the most that can be: the firing rate.
    thresholds: tau, in a shape that goes with these.
  """

  stages: list[jax.Array]
  spikes: jax.Array
  thresholds: jax.Array


def arrived(
  model: nn.Module, spiking: SpikingConfig, variables: Variables, x: Any, **options: Any
) -> tuple[dict[str, Arrived], Simulation]:
  """By activation what it came to on a batch, and the simulation that shows it.

  Args:
    model: as in `diagnose`.
    spiking: how to simulate.
    variables: as in `diagnose`.
    x: examples, [B, ...], of frames [B, T, ...].
    **options: `keys` and `observe` of `simulate`.
  """
  simulated, x = time_first(x, spiking.encoding), constant_input(x, spiking.encoding)
  # `activate` is of all neurons, also where their activation pools.
  _, state = with_activation(model, ReLU).apply(
    variables,
    x,
    capture_intermediates=lambda module, method: isinstance(module, ReLU) and method == "activate",
  )
  intermediates: dict[Path, Any] = traverse_util.flatten_dict(state["intermediates"])
  activations = {path[:-1]: value[0] for path, value in intermediates.items()}
  simulation = simulate(model, variables, simulated, spiking, rates=True, **options)
  neuron = spiking.neuron
  act = functools.partial(_Replayed, time_steps=spiking.time_steps, neuron=neuron)
  _, state = with_activation(model, act).apply(
    {**variables, "replayed": simulation.rates}, x, mutable=["arrived"]
  )
  left: dict[Path, Any] = traverse_util.flatten_dict(state["arrived"])
  found = {}
  for path, (_, spikes) in rates_by_path(simulation.rates).items():
    stages, thresholds = (left[(*path, name)] for name in ("stages", "thresholds"))
    said = spikes / neuron.most
    found["/".join(path)] = Arrived([activations[path], *stages], said, thresholds)
  return found, simulation


def _measuring(
  preprocess: Callable[[Any], Any], model: nn.Module, spiking: SpikingConfig
) -> Callable[..., dict[str, Any]]:
  """The compiled function that gives `sums_of` each activation on a batch."""

  @jax.jit
  def measure(variables, images, mask):
    found, _ = arrived(model, spiking, variables, preprocessed(preprocess, images))
    return {name: sums_of(one, mask) for name, one in found.items()}

  return measure


def sums_of(found: Arrived, mask: jax.Array) -> dict[str, Any]:
  """Sums over a batch: squares of errors; of each neuron its spikes, and how often it sent all.

  Args:
    found: of one activation.
    mask: [B], False for what only fills the batch.
  """
  stages, spikes = found.stages, found.spikes
  errors = {name: b - a for name, (a, b) in zip(PARTS, itertools.pairwise(stages), strict=True)}
  errors |= {"total": stages[-1] - stages[0], "activation": stages[0]}
  # Those of a layer of 16 bits may be beyond its numbers. Neurons are summed first.
  squares = {
    name: jnp.square(error.astype(jnp.float32)).sum(axis=range(1, error.ndim))
    for name, error in errors.items()
  }
  of_neurons = lambda a: sum_over_first(jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, 0))
  return {
    "squares": over_images(squares, mask, axis=0),
    "spikes": of_neurons(spikes),
    # A mean over steps is rounded: 127 levels in 7 steps need not be all of them to the bit.
    "saturated": of_neurons((spikes > 1 - 1e-6).astype(jnp.int32)),
  }


def added(sums: Any, found: Any) -> Any:
  """What `sums_of` gave of batches so far, None of none, and of one more; on the host, in float64.

  Neurons and images soon are more than int32 holds, which begins again below 0 in silence.
  """
  found = jax.tree.map(lambda a: np.asarray(a, np.float64), jax.device_get(found))
  return found if sums is None else jax.tree.map(np.add, sums, found)


def diagnosis_of(sums: dict[str, Any], images: int) -> Diagnosis:
  """The diagnosis of an activation, from `sums_of` it over so many images."""
  squares = sums["squares"]

  def share(name):
    if not squares["activation"]:  # silent in the ANN: nothing to be a share of
      return float("inf") if squares[name] else 0.0
    return float(np.sqrt(squares[name] / squares["activation"]))

  return Diagnosis(
    **{name: share(name) for name in ("total", *PARTS)},
    dead=float(np.mean(sums["spikes"] == 0)),
    saturated=float(np.mean(sums["saturated"]) / images),
  )
