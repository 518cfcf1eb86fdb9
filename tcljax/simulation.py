"""Simulation of a spiking network over T steps, K at a time.

Layers know nothing of time: K steps are folded into the batch, [K*B, ...], for everything but the
neurons, and an outer `lax.scan` walks the T/K chunks with the membrane potentials as carry. Memory
grows with K and not with T; with gradients, each chunk is computed again on the way back, and the
potentials between the T/K chunks are what is kept.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from tcljax import neurons
from tcljax.activations import IF, activation_paths, with_activation
from tcljax.checks import check_choice
from tcljax.surrogates import check_surrogate

ENCODINGS = ("constant", "poisson")
_LARGEST_CHUNK = 8
_LARGEST_UNROLL = 8


@dataclasses.dataclass(frozen=True)
class SpikingConfig:
  """How a spiking network is simulated.

  Attributes:
    steps: T, the number of time steps.
    chunk: K, the steps folded into one batch; it divides T. 1 takes the least memory, T makes the
      largest matrix products; 0 chooses, see `simulate`. It does not change results.
    reset: "soft" or "hard", see `tcljax.if_step`.
    surrogate: shape of the surrogate gradient, see `tcljax.spike`.
    width: its width in units of the threshold.
    delay: steps at the start that the readout leaves out: after t > delay steps the answer is the
      mean output of steps delay + 1 to t, before that the mean of all. Every step counts in T; what
      is left out are outputs from before the last layers had their input.
    encoding: "constant" feeds the image as a constant current; "poisson" as spikes of either sign
      and of the height of the image's largest magnitude, with the image as their mean; whoever
      simulates then gives a random key for each example.

  Raises:
    ValueError: naming the field, its value and the remedy.
  """

  steps: int = 8
  chunk: int = 0
  reset: str = "soft"
  surrogate: str = "triangle"
  width: float = 1.0
  delay: int = 0
  encoding: str = "constant"

  def __post_init__(self):
    for field in ("steps", "chunk", "delay"):
      try:  # NumPy's integers become Python's, which JSON can hold
        object.__setattr__(self, field, operator.index(getattr(self, field)))
      except TypeError:
        raise ValueError(f"{field}={getattr(self, field)!r} must be an integer") from None
    if self.steps < 1:
      raise ValueError(f"steps={self.steps}: a simulation takes at least 1 step")
    if self.chunk < 0 or (self.chunk and self.steps % self.chunk):
      raise ValueError(
          f"chunk={self.chunk} does not divide steps={self.steps}: choose a divisor, or 0 for an "
          "automatic one")
    if not 0 <= self.delay < self.steps:
      raise ValueError(f"delay={self.delay} must be at least 0 and below steps={self.steps}, so "
                       "that something is read out")
    check_choice("reset", self.reset, neurons.RESETS)
    check_choice("encoding", self.encoding, ENCODINGS)
    check_surrogate(self.surrogate, self.width)

  def steps_per_chunk(self, largest: int) -> int:
    """K: as set, or else the largest divisor of T up to `largest`."""
    return self.chunk or max(
        k for k in range(1, min(self.steps, largest) + 1) if self.steps % k == 0)


def check_spiking(spiking: SpikingConfig) -> None:
  """Raises ValueError if this is not a `SpikingConfig`."""
  if not isinstance(spiking, SpikingConfig):
    raise ValueError(f"spiking={spiking!r} must be a tcljax.SpikingConfig, such as "
                     "SpikingConfig(steps=8)")


class Steps(NamedTuple):
  """What an observer sees of K consecutive steps.

  Attributes:
    logits: the answer after each of these steps, [K, B, ...]: the mean output so far, without the
      steps that `SpikingConfig.delay` leaves out.
    spikes: the collection `spikes`: for each activation, `count`, the spikes of all its neurons in
      each step and example, [K, B].
  """

  logits: jax.Array
  spikes: Any


class Simulation(NamedTuple):
  """What a simulation hands back.

  Attributes:
    logits: mean output over the steps that are read out, [B, ...].
    observed: what the observer returned, stacked over all T steps, [T, ...].
    rates: where they were asked for, what each neuron did on average over all T steps: for each
      activation `current` and `spikes`, both [B, ...].
  """

  logits: jax.Array
  observed: Any
  rates: Any = None


def poisson_spikes(key: jax.Array, x: jax.Array) -> jax.Array:
  """One step of Poisson (Bernoulli) input: spikes whose mean is the example.

  Args:
    key: random key.
    x: one example, any shape, of either sign.

  Returns:
    sign(x) * max|x| with probability |x| / max|x|, else 0; in the shape of `x`.
  """
  height = jnp.max(jnp.abs(x))
  fires = jax.random.uniform(key, x.shape) * height < jnp.abs(x)
  return jnp.where(fires, jnp.sign(x) * height, 0.0)


def _inputs(x, keys, first_step, steps, encoding):
  """The input of `steps` steps from `first_step` on, [K*B, ...]."""
  if encoding == "constant":
    frames = jnp.broadcast_to(x, (steps, *x.shape))
  else:
    def frame(t):
      return jax.vmap(lambda key, image: poisson_spikes(jax.random.fold_in(key, t), image))(keys, x)
    frames = jax.vmap(frame)(first_step + jnp.arange(steps))
  return frames.reshape(-1, *x.shape[1:])


def simulate(
    model: nn.Module,
    variables: Any,
    x: jax.Array,
    spiking: SpikingConfig,
    *,
    keys: jax.Array | None = None,
    observe: Callable[[Steps], Any] = lambda steps: (),
    rates: bool = False,
    unroll: bool = False,
) -> Simulation:
  """Runs the spiking twin of `model` for T steps from rest.

  A pure function: call it inside `jax.jit`, differentiate it, `vmap` it. Gradients reach
  `variables` through the surrogate of the spikes.

  Where `spiking.chunk` is 0, K is the largest divisor of T up to 8. On CPUs it is 1 unless the
  chunks are unrolled: a step's arrays then stay in the caches, and larger products gain nothing.

  Args:
    model: a network with a field `act`; whatever activation it has is replaced by `IF`.
    variables: its variables, the collection `clipping` included.
    x: input, [B, ...].
    spiking: T, K, reset, surrogate and encoding.
    keys: random keys, [B], one an example, for encoding="poisson"; so the spikes of an example
      depend on nothing but its key.
    observe: called once a chunk with `Steps`; returns arrays [K, ...] to be kept for every step.
      Reduce here what would be large.
    rates: whether to keep the mean current and firing rate of every neuron and example.
    unroll: whether the chunks, up to 8 of them, stand one after another in the compiled program in
      place of a loop. That compiles longer; on CPUs gradients are then three times as fast.

  Returns:
    The mean output over the steps read out (accumulated output current, or firing rate times
    threshold where the model ends in an activation), the observations, [T, ...], and the rates.

  Raises:
    ValueError: if encoding="poisson" comes without keys, an activation lacks its threshold, or the
      model has no field `act`.
  """
  check_spiking(spiking)
  if spiking.encoding == "poisson" and keys is None:
    raise ValueError("encoding='poisson' needs keys: one random key for each example")
  in_caches = jax.default_backend() == "cpu" and not unroll
  steps = spiking.steps_per_chunk(1 if in_caches else _LARGEST_CHUNK)
  chunks = spiking.steps // steps
  network = with_activation(model, functools.partial(
      IF, chunk=steps, reset=spiking.reset, surrogate=spiking.surrogate, width=spiking.width))

  carried = ["membrane", "totals"] if rates else ["membrane"]

  def run(state, first_step):
    frames = _inputs(x, keys, first_step, steps, spiking.encoding)
    output, state = network.apply({**variables, **state}, frames, mutable=[*carried, "spikes"])
    spikes = state.pop("spikes", {})
    return output.astype(jnp.float32).reshape(steps, -1, *output.shape[1:]), state, spikes

  def read_out(total, step):
    """The sum and the answer after step t; one at a time, so that no bit depends on K."""
    t, output = step
    total = jnp.where(t == spiking.delay + 1, output, total + output)
    return total, total / jnp.where(t > spiking.delay, t - spiking.delay, t)

  def chunk(carry, first_step):
    state, total = carry
    output, state, spikes = run(state, first_step)
    total, answers = jax.lax.scan(read_out, total, (first_step + 1 + jnp.arange(steps), output))
    return (state, total), observe(Steps(answers, spikes))

  # The call that creates the potentials runs no neuron; its layers are dead code to XLA.
  output, state, _ = run({}, 0)
  start = (state, jnp.zeros_like(output[0]))
  if chunks == 1:
    (state, total), observed = chunk(start, 0)
  else:
    (state, total), observed = jax.lax.scan(
        jax.checkpoint(chunk, prevent_cse=unroll), start, steps * jnp.arange(chunks),
        unroll=min(chunks, _LARGEST_UNROLL) if unroll else 1)
    observed = jax.tree.map(lambda a: a.reshape(spiking.steps, *a.shape[2:]), observed)
  totals = state.get("totals", {}) if rates else None
  return Simulation(total / (spiking.steps - spiking.delay), observed,
                    jax.tree.map(lambda a: a / spiking.steps, totals))


def count_neurons(model: nn.Module, variables: Any, input_shape: tuple[int, ...]) -> dict[str, int]:
  """Neurons of each activation, by its path, for one input of `input_shape` (without the batch).

  The activations stand in the order in which the network computes them.
  """
  x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  network = with_activation(model, IF)
  _, state = jax.eval_shape(
      lambda variables, x: network.apply(variables, x, mutable=["membrane"]), variables, x)
  flat = traverse_util.flatten_dict(state["membrane"], sep="/")
  paths = ["/".join(path) for path in activation_paths(model, variables, x)]
  return {path: math.prod(flat[f"{path}/v"].shape[1:]) for path in paths}
