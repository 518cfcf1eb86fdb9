"""The depth of networks, beside a machine that takes a step from layer to layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import Function
from networks import Everything
from small_networks import Dense, calibrated

import tcljax
from tcljax.graph import Graph, Node, depth, folded, trace_model
from tcljax.graph.nodes import NEURONS
from tcljax.graph.operations import find
from tcljax.graph.record import Kind
from tcljax.layers.activations import ReLU

pytestmark = pytest.mark.filterwarnings("ignore:the model takes a maximum")
T = 4


class Branches(nn.Module):
  """Ways of one, three and no populations that are concatenated, and answers of two of them."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    short = self.act(name="short")(nn.Dense(3)(x))
    long = x
    for name in "abc":
      long = self.act(name=name)(nn.Dense(3)(long))
    whole = jnp.concatenate([short, long, x], axis=-1)
    return {"early": nn.Dense(2, name="early")(short), "late": nn.Dense(2, name="late")(whole)}


def of_digits(name, shape=(8, 8, 1), **fields):
  return tcljax.create_model(name, num_classes=3, **fields), shape


RESNET = {"blocks": (1, 2), "widths": (2, 4)}
SMALL = {"stages": ((2, 2), (2,)), "dense": (4,)}
NETWORKS = {
  # By name the network, the shape of its input, and its depth.
  "chain": (*of_digits("cnn", **SMALL), 4),
  "spikes are the answer": (*of_digits("cnn", **SMALL, spiking_readout=True), 4),
  "residual": (*of_digits("resnet20", **RESNET), 7),
  "residual, projected": (*of_digits("resnet20", **RESNET, shortcut="projection"), 7),
  "branches": (Branches(), (5,), 3),
  "every operation": (Everything(), (8, 8, 2), 3),
  "scaled spikes": (Function(lambda x: 2 * x[:, ::-1]), (3,), 0),
  "no neurons but one": (Function(lambda x: nn.Dense(2)(nn.Dense(3)(x))), (3,), 1),
}


def sends(graph, kinds, name):
  """The populations whose spikes come to a node, and whether any passes weights or neurons."""
  nodes = {node.name: node for node in graph.nodes}
  if name not in nodes:
    return set()
  if kinds[name] is Kind.NEURONS:
    return {(name, False)}
  found = set().union(*(sends(graph, kinds, read) for read in nodes[name].inputs))
  return found if kinds[name] is Kind.PASSAGE else {(sender, True) for sender, _ in found}


def steps_of_a_machine(graph, time_steps):
  """How many steps a machine runs until it has the answer of T steps: it hands spikes over."""
  kinds = {node.name: find(node.op).kind for node in graph.nodes}
  reads = {
    node.name: {sender for name in node.inputs for sender, _ in sends(graph, kinds, name)}
    for node in graph.nodes
    if node.op == NEURONS
  }
  answer = set().union(*(sends(graph, kinds, name) for name in graph.outputs()))
  done = dict.fromkeys(reads, 0)
  for clock in range(1, 1000):
    arrived = dict(done)
    for name, senders in reads.items():
      if done[name] < time_steps and all(arrived[sender] > done[name] for sender in senders):
        done[name] += 1
    if clock >= time_steps and all(
      (arrived if handed_over else done)[sender] == time_steps for sender, handed_over in answer
    ):
      return clock
  raise AssertionError("it never ends")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_answer_of_t_steps_comes_after_t_and_the_depth(name):
  model, shape, expected = NETWORKS[name]
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *shape), np.float32))
  variables = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), shapes)
  traced = trace_model(model, variables, shape)
  for graph in (traced[0], folded(*traced)[0]):
    assert depth(graph) == expected
    assert steps_of_a_machine(graph, T) == T + expected


def test_a_network_that_was_traced_is_as_deep():
  rng = np.random.default_rng(0)
  weights = [rng.normal(size=(4, 4)).astype(np.float32) for _ in range(3)]

  def function(x):
    for w in weights:
      x = x + jax.nn.relu(x @ w)  # the input goes by all of them
    return x @ weights[0]

  traced = tcljax.trace(function, np.zeros((2, 4), np.float32))
  assert depth(traced.model.graph) == 3 == steps_of_a_machine(traced.model.graph, T) - T


def test_neither_t_nor_delay_nor_frames_are_part_of_it(tmp_path):
  model = Dense(width=2)
  for spiking in ({"time_steps": 4, "delay": 2}, {"time_steps": 3, "encoding": "frames"}):
    network = tcljax.convert(model, calibrated(model), (6,), tcljax.SpikingConfig(**spiking))
    assert network.depth == 1
  assert tcljax.load(tcljax.save(network, tmp_path / "net")).depth == 1


def test_graphs_without_neurons_have_no_depth():
  assert depth(Graph((), "input:0")) == 0
  assert depth(Graph((Node("dense:1", "dense", ("input:0",)),), "dense:1")) == 0
