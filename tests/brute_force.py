"""Operations of a spiking network counted the long way: every spike times every connection."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import GraphNetwork
from tcljax.graph.operations import find
from tcljax.graph.record import Kind
from tcljax.kernels import convolution
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths.encoding import inputs_of_steps


class Recorded(GraphNetwork):
  """Leaves the value of every node, by name."""

  def run(self, node, inputs):
    value = super().run(node, inputs)
    self.sow("values", node.name + ":value", value)
    return value


def values_of_steps(network, x, spiking, keys=None):
  """The value of each node in each step, [B, ...], simulated one step after the other."""

  model = Recorded(network.graph, act=functools.partial(IF, neuron=spiking.neuron))

  @jax.jit
  def step(state, t):
    inputs = inputs_of_steps(x, keys, t, 1, spiking.encoding)
    kept = ["membrane", "values"]
    _, state = model.apply({**network.variables, **state}, inputs, mutable=kept)
    values = {name.removesuffix(":value"): of for name, (of,) in state.pop("values").items()}
    return values | dict(zip(network.graph.input_names(), jax.tree.leaves(inputs))), state

  _, state = step({}, 0)
  for t in range(spiking.time_steps):
    values, state = step(state, t)
    yield {name: np.asarray(value) for name, value in values.items()}


def matrices(network, shapes):
  """By node, for each of its inputs whether each number of it reaches each number of the output."""

  def one(node):
    operation = find(node.op)
    held = network.variables["params"].get(node.name, {})
    held = {k: 0 * a if k == "shift" else a for k, a in held.items() if k != "bias"}
    for i, name in enumerate(node.inputs):
      size = int(np.prod(shapes[name]))
      given = [jnp.zeros((size, *shapes[n])) for n in node.inputs]
      given[i] = jnp.eye(size).reshape(size, *shapes[name])
      yield operation.run(*given, **held, **dict(node.settings)).reshape(size, -1) != 0

  linear = (Kind.SYNAPSES, Kind.PASSAGE)
  nodes = [node for node in network.graph.nodes if find(node.op).kind in linear]
  with convolution.as_written():
    found = jax.jit(lambda: {node.name: [*one(node)] for node in nodes})()
  return {name: [np.asarray(a, np.int64) for a in of] for name, of in found.items()}


def heights_of(network, burst):
  """By population the height of one spike."""
  bounds = {node.name: dict(node.settings).get("bound", np.inf) for node in network.graph.nodes}
  return {
    name: np.minimum(np.logaddexp(np.asarray(held["raw_threshold"]), 0), bounds[name]) / burst
    for name, held in network.variables["clipping"].items()
  }


def count(network, x, spiking, keys=None):
  """By node its synaptic operations and multiply-accumulates in each step, over all examples.

  Where neurons or the output read a node without weights, what comes to it are spikes alone.
  """
  graph, steps = network.graph, [*values_of_steps(network, x, spiking, keys)]
  reach = matrices(network, {name: value.shape[1:] for name, value in steps[0].items()})
  read = {node.inputs[0] for node in graph.nodes if find(node.op).kind is Kind.NEURONS}
  accumulates = {node.name: np.zeros(len(steps), np.int64) for node in graph.nodes}
  macs = {node.name: np.zeros(len(steps), np.int64) for node in graph.nodes}
  heights = heights_of(network, spiking.neuron.burst)
  for t, values in enumerate(steps):
    numbers = {name: np.ones(values[name].shape, np.int64) for name in graph.input_names()}
    spikes = {name: np.zeros(values[name].shape, np.int64) for name in values}
    for node in graph.nodes:
      kind, shape = find(node.op).kind, values[node.name].shape

      def through(counts, node=node, shape=shape):
        parts = zip(node.inputs, reach[node.name])
        return sum(counts[n].reshape(len(counts[n]), -1) @ m for n, m in parts).reshape(shape)

      numbers[node.name] = np.full(shape, kind in (Kind.SYNAPSES, Kind.MAXIMUM), np.int64)
      if kind is Kind.NEURONS:
        sent = np.abs(values[node.name]) / heights[node.name]
        # With phases they are of several heights, and one in a step at most.
        sent = sent > 0 if spiking.neuron.phase > 1 else np.rint(sent)
        spikes[node.name] = sent.astype(np.int64)
      elif kind is Kind.SYNAPSES:
        (name,) = node.inputs
        active = (values[name] != 0) & (numbers[name] > 0)
        accumulates[node.name][t] = through(spikes).sum()
        macs[node.name][t] = through({name: active.astype(np.int64)}).sum()
      elif kind is Kind.PASSAGE:
        spikes[node.name], numbers[node.name] = through(spikes), through(numbers)
      if kind is not Kind.SYNAPSES and (node.name in read or node.name in graph.outputs()):
        accumulates[node.name][t] = spikes[node.name].sum()
  return accumulates, macs
