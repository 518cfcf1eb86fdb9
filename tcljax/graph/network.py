"""A graph as a Flax module with a field `act`.

So all that works on a model (calibration, tuning, simulation, evaluation) works on a graph too.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.graph.nodes import Graph, Node
from tcljax.graph.operations import find
from tcljax.graph.record import Kind
from tcljax.layers.activations import ReLU
from tcljax.maths.trees import paired, thawed


class GraphNetwork(nn.Module):
  """Runs a graph. Its variables are `params[node][array]` and `clipping[neurons]`.

  Attributes:
    graph: what to run.
    act: the activation module used for its neurons; see `tcljax.layers.activations`.

  Raises:
    ValueError: when called, if the graph holds an unknown operation.
  """

  graph: Graph
  act: Callable[..., Any] = ReLU

  @nn.compact
  def __call__(self, x: Any) -> Any:
    """The network's output for inputs [B, ...], which are one array, or several in a tree.

    Raises:
      ValueError: if they are another tree than the graph's inputs, naming the place.
    """
    named = paired("x", self.graph.inputs, x, lambda part: isinstance(part, str))
    values = {name: jnp.asarray(leaf, jnp.float32) for _, name, leaf in named}
    for node in self.graph.nodes:
      values[node.name] = self.run(node, [values[name] for name in node.inputs])
    return thawed(jax.tree.map(values.__getitem__, self.graph.output))

  def run(self, node: Node, inputs: list[jax.Array]) -> jax.Array:
    """The value of a node, [B, ...], from those that it reads."""
    operation = find(node.op)
    if operation.kind is Kind.NEURONS:
      given = {"act": functools.partial(self.act, name=node.name)}
    else:
      given = self.get_variable("params", node.name, {})
    return operation.run(*inputs, **given, **dict(node.settings))
