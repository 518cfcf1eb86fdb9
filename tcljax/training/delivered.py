"""Thresholds chosen layer by layer, for the currents that spikes really bring.

Other methods set the thresholds of a layer as if the layers before it passed on what they do in the
ANN. In a deep network they do not: each layer adds an error of its own, and the next layer is given
the errors of all. Here a layer is set from the currents that the spiking layers before it deliver,
so that its firing rates come as near as they can to the activations of the ANN. Li et al. (ICML
2021) correct biases and initial potentials in this way. That takes no gradient.

A spike that came too early cannot be taken back. So a layer may also wait: some of its initial
potential is held back (`training.candidates`).
"""

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcljax.layers.activations import Activation, with_activation
from tcljax.layers.collections import (
  CLIPPING,
  MEMBRANE,
  Path,
  Thresholds,
  Variables,
  thresholds_by_path,
  with_thresholds,
  without,
)
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths import clipping, max_pooling
from tcljax.maths.encoding import as_simulated, constant_input, inputs_of_steps, of_one_step
from tcljax.maths.inputs import as_floats
from tcljax.maths.max_pooling import CURRENTS, SPIKES
from tcljax.maths.trees import Tree, count, is_shape, without_batch
from tcljax.simulation.chunks import count_neurons
from tcljax.simulation.settings import SpikingConfig
from tcljax.training.candidates import candidates, currents_of, sample, squared_errors

EXAMPLES = 256  # the most that thresholds are chosen on
_SAMPLED = 1024  # neurons of a channel whose rates are compared, in equal numbers of all parts
_OF_A_PART = 32  # of each part at least so many: the first choose the spikes later layers see
_LARGEST = 2**27  # currents of one layer that are held at a time: half a GiB


class _Delivered(Activation):
  """`IF` whose thresholds are chosen when its currents arrive, beside the ANN's activation.

  Takes currents of T steps, step-major, and after them the ANN's pre-activations, [(T+1)*B, ...];
  passes on spikes of height tau, and after them the ANN's activations.

  Attributes:
    search: chooses the thresholds.
  """

  search: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    search = self.search
    currents, given = jnp.split(x, [len(x) // (search.time_steps + 1) * search.time_steps])
    activations = self.activate(self.pooled(given, CURRENTS))
    unfolded = currents.reshape(search.time_steps, -1, *currents.shape[1:])
    if self.max_pool is not None and self.pools(CURRENTS):
      sums = jnp.zeros(unfolded.shape[1:], jnp.float32)
      unfolded, _ = max_pooling.running_maximum(unfolded.astype(jnp.float32), sums, self.max_pool)
    held = search.choose(self.path, unfolded, activations, self.bound)
    neurons = IF(
      max_pool=self.max_pool,
      bound=self.bound,
      chunk=search.time_steps,
      neuron=search.neuron,
      name="neurons",
      parent=None,
    )
    spikes = _fired(neurons, with_thresholds({}, {(): held}), currents)
    return jnp.concatenate([spikes, self.pooled(activations, SPIKES).astype(spikes.dtype)])


@functools.partial(jax.jit, static_argnums=0)
def _fired(neurons: IF, variables: Variables, currents: jax.Array) -> jax.Array:
  """What neurons pass on from rest; compiled once for all layers of one shape."""
  _, state = neurons.apply(variables, currents, mutable=[MEMBRANE])
  return neurons.apply({**variables, **state}, currents, mutable=[MEMBRANE])[0]


class _Search:
  """The errors of all candidates so far, over the parts of the examples.

  Args:
    first: thresholds that the candidates are multiples of.
    spiking: how to simulate.
    per_channel: whether each channel has its own.
    instalments: in how many parts the initial potential comes; where there are several, some of it
      may be held back, see `candidates`.
    sampled: neurons of a channel whose rates are compared, of each part of the examples.
  """

  def __init__(
    self,
    first: Mapping[Path, Thresholds],
    spiking: SpikingConfig,
    per_channel: bool,
    instalments: int,
    sampled: int,
  ) -> None:
    self.first, self.per_channel, self.instalments = first, per_channel, instalments
    self.time_steps, self.neuron = spiking.time_steps, spiking.neuron
    self.factors, self.parts = candidates(self.time_steps, instalments)
    self.given = np.zeros((len(self.parts), self.time_steps), np.float32)  # before each step
    steps = min(self.time_steps, instalments)
    self.given[:, :steps] = self.parts[:, :steps]
    self.sampled = sampled
    self.chosen: dict[Path, Thresholds] = {}
    self._errors: dict[Path, np.ndarray] = {}
    self._random = np.random.default_rng(0)

  def choose(
    self, path: Path, currents: jax.Array, activations: jax.Array, bound: float | None
  ) -> Thresholds:
    """The best thresholds of an activation on the parts up to this one.

    Args:
      path: of the activation.
      currents: what its neurons are given, [T, B, ..., C].
      activations: what it is in the ANN, [B, ..., C].
      bound: its own upper limit; None for none.
    """
    channels = activations.shape[-1]
    wanted = np.asarray(activations.reshape(-1, channels).astype(jnp.float32))
    neurons, stand_for = sample(wanted, self.sampled, self._random)
    sampled = currents_of(currents.reshape(self.time_steps, -1, channels), neurons)
    tau = np.broadcast_to(np.asarray(self.first[path].tau), channels)
    taus = np.minimum(self.factors[:, None] * tau, np.inf if bound is None else bound)
    wanted = np.take_along_axis(wanted, neurons, axis=0)
    heights = taus / self.neuron.burst
    errors = squared_errors(sampled, wanted, stand_for, heights, self.given, self.neuron)
    errors = np.asarray(errors, np.float64)
    self._errors[path] = errors = self._errors.get(path, 0.0) + errors
    if not self.per_channel:
      taus, errors = taus[:, 0], errors.sum(axis=1)
    best = errors.argmin(axis=0)
    raw = clipping.raw_from_threshold(np.take_along_axis(taus, best[None], axis=0)[0])
    self.chosen[path] = Thresholds(raw, self._v_init(best))
    return self.chosen[path]

  def _v_init(self, best: np.ndarray) -> jax.Array:
    """What the collection `clipping` holds of the candidates of these numbers, [] or [C]."""
    if self.instalments == 1:
      return jnp.asarray(self.parts[best, 0])
    v_init = np.array(np.moveaxis(self.parts[best], -1, 0))
    v_init[1:] *= self.instalments  # `clipping.instalments` divides by it
    return jnp.asarray(v_init)


def for_delivered_currents(
  model: nn.Module,
  variables: Variables,
  batches: Iterable[Tree],
  spiking: SpikingConfig,
  per_channel: bool,
  instalments: int,
) -> Variables:
  """Thresholds and initial potentials with the least squared error of the firing rates.

  One pass over the layers: each tries multiples of its first threshold and initial potentials on
  the currents that arrive, and passes on the spikes of the best. Where memory is too small for all
  examples at once, or they are of several shapes, there is a pass for each part of them, and the
  errors of all parts so far count.

  Args:
    model: a network with a field `act`.
    variables: its variables with first thresholds.
    batches: inputs, each [B, ...], in floating point; of encoding="frames" [T, B, ...].
    spiking: the simulation that the thresholds are for.
    per_channel: whether each channel has its own.
    instalments: in how many parts the initial potential comes.

  Returns:
    The variables with other thresholds.
  """
  weights = without(variables, CLIPPING)
  axis, key = int(spiking.encoding == "frames"), jax.random.key(0)
  begin = jnp.zeros((), jnp.int32)
  parts = []
  for examples in _by_shape(batches, axis):
    one = of_one_step(examples, spiking.encoding)
    neurons = count_neurons(model, variables, without_batch(one))
    largest = max(1, _LARGEST // (max(neurons.values()) * (spiking.time_steps + 1)))
    keys = jax.random.split(key, count(one))
    for start in range(0, count(one), largest):
      part = (slice(None),) * axis + (slice(start, start + largest),)
      parts.append((jax.tree.map(operator.itemgetter(part), examples), keys[part[-1]]))
  sampled = max(_OF_A_PART, _SAMPLED // len(parts))
  search = _Search(thresholds_by_path(variables), spiking, per_channel, instalments, sampled)
  network = with_activation(model, functools.partial(_Delivered, search=search))
  for x, keys in parts:
    steps = inputs_of_steps(x, keys, begin, spiking.time_steps, spiking.encoding)
    mean = constant_input(x, spiking.encoding, time_axis=0)
    network.apply(weights, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), steps, mean))
  return with_thresholds(variables, search.chosen)


def remembered(batches: Iterable[Any], spiking: SpikingConfig, kept: list[Any]) -> Iterable[Any]:
  """The batches, of whose examples the first are added to `kept`, as they are simulated."""
  for batch in batches:
    batch = as_simulated("batches", batch, spiking.encoding, spiking.time_steps)
    lacking = EXAMPLES - sum(count(of_one_step(one, spiking.encoding)) for one in kept)
    if lacking > 0:
      part = (slice(None),) * (spiking.encoding == "frames") + (slice(lacking),)
      kept.append(jax.tree.map(lambda a, part=part: a[part], as_floats("batches", batch)))
    yield batch


def _by_shape(batches: Iterable[Tree], axis: int) -> list[Tree]:
  """The batches, those whose examples have the same shapes joined along `axis`."""
  alike: dict[Any, list[Tree]] = {}
  for batch in batches:
    shapes = jax.tree.map(lambda a: a.shape[:axis] + a.shape[axis + 1 :], batch)
    leaves, structure = jax.tree.flatten(shapes, is_leaf=is_shape)
    alike.setdefault((structure, *leaves), []).append(batch)
  return [
    jax.tree.map(lambda *parts: np.concatenate(parts, axis), *same) for same in alike.values()
  ]
