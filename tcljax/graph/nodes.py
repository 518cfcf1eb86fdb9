"""What a network computes: affine maps and neuron populations, as a list of nodes that can be run.

A `Graph` is plain data (hashable, writable as JSON); its arrays are kept apart, by node name.
`GraphNetwork` runs one as a Flax module with a field `act`, so that all that works on a model
(calibration, tuning, simulation, evaluation) works on a graph as well.
"""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcljax.kernels.convolution import convolve
from tcljax.layers.activations import ReLU
from tcljax.maths.max_pooling import MaxPool

INPUT = "input:0"  # a colon keeps the names given here apart from those of activations


@dataclasses.dataclass(frozen=True)
class Node:
  """One operation.

  Attributes:
    name: unique in the graph; for neurons the path of their activation, joined by dots, for
      others the operation and a number, "conv:2".
    op: "neurons" or one of `_OPERATIONS`, such as "conv", "dense", "affine" or "add".
    inputs: names of the nodes it reads; "input:0" is the network's input.
    settings: what else determines the operation, as sorted pairs; of neurons that gate, the fields
      of their `MaxPool`.
  """

  name: str
  op: str
  inputs: tuple[str, ...]
  settings: tuple[tuple[str, Hashable], ...] = ()


@dataclasses.dataclass(frozen=True)
class Graph:
  """Nodes in an order in which each comes after what it reads, and the name of the output node."""

  nodes: tuple[Node, ...]
  output: str

  def consumers(self) -> dict[str, int]:
    """How many times each node is read; being the graph's output counts as once."""
    count = dict.fromkeys([INPUT, *(node.name for node in self.nodes)], 0)
    for name in [self.output, *(name for node in self.nodes for name in node.inputs)]:
      count[name] += 1
    return count


def _add_bias(x, bias):
  return x if bias is None else x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _conv(x, *, kernel, bias=None, **settings):
  spatial = "".join("DHW"[-(x.ndim - 2) :])
  y = convolve(
    x, kernel, dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"), **settings
  )
  return _add_bias(y, bias)


def _sum_pool(x, **settings):
  # A concrete zero is what JAX recognises as a sum, which it can differentiate.
  return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, **settings)


def _max_pool(x, **settings):
  return jax.lax.reduce_window(x, np.array(-np.inf, x.dtype), jax.lax.max, **settings)


def _slice(x, *, start, limit, strides):
  return jax.lax.slice(x, (0, *start), (x.shape[0], *limit), (1, *strides))


# Each takes its input activations [B, ...], then its arrays and settings by name.
_OPERATIONS: dict[str, Callable[..., jax.Array]] = {
  "conv": _conv,
  "dense": lambda x, *, kernel, bias=None: _add_bias(x @ kernel, bias),
  "affine": lambda x, *, scale, shift: x * scale[None] + shift[None],
  "sum_pool": _sum_pool,
  "max_pool": _max_pool,  # of input currents
  "sum": lambda x, *, axes: x.sum(axis=axes),
  "reshape": lambda x, *, shape: x.reshape(-1, *shape),
  "transpose": lambda x, *, permutation: x.transpose(permutation),
  "slice": _slice,
  "pad": lambda x, *, padding: jax.lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), *padding)),
  "concatenate": lambda *xs, axis: jnp.concatenate(xs, axis),
  "add": lambda x, y: x + y,
}


class GraphNetwork(nn.Module):
  """Runs a graph. Its variables are `params[node][array]` and `clipping[neurons]`.

  Attributes:
    graph: what to run.
    act: the activation module used for its neurons; see `tcljax.layers.activations`.
  """

  graph: Graph
  act: Callable[..., Any] = ReLU

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """The network's output for inputs [B, ...]."""
    values = {INPUT: jnp.asarray(x, jnp.float32)}
    for node in self.graph.nodes:
      inputs = [values[name] for name in node.inputs]
      if node.op == "neurons":
        gate = {"max_pool": MaxPool(**dict(node.settings))} if node.settings else {}
        values[node.name] = self.act(name=node.name, **gate)(*inputs)
      else:
        if node.op not in _OPERATIONS:
          raise ValueError(f"unknown operation {node.op!r}")
        arrays = self.get_variable("params", node.name, {})
        values[node.name] = _OPERATIONS[node.op](*inputs, **arrays, **dict(node.settings))
    return values[self.graph.output]
