"""What a converted network must be, wherever it comes from, so that it can be run.

`check_description` looks at numbers of a description alone, so that a network that somebody else
wrote is refused before anything is allocated, traced or compiled. `check_weights` looks at arrays.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from tcljax.graph import Graph, Node
from tcljax.graph.forms import Form
from tcljax.graph.operations import find
from tcljax.graph.record import Kind
from tcljax.graph.whole_numbers import Shape, check_shape
from tcljax.layers.collections import CLIPPING, PARAMS, RAW_THRESHOLD, V_INIT, Variables
from tcljax.maths.inputs import check_all_finite
from tcljax.maths.spikes import Neuron
from tcljax.maths.trees import Shapes, is_shape, leaves_by_path, paired, place
from tcljax.maths.values import check_raw_threshold
from tcljax.simulation.settings import SpikingConfig

# Each leaves room above the largest networks that people convert: a ResNet-152 on 224x224 pixels
# has some 500 nodes, 0.8 million numbers in a value, and 11 thousand million operations a step.
_MOST_NODES = 2048
_MOST_INPUTS = 8192  # of all nodes together
_MOST_ARRAYS = 256  # that a network takes, or answers with
_MOST_PATHS = 2**12  # to a value from the weights and neurons before it; XLA may write out each
_LARGEST_VALUE = 2**26  # numbers that one example makes of a value, once it is padded
_LARGEST_CHUNK = 2**29  # the same of K steps
_MOST_OPERATIONS = 2**40  # multiplications or additions in a step, for one example
_SLOW = 64  # how many of these one of a window takes, as no matrix product serves it
_LARGEST_WEIGHTS = 2**31  # numbers in all arrays, 8 GiB
_MOST_TIME_STEPS = 2**14
_LARGEST_INPUT = 2.0**20  # a normalised image holds far less
_NAME = re.compile(r"[^/\x00-\x1f\x7f\ud800-\udfff]{1,256}")

Forms = dict[str, Form]


def check_weights(variables: Variables) -> None:
  """Raises ValueError unless all arrays are finite and all thresholds are above 0.

  Args:
    variables: `params` by node or module and `clipping` by population.
  """
  for (collection, *path, name), array in traverse_util.flatten_dict(dict(variables)).items():
    node = ".".join(map(str, path))
    array = np.asarray(array)
    check_all_finite(f"{name} of {node!r}", array)
    if collection == CLIPPING and name == RAW_THRESHOLD:
      check_raw_threshold(node, array)


def check_description(
  graph: Graph, input_shape: Shapes, spiking: SpikingConfig, listed: Mapping[str, Shape]
) -> Forms:
  """What follows from a graph: the form of each of its nodes, by name.

  Args:
    graph: what the network computes.
    input_shape: of one input, without the batch; of several inputs a tree of shapes.
    spiking: how it is simulated.
    listed: the shapes of its arrays, by path: "params/conv:1/kernel".

  Raises:
    ValueError: if a node is unknown, or reads what comes after it, or has settings that it cannot
      have, if there are other arrays than it needs, or if it is too large to be run.
  """
  inputs = _shapes_of_inputs(graph, input_shape)
  outputs = {place(path): name for path, name in leaves_by_path(graph.output, _is_name).items()}
  for tree in (graph.inputs, graph.output):
    _check_keys(tree)
  sizes = _Sizes(graph, inputs, len(outputs))
  of_node: dict[str, dict[str, Shape]] = {}
  for path, shape in listed.items():
    prefix, _, name = path.rpartition("/")
    of_node.setdefault(prefix, {})[name] = shape
  shapes, forms, expected = dict(inputs), {}, {}
  for node in graph.nodes:
    if not _NAME.fullmatch(node.name) or node.name in shapes:
      raise ValueError(f"the name {node.name!r} of a node is empty, too long, odd or used twice")
    try:
      form = _form(node, shapes, of_node.get(path_of(node), {}))
    except ValueError as error:
      raise ValueError(f"node {node.name!r}: {error}") from None
    sizes.add(node, form)
    shapes[node.name], forms[node.name] = form.output, form
    expected |= {f"{path_of(node)}/{name}": shape for name, shape in form.arrays.items()}
  for where, name in outputs.items():
    if name not in shapes:
      raise ValueError(f"the output{where} {name!r} is not a node")
  sizes.check_outputs(shapes[name] for name in outputs.values())
  _check_arrays(expected, listed)
  sizes.check_arrays(listed)
  sizes.check_spiking(spiking)
  return forms


def _is_name(part: Any) -> bool:
  return isinstance(part, str)


def _shapes_of_inputs(graph: Graph, input_shape: Shapes) -> dict[str, Shape]:
  """The shape of each input by its name; all are told apart by the keys that lead to them."""
  found = {}
  for field, shape, name in paired("input_shape", input_shape, graph.inputs, is_shape):
    check_shape(field, shape)
    found[name] = shape
  return found


def _check_keys(tree: Any) -> None:
  """Raises ValueError unless all keys of a tree of names are fit to name inputs or outputs."""
  for path in leaves_by_path(tree, _is_name):
    for key in path:
      if isinstance(key, str) and not _NAME.fullmatch(key):
        raise ValueError(f"the name {key!r} of an input or output is empty, too long or odd")


def _form(node: Node, shapes: Mapping[str, Shape], listed: Mapping[str, Shape]) -> Form:
  """The form of a node, after the nodes of these shapes."""
  for name in node.inputs:
    if name not in shapes:
      raise ValueError(f"it reads {name!r}, which no node before it makes")
  form_of = find(node.op).form
  if form_of is None:
    raise ValueError(f"operation {node.op!r} has no form, so that it cannot be stored")
  return form_of([shapes[name] for name in node.inputs], dict(node.settings), listed)


class _Sizes:
  """What a network takes to be run, added up node by node.

  Attributes:
    largest: numbers of the largest value, for one example.
    operations: in one step, for one example.
    paths: by node, how many ways lead to it from the weights and neurons before it.
  """

  def __init__(self, graph: Graph, inputs: Mapping[str, Shape], outputs: int) -> None:
    check_counts(len(graph.nodes), sum(len(node.inputs) for node in graph.nodes))
    _check_most("inputs", len(inputs), _MOST_ARRAYS)
    _check_most("outputs", outputs, _MOST_ARRAYS)
    self.largest, self.operations, self.paths = 0, 0, dict.fromkeys(inputs, 1)
    self._grow("the input", sum(map(math.prod, inputs.values())))

  def add(self, node: Node, form: Form) -> None:
    """Adds a node.

    Raises:
      ValueError: if it makes the network too large.
    """
    kind, values, where = find(node.op).kind, math.prod(form.output), f"node {node.name!r}"
    self._grow(where, max(values, form.padded))
    self.operations += values * form.terms * (1 if kind is Kind.SYNAPSES else _SLOW)
    _check_most(f"operations in a step up to {where}", self.operations, _MOST_OPERATIONS)
    begins = kind in (Kind.SYNAPSES, Kind.NEURONS)
    self.paths[node.name] = 1 if begins else sum(self.paths[name] for name in node.inputs)
    _check_most(f"paths to {where}", self.paths[node.name], _MOST_PATHS)

  def check_outputs(self, shapes: Iterable[Shape]) -> None:
    """Raises ValueError if all outputs together are too large."""
    self._grow("the output", sum(map(math.prod, shapes)))

  def _grow(self, where, numbers):
    check_value(where, numbers)
    self.largest = max(self.largest, numbers)

  def check_arrays(self, listed: Mapping[str, Shape]) -> None:
    """Raises ValueError if all arrays together are too large."""
    _check_most("numbers in its arrays", sum(map(math.prod, listed.values())), _LARGEST_WEIGHTS)

  def check_spiking(self, spiking: SpikingConfig) -> None:
    """Raises ValueError if it is simulated over too many steps, or too many at a time."""
    if spiking.time_steps > _MOST_TIME_STEPS:
      raise ValueError(
        f"time_steps={spiking.time_steps} is above {_MOST_TIME_STEPS}: store fewer, and give more "
        "where the network is called"
      )
    if spiking.chunk * self.largest > _LARGEST_CHUNK:
      raise ValueError(
        f"chunk={spiking.chunk} makes values of {spiking.chunk * self.largest} numbers, and "
        f"{_LARGEST_CHUNK} are the most: choose 0 for an automatic one"
      )


def check_counts(nodes: int, inputs: int) -> None:
  """Raises ValueError if a graph has too many nodes, or these together too many inputs."""
  _check_most("nodes", nodes, _MOST_NODES)
  _check_most("inputs of nodes", inputs, _MOST_INPUTS)


def check_value(where: str, numbers: int) -> None:
  """Raises ValueError if a value of one example holds too many numbers."""
  _check_most(f"numbers in {where}", numbers, _LARGEST_VALUE)


def _check_most(what: str, count: int, most: int) -> None:
  if count > most:
    raise ValueError(f"it has {count} {what}, and {most} are the most")


def path_of(node: Node) -> str:
  """Where the arrays of a node stand in the variables of a network: "params/conv:1"."""
  collection = CLIPPING if find(node.op).kind is Kind.NEURONS else PARAMS
  return f"{collection}/{node.name}"


def _check_arrays(expected, listed):
  """Raises ValueError unless exactly these arrays are there."""
  for name in [*expected, *listed]:
    if name not in listed:
      raise ValueError(f"array {name!r} is missing")
    if name not in expected:
      raise ValueError(f"array {name!r} belongs to no node")
    if listed[name] != expected[name]:
      raise ValueError(f"array {name!r} has shape {listed[name]} in place of {expected[name]}")


def check_range(
  graph: Graph, forms: Forms, variables: Variables, time_steps: int, neuron: Neuron = Neuron()
) -> None:
  """Raises ValueError if a value might leave the range of float32 while the network runs.

  What it looks at is a bound for inputs up to 2**20, far above what sound weights can reach.

  Args:
    graph: what the network computes.
    forms: from `check_description`.
    variables: its arrays, which `check_weights` has passed.
    time_steps: T, over which currents are added up.
    neuron: what sends spikes, of which the first of a period is the highest.
  """
  most = float(np.finfo(np.float32).max) / (4 * time_steps)  # a potential adds up several
  bounds = dict.fromkeys(graph.input_names(), _LARGEST_INPUT)
  for node in graph.nodes:
    bound = forms[node.name].terms * max((bounds[name] for name in node.inputs), default=0.0)
    collection, name = path_of(node).split("/")
    arrays = variables.get(collection, {}).get(name, {})
    if find(node.op).kind is Kind.NEURONS:
      reached = max(bounds[name] for name in node.inputs)
      tau = float(np.logaddexp(np.float64(np.max(arrays[RAW_THRESHOLD])), 0))
      own: Any = dict(node.settings).get("bound", math.inf)
      tau = min(tau, own)
      bound = tau * neuron.heights[0]
      reached = max(reached, bound, tau * _largest(arrays[V_INIT]))
    else:
      if arrays:
        factor = max(map(_largest, arrays.values()))
        bound = bound * factor + factor
      reached = bound
    if not reached <= most:
      raise ValueError(f"the arrays of {node.name!r} are so large that numbers may overflow")
    bounds[node.name] = bound


def _largest(array: Any) -> float:
  return max(float(np.max(array)), -float(np.min(array)))
