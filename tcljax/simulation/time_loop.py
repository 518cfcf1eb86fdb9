"""Simulation of a spiking network over T steps, K at a time.

Layers know nothing of time: K steps are folded into the batch, [K*B, ...], for everything but the
neurons, and an outer `lax.scan` walks the T/K chunks with the membrane potentials as carry. Memory
grows with K and not with T. Gradients need what was computed in all T steps: it is kept where that
fits, and else each chunk is computed again on the way back (`simulation.chunks`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from tcljax.layers import collections
from tcljax.layers.activations import check_model, with_activation
from tcljax.layers.collections import Variables
from tcljax.layers.inputs import told_of_inputs
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths.encoding import as_simulated, inputs_of_steps, of_one_step
from tcljax.maths.trees import Tree
from tcljax.simulation.beginning import begin
from tcljax.simulation.chunks import gradients_fit, with_chunk
from tcljax.simulation.observers import Chunk, check_observed, check_observer
from tcljax.simulation.outputs import check_arrays
from tcljax.simulation.settings import ChunkConfig, SpikingConfig, check_spiking


class Simulation(NamedTuple):
  """What a simulation hands back.

  Attributes:
    logits: mean output over the steps that are read out, [B, ...]; in a tree where the network
      answers with several arrays.
    observed: what the observer returned, stacked over all T steps, [T, ...].
    rates: where they were asked for, what each neuron did on average over all T steps: for each
      activation `current` and `spikes`, both [B, ...].

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> spiking = tcljax.SpikingConfig(time_steps=4)
    >>> simulation = tcljax.simulate(model, variables, images, spiking, rates=True)
    >>> simulation.logits.shape, simulation.rates["act1_1"]["spikes"].shape
    ((8, 3), (8, 4, 4, 4))
  """

  logits: Any
  observed: Any
  rates: Any = None


def simulate(
  model: nn.Module,
  variables: Variables,
  x: Any,
  spiking: SpikingConfig,
  *,
  keys: jax.Array | None = None,
  observe: Callable[[Chunk], Any] = lambda chunk: (),
  rates: bool = False,
) -> Simulation:
  """Runs the spiking twin of `model` for T steps from rest.

  A pure function: call it inside `jax.jit`, `vmap` it, and differentiate it in reverse mode
  (`jax.grad`, `jax.vjp`, `jax.jacrev`). Gradients reach `variables` and `x` through the surrogate
  of the spikes. Forward mode (`jax.jvp`, `jax.jacfwd`) ends in JAX's TypeError, "can't apply
  forward-mode autodiff (jvp) to a custom_vjp function": the gradient of neurons is written for the
  way back alone.

  Where `spiking.chunk` is 0, K is the largest divisor of T up to 8 with which the currents and
  spikes of K steps take no more than a quarter of the device's memory; up to 16 on GPUs where
  `kernels.fire` serves. On CPUs it is at most 2: the arrays of a chunk then stay in the caches, and
  larger products gain nothing. If you differentiate, K = T is faster there up to T = 8.

  Gradients keep some arrays of the size of all neurons for each of the T steps, where four of them
  take no more than a quarter of the device's memory. Elsewhere what is kept are the potentials
  between the T/K chunks, and each chunk is computed again on the way back.

  Args:
    model: a network with a field `act`; whatever activation it has is replaced by `IF`.
    variables: its variables, the collection `clipping` included.
    x: input, [B, ...]; of encoding="frames" [T, B, ...], frame t for step t. Integers and booleans
      are taken as float32. Of a network that takes several arrays, a tuple or dictionary of them.
    spiking: T, K, neurons, readout and encoding.
    keys: random keys, [B], one an example, for encoding="poisson"; so the spikes of an example
      depend on nothing but its key.
    observe: a pure function, called once a chunk with a `Chunk`. It returns an array [K, ...], an
      entry for each of the K steps, or several in tuples, lists or dictionaries; () or None keeps
      nothing. What it returns is kept for every step: reduce here what would be large.
    rates: whether to keep the mean current and firing rate of every neuron and example.

  Returns:
    The mean output over the steps read out (accumulated current, or rate times threshold where the
    model ends in neurons), NaN where a potential is not finite; observations [T, ...]; and rates.

  Raises:
    ValueError: if `x` is no array of real numbers in a shape that the model takes, or not of those
      that JAX makes of it, unless it is traced; if frames are not T; if keys are not one for each
      example; without thresholds that fit, or a field `act`; if the observer is no function or
      returns something else than arrays [K, ...].

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> simulation = tcljax.simulate(model, variables, images, tcljax.SpikingConfig(time_steps=256))
    >>> error = abs(simulation.logits - model.apply(variables, images)).max()
    >>> bool(error < 0.02)  # with T the spiking network comes closer to the clipped one
    True
  """
  check_model(model)
  variables = collections.require_clipping(variables)
  check_spiking(spiking)
  x = as_simulated("x", x, spiking.encoding, spiking.time_steps)
  check_observer(observe)
  spiking = with_chunk(model, variables, x, spiking)
  chunks = spiking.time_steps // spiking.chunk
  start, run = in_chunks(
    model,
    variables,
    x,
    spiking.one_chunk,
    keys=keys,
    observe=observe,
    rates=rates,
    whole=chunks == 1,
  )
  if chunks == 1:
    (state, total), observed = run(start, 0)
  else:
    keeps = gradients_fit(start[0], spiking.time_steps)
    walk = run if keeps else jax.checkpoint(run, prevent_cse=False)
    (state, total), observed = jax.lax.scan(walk, start, spiking.chunk * jnp.arange(chunks))
    observed = jax.tree.map(lambda a: a.reshape(spiking.time_steps, *a.shape[2:]), observed)
  return Simulation(
    _mean(total, spiking.time_steps - spiking.delay, state),
    observed,
    collections.mean_rates(state, spiking.time_steps) if rates else None,
  )


def simulate_any_time_steps(
  model: nn.Module,
  variables: Variables,
  x: Tree,
  config: ChunkConfig,
  time_steps: jax.Array | int,
  *,
  keys: jax.Array | None = None,
) -> Tree:
  """The logits of `simulate` for a T that is an argument of the compiled program.

  One compilation serves every T, for which no reverse-mode gradient exists.

  Args:
    model: as in `simulate`.
    variables: as in `simulate`.
    x: as in `simulate`.
    config: how to simulate each chunk.
    time_steps: T, a multiple of `config.chunk` and above `config.delay`; may be traced. Of frames
      it is their number.
    keys: as in `simulate`.

  Returns:
    The mean output over the steps read out, [B, ...].
  """
  start, run = in_chunks(model, variables, x, config, keys=keys)
  state, total = jax.lax.fori_loop(
    0, time_steps // config.chunk, lambda i, carry: run(carry, config.chunk * i)[0], start
  )
  return _mean(total, time_steps - config.delay, state)


def _mean(total: Tree, steps: jax.Array | int, state: Variables) -> Tree:
  """The mean outputs of so many steps, NaN where a potential is not finite."""
  return jax.tree.map(lambda a: collections.without_broken(a / steps, state), total)


def in_chunks(
  model: nn.Module,
  variables: Variables,
  x: Tree,
  config: ChunkConfig,
  *,
  keys: jax.Array | None = None,
  observe: Callable[[Chunk], Any] = lambda chunk: (),
  rates: bool = False,
  whole: bool = False,
) -> tuple[Any, Callable[[Any, ArrayLike], tuple[Any, Any]]]:
  """A simulation taken apart: where it starts, and the function that runs the next K steps.

  Args:
    model: as in `simulate`.
    variables: as in `simulate`.
    x: as in `simulate`.
    config: how to simulate each chunk.
    keys: as in `simulate`.
    observe: as in `simulate`.
    rates: as in `simulate`; the sums are `totals` in the state.
    whole: whether the K steps are all there are; `run` is then called once.

  Returns:
    The carry (state of the neurons, sums of the outputs that are read out) before the first step,
    and `run(carry, first_step) -> carry, observed`. An array of the carry holds the batch along its
    first axis or is a scalar.

  Raises:
    ValueError: as `simulate` does.
  """
  time_steps = config.chunk
  neurons = functools.partial(IF, neuron=config.neuron)
  network = with_activation(model, functools.partial(neurons, chunk=time_steps, from_rest=whole))
  carried = [collections.MEMBRANE, *([collections.TOTALS] if rates else [])]
  told = lambda: told_of_inputs(model, variables, of_one_step(x, config.encoding))
  inputs = lambda step, number: inputs_of_steps(x, keys, step, number, config.encoding)
  with told():
    beginning = begin(with_activation(model, neurons), variables, inputs(0, 1), carried)
  constant = beginning.constant if config.encoding == "constant" else {}

  def apply(state, first_step):
    given = {**variables, **constant, **state}
    folded = inputs(first_step, time_steps)
    call = functools.partial(network.apply, mutable=[*carried, collections.SPIKES])
    try:
      output, state = call(given, folded)
    except Exception:
      with told():  # where shapes are at fault, and nothing else such as forward mode
        jax.eval_shape(call, given, folded)
      raise
    state, spikes = collections.take_spikes(state)
    check_arrays(output)
    return jax.tree.map(unfolded, output), state, spikes

  def unfolded(output):
    return output.astype(jnp.float32).reshape(time_steps, -1, *output.shape[1:])

  def read_out(total, step):
    """The sums and the answers after step t; one at a time, so that no bit depends on K."""
    t, output = step
    add = lambda total, output: jnp.where(t == config.delay + 1, output, total + output)
    total = jax.tree.map(add, total, output)
    mean = lambda total: total / jnp.where(t > config.delay, t - config.delay, t)
    return total, jax.tree.map(mean, total)

  def run(carry, first_step):
    state, total = carry
    output, state, spikes = apply(state, first_step)
    total, answers = jax.lax.scan(
      read_out, total, (first_step + 1 + jnp.arange(time_steps), output)
    )
    observed = observe(Chunk(answers, spikes))
    check_observed(observed, time_steps)
    return (state, total), observed

  return (beginning.state, beginning.sums), run
