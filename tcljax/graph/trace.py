"""From a Flax model to a graph, by reading the operations it traces to (its jaxpr).

Nothing is matched by module name or class: whatever does not depend on the input is evaluated
(BatchNorm's statistics become two constants), whatever does must be affine or an activation. The
one exception is a maximum of input currents, which neurons alone may read. How each primitive is
read stands in the records of `tcljax.graph.operations`.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from tcljax.graph import neurons
from tcljax.graph.nodes import INPUT, Graph, Node
from tcljax.graph.operations import find, readers, remedy
from tcljax.graph.record import BATCH, Kind, Made, Reader, Refused, Symbol
from tcljax.kernels import convolution
from tcljax.layers.activations import with_activation
from tcljax.layers.collections import Variables

# What runs the operations inside it once, as they stand; loops do not.
_CALLS = (
  "jit",
  "pjit",
  "closed_call",
  "core_call",
  "checkpoint",
  "remat2",
  "custom_jvp_call",
  "custom_vjp_call",
)


def trace(
  model: nn.Module, variables: Variables, input_shape: tuple[int, ...]
) -> tuple[Graph, dict[str, dict[str, np.ndarray]]]:
  """The graph of a model and its arrays.

  Args:
    model: a network with a field `act`.
    variables: `params`, `batch_stats` and whatever else it reads.
    input_shape: shape of one input, without the batch.

  Returns:
    The graph and its arrays, by node and by name.

  Raises:
    ValueError: if the model does to an activation what spikes cannot carry, naming the operation
      and where it stands.
  """
  network = with_activation(model, neurons.Marker)
  with convolution.as_written():
    closed = jax.make_jaxpr(lambda x: network.apply(variables, x))(
      jax.ShapeDtypeStruct((BATCH, *input_shape), jnp.float32)
    )
  tracer = _Tracer(readers())
  outputs = tracer.run(closed.jaxpr, closed.consts, [Symbol(INPUT, (BATCH, *input_shape))])
  if len(outputs) != 1 or not isinstance(outputs[0], Symbol):
    raise ValueError("the model must return one array that depends on its input")
  graph = Graph(tuple(tracer.nodes), outputs[0].name)
  _check_maxima(graph, tracer.made_by)
  return graph, tracer.arrays


def _check_maxima(graph: Graph, made_by: Mapping[str, tuple[str, str]]) -> None:
  """Raises ValueError unless every maximum is one of input currents, on their way into neurons.

  Of spikes it would be no sum of spikes; and after a maximum, BatchNorm could not be folded into
  the convolution before it, as a negative scale would make a minimum of it.

  Args:
    graph: of the model.
    made_by: for each node the primitive that made it, and where in the model.
  """
  nodes = {node.name: node for node in graph.nodes}
  kinds = {node.name: find(node.op).kind for node in graph.nodes}

  def only_spikes(name):  # moved or scaled, but not yet summed by weights; or pixels
    if name == INPUT or kinds[name] is Kind.NEURONS:
      return True
    return kinds[name] is not Kind.SYNAPSES and all(map(only_spikes, nodes[name].inputs))

  for name, kind in kinds.items():
    if kind is Kind.MAXIMUM:
      read_by = {kinds[node.name] for node in graph.nodes if name in node.inputs}
      if only_spikes(name) or read_by - {Kind.NEURONS} or graph.output == name:
        raise _refusal(*made_by[name])


def _refusal(primitive: str, place: str) -> ValueError:
  """The error for a primitive that spikes cannot carry, with what to do."""
  where = f" in {place}" if place else ""
  return ValueError(f"the model applies `{primitive}`{where}: {remedy(primitive)}")


class _Tracer:
  """Walks a jaxpr, keeping constants as arrays and turning the rest into nodes.

  Attributes:
    readers: for each primitive those who may make a node of it.
    nodes: those made so far.
    arrays: theirs, by node and by name.
    made_by: for each node the primitive that made it, and where in the model.
  """

  def __init__(self, readers: Mapping[str, Sequence[Reader]]) -> None:
    self.readers = readers
    self.nodes: list[Node] = []
    self.arrays: dict[str, dict[str, np.ndarray]] = {}
    self.made_by: dict[str, tuple[str, str]] = {}
    self._count = collections.Counter()

  def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr: symbols where they depend on the input, arrays elsewhere."""
    env = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, args))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else env[atom]
    for eqn in jaxpr.eqns:
      inputs = [read(atom) for atom in eqn.invars]
      if eqn.primitive.name in _CALLS:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        inner, inner_consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        outputs = self.run(inner, inner_consts, inputs)
      elif not any(isinstance(value, Symbol) for value in inputs):
        if eqn.primitive is neurons.PRIMITIVE:
          raise ValueError(
            f"activation {neurons.name_of(eqn.params)!r} does not depend on the "
            "input: nothing to convert"
          )
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
        outputs = outputs if eqn.primitive.multiple_results else [outputs]
      else:
        outputs = [self._symbol(eqn, inputs)]
      env.update(zip(eqn.outvars, outputs))
    return [read(atom) for atom in jaxpr.outvars]

  def _symbol(self, eqn: Any, inputs: Sequence[Any]) -> Symbol:
    """The output of an equation that depends on the input, its nodes added."""
    origin = eqn.primitive.name, str(eqn.source_info.name_stack)
    for read in self.readers.get(eqn.primitive.name, ()):
      try:
        made = read(inputs, eqn.params)
      except Refused:
        continue
      return Symbol(self._add(made, origin), tuple(eqn.outvars[0].aval.shape))
    raise _refusal(*origin)

  def _add(self, made: Symbol | Made, origin: tuple[str, str]) -> str:
    """Adds a node, those that it needs before it; returns its name."""
    if isinstance(made, Symbol):
      return made.name
    inputs = tuple(self._add(value, origin) for value in made.inputs)
    if made.op is None:
      (name,) = inputs
      return name
    if made.name in self.made_by:
      raise ValueError(f"activation {made.name!r} is used twice: give each use a name of its own")
    self._count[made.op] += 1
    name = made.name or f"{made.op}:{self._count[made.op]}"
    self.nodes.append(Node(name, made.op, inputs, tuple(sorted(made.settings.items()))))
    self.made_by[name] = origin
    if made.arrays:
      self.arrays[name] = {key: _at_least_float32(array) for key, array in made.arrays.items()}
    return name


def _at_least_float32(array):
  array = np.asarray(array)
  return array.astype(np.float32) if array.dtype.itemsize < 4 else array
