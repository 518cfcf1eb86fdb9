"""Weights and thresholds that a spiking network may have, and how large it may be."""

import dataclasses
import itertools

import numpy as np
import pytest
from flax import traverse_util

import tcljax
from tcljax.conversion.checking import check_description, check_range, check_weights
from tcljax.graph import Graph, Node


def with_array(network, path, value):
  flat = {name: np.array(a) for name, a in traverse_util.flatten_dict(network.variables).items()}
  flat[path].reshape(-1)[-1] = value
  return traverse_util.unflatten_dict(flat)


def listed(network):
  flat = traverse_util.flatten_dict(network.variables, sep="/")
  return {name: np.shape(array) for name, array in flat.items()}


def check(network, **changes):
  network = dataclasses.replace(network, **changes)
  return check_description(network.graph, network.input_shape, network.spiking, listed(network))


@pytest.mark.parametrize(
  "path, value, message",
  [
    (("params", "conv:1", "kernel"), np.nan, "kernel of 'conv:1' holds 1 NaN or infinite numbers"),
    (("params", "dense:1", "bias"), -np.inf, "bias of 'dense:1' holds 1 NaN or infinite numbers"),
    (("clipping", "act1_1", "v_init"), np.inf, "v_init of 'act1_1' holds 1 NaN"),
    (("clipping", "act1_1", "raw_threshold"), np.nan, "raw_threshold of 'act1_1' holds 1 NaN"),
    (("clipping", "act1_1", "raw_threshold"), -104, "'act1_1' has a threshold of 0, as raw_"),
    # Above 0 in float32, but not for a device that takes so small numbers for 0.
    (("clipping", "act1_1", "raw_threshold"), -90, "'act1_1' has a threshold of 0, as raw_"),
  ],
)
def test_numbers_that_are_none_are_told_by_node(network, path, value, message):
  check_weights(network.variables)
  with pytest.raises(ValueError, match=message):
    check_weights(with_array(network, path, value))


def test_large_sums_of_finite_numbers_are_finite():
  check_weights({"params": {"a": {"kernel": np.full((4, 4), 3e38, np.float32)}}})


@pytest.mark.parametrize(
  "path, value",
  [
    (("params", "conv:2", "kernel"), 1e37),
    (("params", "conv:2", "bias"), -3e38),
    (("clipping", "act1_1", "raw_threshold"), 1e38),
    (("clipping", "act1_1", "v_init"), -1e38),
  ],
)
def test_numbers_that_may_overflow_are_told(network, path, value):
  forms = check(network)
  check_range(network.graph, forms, network.variables, 2**14)
  with pytest.raises(ValueError, match="are so large that numbers may overflow"):
    check_range(network.graph, forms, with_array(network, path, value), 6)


def test_the_first_spike_of_a_period_is_higher_than_the_threshold(network):
  forms = check(network)
  factor = max(np.abs(array).max() for array in network.variables["params"]["dense:2"].values())
  tau = 0.5 * float(np.finfo(np.float32).max) / (4 * 6 * forms["dense:2"].terms * factor)
  large = with_array(network, ("clipping", "act_dense1", "raw_threshold"), tau)
  check_range(network.graph, forms, large, 6)
  with pytest.raises(ValueError, match="are so large that numbers may overflow"):
    check_range(network.graph, forms, large, 6, tcljax.Neuron(phase=8))


def test_a_bound_keeps_a_large_threshold_within_range(network):
  large = with_array(network, ("clipping", "act1_1", "raw_threshold"), 1e38)
  bounded = lambda node: (
    dataclasses.replace(node, settings=(*node.settings, ("bound", 6.0)))
    if node.name == "act1_1"
    else node
  )
  graph = Graph(tuple(map(bounded, network.graph.nodes)), network.graph.output)
  check_range(graph, check(network, graph=graph), large, 6)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"input_shape": (8, 8)}, r"node 'conv:1': kernel=\(3, 3, 3, 8\) must be 3 whole numbers"),
    ({"input_shape": (8, -8, 3)}, "input_shape=-8 must be a whole number from 1"),
    ({"input_shape": (2**20, 2**20, 3)}, "it has 3298534883328 numbers in the input, and 67108864"),
    ({"input_shape": (4000, 4000, 3)}, "numbers in node 'conv:1', and 67108864 are the most"),
    (
      {"spiking": tcljax.SpikingConfig(2**14, chunk=2**14), "input_shape": (4096, 4096, 3)},
      "numbers in node 'conv:1'",
    ),
    ({"spiking": tcljax.SpikingConfig(2**14 + 1)}, "time_steps=16385 is above 16384"),
  ],
)
def test_what_does_not_fit_or_is_too_large_is_told(network, change, message):
  check(network)
  with pytest.raises(ValueError, match=message):
    check(network, **change)


def test_many_steps_at_a_time_are_told():
  graph = Graph((Node("reshape:1", "reshape", ("input:0",), (("shape", (2**20,)),)),), "reshape:1")
  check_description(graph, (2**10, 2**10), tcljax.SpikingConfig(512, chunk=512), {})
  with pytest.raises(ValueError, match="chunk=1024 makes values of 1073741824 numbers, and 53687"):
    check_description(graph, (2**10, 2**10), tcljax.SpikingConfig(1024, chunk=1024), {})


def chain(op, count, settings=()):
  """Nodes that read the one before them twice, as far as they read two."""
  names = ["input:0", *(f"{op}:{i}" for i in range(count))]
  return Graph(
    tuple(
      Node(name, op, (before,) * (1 if op == "transpose" else 2), settings)
      for before, name in itertools.pairwise(names)
    ),
    names[-1],
  )


def takes(*lengths):
  """Nodes that each take the first entry of another axis so often."""
  names = ["input:0", *(f"take:{axis}" for axis in range(1, len(lengths) + 1))]
  settings = [(("axis", axis), ("indices", (0,) * n)) for axis, n in enumerate(lengths, 1)]
  before = itertools.pairwise(names)
  return Graph(
    tuple(Node(name, "take", (of,), held) for (of, name), held in zip(before, settings)), names[-1]
  )


def test_entries_taken_many_times_are_told():
  check_description(takes(2**13, 2**13), (1, 1, 1), tcljax.SpikingConfig(), {})
  for graph, shape in ((takes(2**13, 2**13, 2), (1, 1, 1)), (takes(2**18), (4, 2**9))):
    with pytest.raises(ValueError, match=r"numbers in node 'take:\d', and 67108864 are the most"):
      check_description(graph, shape, tcljax.SpikingConfig(), {})


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"axis": 1, "indices": (0, -1)}, "indices=-1 must be a whole number from 0 to 2"),
    ({"axis": 1, "indices": (0, True)}, "indices=True must be a whole number from 0 to 2"),
    ({"axis": 1, "indices": (0, (0,))}, r"indices=\(0,\) must be a whole number from 0 to 2"),
    ({"axis": 1, "indices": (0,), "mode": "wrap"}, "its settings are"),
  ],
)
def test_entries_that_are_not_there_cannot_be_taken(settings, message):
  node = Node("take:1", "take", ("input:0",), tuple(sorted(settings.items())))
  with pytest.raises(ValueError, match=f"node 'take:1': {message}"):
    check_description(Graph((node,), "take:1"), (3,), tcljax.SpikingConfig(), {})


def test_sums_that_repeat_one_another_are_told():
  """Along axes of size 1, so that a sum is larger than what it is made of."""
  shapes = {"a": (2**14, 1), "b": (1, 2**14)}
  parts = [Node(name, "reshape", ("input:0",), (("shape", n),)) for name, n in shapes.items()]
  graph = Graph((*parts, Node("c", "add", ("a", "b"))), "c")
  with pytest.raises(ValueError, match="268435456 numbers in node 'c', and 67108864 are the most"):
    check_description(graph, (2**14,), tcljax.SpikingConfig(), {})


@pytest.mark.parametrize(
  "graph, message",
  [
    (chain("transpose", 2049, (("permutation", (0, 1)),)), "it has 2049 nodes, and 2048 are"),
    (chain("add", 13), "it has 8192 paths to node 'add:12', and 4096 are the most"),
    (chain("concatenate", 13, (("axis", 1),)), "it has 8192 paths to node 'concatenate:12'"),
    (Graph((Node("a", "concatenate", ("input:0",) * 8193, (("axis", 1),)),), "a"), "8193 inputs"),
    (Graph((Node("a", "add", ("a", "a")),), "a"), "node 'a': it reads 'a', which no node before"),
    (Graph((Node("a/b", "add", ("input:0",) * 2),), "a/b"), "the name 'a/b' of a node is empty"),
    (Graph((), "a"), "the output 'a' is not a node"),
  ],
)
def test_graphs_that_cannot_be_run_are_told(graph, message):
  with pytest.raises(ValueError, match=message):
    check_description(graph, (3,), tcljax.SpikingConfig(), {})
