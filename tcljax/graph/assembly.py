"""From the operations of a function, read at one number of examples, to a graph with names."""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax.core import FrozenDict

from tcljax.graph import maxima
from tcljax.graph.builder import Builder
from tcljax.graph.fates import Fate
from tcljax.graph.fold import numbered
from tcljax.graph.layout import Symbol, as_stored
from tcljax.graph.nodes import Graph, Node, input_name
from tcljax.graph.operations import OPERATIONS
from tcljax.graph.reading import Reading, Unread, refusal
from tcljax.graph.record import Kind, Refused
from tcljax.graph.remedies import remedy
from tcljax.graph.store import Arrays, Origin
from tcljax.maths.trees import leaves_by_path, place


class Assembled(NamedTuple):
  """A graph, and what became of each operation of the function.

  Attributes:
    graph: with names that do not depend on the number of examples.
    arrays: by node and by name.
    origins: of each node.
    fates: of each operation that depends on the input.
    made: by the place of an operation in `fates`, the nodes that were made for it.
    used: places in `fates` of the operations that outputs are made of.
    unread: for each output, in the order of the graph's, what it was made into by operations that
      no graph can hold, if the graph's is what these began with; None where the graph's is all.
  """

  graph: Graph
  arrays: Arrays
  origins: Mapping[str, Origin]
  fates: list[Fate]
  made: Mapping[int, list[str]]
  used: set[int]
  unread: list[Unread | None]


def assembled(
  closed: Any,
  returned: Any,
  example: Any,
  *,
  inserts: bool,
  pooling: str = "gate",
  lenient: bool = False,
) -> Assembled:
  """Reads a function of one batch.

  Args:
    closed: its jaxpr.
    returned: shapes of what it returns.
    example: shapes and types of what it takes, [B, ...].
    inserts: see `Builder`.
    pooling: see `Builder`.
    lenient: whether an output that cannot be read is left as something that it was computed from,
      and a maximum that is too large as it is.

  Raises:
    ValueError: if an output does not depend on the input, or comes of what no graph can hold in a
      way that does not end in numbers of the same shape.
  """
  graph = Builder(OPERATIONS, inserts, pooling)
  inputs = []
  for i, leaf in enumerate(jax.tree.leaves(example)):
    graph.shapes[input_name(i)] = tuple(leaf.shape)
    inputs.append(as_stored(input_name(i), tuple(leaf.shape)))
  reading = Reading(graph)
  outputs = reading.run(closed.jaxpr, closed.consts, inputs)
  leaves = leaves_by_path(returned, lambda x: hasattr(x, "shape"))
  shapes = {place(path): tuple(leaf.shape) for path, leaf in leaves.items()}
  names = [_output(graph, value, *of, lenient) for value, of in zip(outputs, shapes.items())]
  if not names:
    raise ValueError("the model returns no array: let it return one, such as the logits")
  nodes = _reached(graph, names, _without_maxima(reading, names, lenient) if inserts else {})
  output = _plain(jax.tree.unflatten(jax.tree.structure(returned), names), "returns")
  taken = [input_name(i) for i in range(len(inputs))]
  taken = _plain(jax.tree.unflatten(jax.tree.structure(example), taken), "takes")
  whole = Graph(nodes, output, taken)
  whole = whole.renamed(_names_of_populations(whole, graph) if inserts else {})
  named = dict(zip([node.name for node in nodes], [node.name for node in whole.nodes]))
  numbers = numbered(whole)
  named = {old: numbers[new] for old, new in named.items()}
  return Assembled(
    whole.renamed(numbers),
    {named[name]: of for name, of in graph.arrays.items() if name in named},
    {named[name]: origin for name, origin in graph.origins.items() if name in named},
    reading.history.fates,
    {step: _alive(graph, of, named) for step, of in reading.history.made.items()},
    reading.history.used(outputs),
    [value if isinstance(value, Unread) else None for value in outputs],
  )


def _output(graph: Builder, value: Any, at: str, shape: tuple[int, ...], lenient: bool) -> str:
  """The node of an output, stored as the model has it; `at` is its place among several."""
  if isinstance(value, Unread):
    base, *others = value.bases
    if lenient:
      return base.name
    if others or math.prod(base.shape) != math.prod(shape):
      raise value.error
    try:
      value = graph.reshaped(base, shape)
    except Refused:
      raise value.error from None
  if not isinstance(value, Symbol):
    raise ValueError(
      f"the model returns what does not depend on its input{at and f', outputs{at}'}: let it "
      "return arrays that do, such as the logits"
    )
  try:
    return graph.as_in_model(value).name
  except Refused:
    raise ValueError(
      f"the model returns an array of shape {shape}{at and f', outputs{at}'}, whose first axis is "
      "not the batch: let it return [batch, ...]"
    ) from None


def _plain(tree: Any, verb: str) -> Any:
  """A tree of names that has a hash: lists as tuples, dictionaries frozen.

  Args:
    tree: of names.
    verb: what the model does with the arrays that they stand for, "takes" or "returns".
  """
  if isinstance(tree, str):
    return tree
  if isinstance(tree, Mapping):
    if not all(isinstance(key, str) for key in tree):
      raise ValueError(f"the model {verb} a dictionary with the keys {[*tree]}: let them be text")
    return FrozenDict({key: _plain(value, verb) for key, value in tree.items()})
  if isinstance(tree, (tuple, list)):
    return tuple(_plain(value, verb) for value in tree)
  raise ValueError(
    f"the model {verb} a {type(tree).__name__}: let it be one array, or several in a tuple or a "
    "dictionary"
  )


def _without_maxima(reading: Reading, outputs: list[str], lenient: bool) -> dict[str, str]:
  """For each maximum that no population has taken over, a node that computes the same without."""
  graph = reading.graph
  replaced: dict[str, str] = {}
  for node in _reached(graph, outputs, {}):
    if graph.kind(node.name) is Kind.MAXIMUM:
      graph.origin = graph.origins[node.name]
      try:
        replaced[node.name] = maxima.without_maxima(graph, node.name)
      except Refused:
        what_to_do = remedy(graph.origin.primitive, inserts=True)
        if not lenient:
          raise refusal(graph.origin, what_to_do) from None
        reading.history.refuse(node.name, what_to_do)
  return replaced


def _reached(graph: Builder, outputs: list[str], replaced: Mapping[str, str]) -> tuple[Node, ...]:
  """The nodes that outputs are made of, each after what it reads.

  Args:
    graph: with all nodes.
    outputs: names; where they are replaced, the list is changed.
    replaced: other nodes to read in place of some.
  """
  current = lambda name: replaced.get(name, name)
  outputs[:] = map(current, outputs)
  found: dict[str, Node] = {}
  waiting = [(name, False) for name in reversed(outputs)]
  while waiting:
    name, done = waiting.pop()
    if name in found or name not in graph.nodes:
      continue
    node = graph.nodes[name]
    inputs = tuple(map(current, node.inputs))
    if done:
      found[name] = dataclasses.replace(node, inputs=inputs)
    else:
      waiting += [(name, True), *((of, False) for of in reversed(inputs))]
  if replaced:
    return tuple(found.values())
  return tuple(found[name] for name in graph.nodes if name in found)


_TRANSFORMED = re.compile(r"\w+\((.*)\)")


def _names_of_populations(whole: Graph, graph: Builder) -> dict[str, str]:
  """Names after the user's modules: "Block_0.relu", "Block_0.relu_2", or "relu" where none is."""
  paths = {name: _path(graph.origins[name].place) for name in whole.populations()}
  first = {path[:1] for path in paths.values()}
  if len(first) == 1 and len(paths) > 1:  # of the whole model
    paths = {name: path[1:] for name, path in paths.items()}
  names, count = {}, collections.Counter()
  for name, path in paths.items():
    kind = "pool" if graph.origins[name].primitive in _POOLINGS else "relu"
    base = ".".join((*path, kind))
    count[base] += 1
    names[name] = base if count[base] == 1 else f"{base}_{count[base]}"
  return names


_POOLINGS = ("reduce_window_max", "reduce_max")


def _path(place: str) -> tuple[str, ...]:
  """The user's names in a place, without those of transformations such as vmap(...)."""
  path = []
  for part in place.split("/"):
    while inner := _TRANSFORMED.fullmatch(part):
      part = inner[1]
    part = re.sub(r"[^\w.-]", "_", part)[:64]
    if path and part.startswith(f"{path[-1]}."):  # Linen's name of a method
      continue
    path += [part] if part else []
  return tuple(path[-3:])


def _alive(graph: Builder, made: list[str], named: Mapping[str, str]) -> list[str]:
  """The new names of those of these nodes, or of what took their place, that are in the graph."""
  found = []
  for name in made:
    while name not in named and name in graph.successors:
      name = graph.successors[name]
    found += [named[name]] if name in named else []
  return found
