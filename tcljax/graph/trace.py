"""From a Flax model to a graph, by reading the operations it traces to (its jaxpr).

Nothing is matched by module name or class: whatever does not depend on the input is evaluated
(BatchNorm's statistics become two constants), whatever does must be affine or an activation. The
one exception is a maximum of input currents, which neurons alone may read. How each primitive is
read stands in the records of `tcljax.graph.operations`.
"""

import collections
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from tcljax.graph import neurons
from tcljax.graph.nodes import INPUT, Graph, Node
from tcljax.graph.operations import find, readers
from tcljax.graph.record import Kind, Made, Reader, Refused, Symbol
from tcljax.graph.remedies import remedy
from tcljax.kernels import convolution
from tcljax.layers.activations import ReLU, with_activation
from tcljax.layers.collections import Variables
from tcljax.layers.inputs import told_of_inputs
from tcljax.maths.max_pooling import CURRENTS
from tcljax.models.precision import in_float32

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


# Models are traced with two numbers of examples, so that neither can be mistaken for an axis of the
# network, and what depends on it differs.
_BATCHES = (2, 3)

Arrays = dict[str, dict[str, np.ndarray]]


def trace(
  model: nn.Module, variables: Variables, input_shape: tuple[int, ...]
) -> tuple[Graph, Arrays]:
  """The graph of a model and its arrays.

  Warns of a maximum of input currents that stands in the model itself: the spiking network takes
  the largest current of each step, whose mean lies above the maximum of the mean currents.

  Args:
    model: a network with a field `act`.
    variables: `params`, `batch_stats` and whatever else it reads.
    input_shape: shape of one input, without the batch.

  Returns:
    The graph and its arrays, by node and by name.

  Raises:
    ValueError: if the model does to an activation what spikes cannot carry, naming the operation
      and where it stands; if it uses the number of examples in a batch, cannot be run, or does not
      return one array that depends on its input.
  """
  network = with_activation(model, neurons.Marker)
  graph, tracer = _traced(network, variables, (_BATCHES[0], *input_shape))
  again, other = _traced(network, variables, (_BATCHES[1], *input_shape))
  if different := _first_difference(graph, tracer.arrays, again, other.arrays):
    raise ValueError(
      f"the model uses the number of examples in a batch{_at(*tracer.made_by[different])}: the "
      "answer for one would depend on how many others there are; use x.shape[0] in reshapes alone"
    )
  _check_maxima(graph, tracer.made_by)
  return graph, tracer.arrays


def check_convertible(model: nn.Module, variables: Variables, input_shape: tuple[int, ...]) -> None:
  """Raises ValueError if `tcljax.convert` would refuse the model; asked before it is trained."""
  graph, _ = trace(in_float32(model), variables, input_shape)
  if not graph.populations():
    raise ValueError(
      f"{type(model).__name__} applies its field act nowhere: write self.act(name='act1')(x) "
      "after each layer, in place of nn.relu"
    )


def _traced(
  network: nn.Module, variables: Variables, shape: tuple[int, ...]
) -> tuple[Graph, "_Tracer"]:
  """The graph of a network on a batch of this shape, and what is known of its nodes."""
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  with told_of_inputs(network, variables, x):
    with convolution.as_written(), nn.intercept_methods(_refuse_relu):
      closed, returned = jax.make_jaxpr(lambda x: network.apply(variables, x), return_shape=True)(x)
  tracer = _Tracer(readers())
  outputs = tracer.run(closed.jaxpr, closed.consts, [Symbol(INPUT, shape)])
  if not isinstance(returned, jax.ShapeDtypeStruct):
    raise ValueError(
      f"the model returns a {type(returned).__name__} of {len(outputs)} arrays: let it return one "
      "array, such as the logits"
    )
  if not isinstance(outputs[0], Symbol):
    raise ValueError("the model must return one array that depends on its input")
  return Graph(tuple(tracer.nodes), outputs[0].name), tracer


def _refuse_relu(call, args, kwargs, context):
  """Tells of an activation that the swap has not reached: it would stay without a threshold."""
  if isinstance(context.module, ReLU):
    raise ValueError(
      f"activation {'/'.join(context.module.path)!r} stays tcljax.ReLU when the "
      "model's field act is swapped: pass act=self.act on to inner modules"
    )
  return call(*args, **kwargs)


def _first_difference(one: Graph, arrays: Arrays, other: Graph, others: Arrays) -> str | None:
  """The first node of a graph that differs in the other one; None if the two are the same."""
  for node, its_twin in itertools.zip_longest(one.nodes, other.nodes):
    mine, theirs = (
      of.get(n.name, {}) if n else {} for of, n in ((arrays, node), (others, its_twin))
    )
    same = node == its_twin and mine.keys() == theirs.keys()
    if not same or not all(np.array_equal(mine[k], theirs[k], equal_nan=True) for k in mine):
      return (node or one.nodes[-1]).name
  return None


def _check_maxima(graph: Graph, made_by: Mapping[str, tuple[str, str]]) -> None:
  """Raises ValueError unless every maximum is one of input currents, on their way into neurons.

  Of spikes it would be no sum of spikes; and after a maximum, BatchNorm could not be folded into
  the convolution before it, as a negative scale would make a minimum of it. Warns of the others.

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
      readers = [node.name for node in graph.nodes if name in node.inputs]
      read_by = {kinds[reader] for reader in readers}
      if only_spikes(name) or read_by - {Kind.NEURONS} or graph.output == name:
        raise _refusal(*made_by[name], remedy(made_by[name][0]))
      warnings.warn(
        f"the model takes a maximum{_at(*made_by[name])} right before activation {readers[0]!r}: "
        "its spiking network takes the largest current of each step, which does not come to the "
        "ANN however many steps there are; give the pooling to the activation, "
        f"self.act(name=..., max_pool=tcljax.MaxPool(2, of={CURRENTS!r}))(x)",
        stacklevel=2,
      )


def _refusal(primitive: str, place: str, what_to_do: str) -> ValueError:
  """The error for a primitive that spikes cannot carry."""
  where = f" in {place}" if place else ""
  return ValueError(f"the model applies `{primitive}`{where}: {what_to_do}")


def _at(primitive: str, place: str) -> str:
  return f", by `{primitive}` in {place}" if place else f", by `{primitive}`"


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
    self.arrays: Arrays = {}
    self.made_by: dict[str, tuple[str, str]] = {}
    self._count = collections.Counter()

  def run(
    self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], place: str = ""
  ) -> list[Any]:
    """The outputs of a jaxpr: symbols where they depend on the input, arrays elsewhere.

    Args:
      jaxpr: operations in an order in which each comes after what it reads.
      consts: values of its constants.
      args: its inputs.
      place: where in the model it stands.
    """
    env = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, args))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else env[atom]
    for eqn in jaxpr.eqns:
      inputs = [read(atom) for atom in eqn.invars]
      inside = "/".join(filter(None, (place, str(eqn.source_info.name_stack))))
      if eqn.primitive.name in _CALLS:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        inner, inner_consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        outputs = self.run(inner, inner_consts, inputs, inside)
      elif not any(isinstance(value, Symbol) for value in inputs):
        if eqn.primitive is neurons.PRIMITIVE:
          raise ValueError(
            f"activation {neurons.name_of(eqn.params)!r} does not depend on the "
            "input: nothing to convert"
          )
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
        outputs = outputs if eqn.primitive.multiple_results else [outputs]
      else:
        outputs = [self._symbol(eqn, inputs, inside)]
      env.update(zip(eqn.outvars, outputs))
    return [read(atom) for atom in jaxpr.outvars]

  def _symbol(self, eqn: Any, inputs: Sequence[Any], place: str) -> Symbol:
    """The output of an equation that depends on the input, its nodes added."""
    origin = eqn.primitive.name, place
    for read in self.readers.get(eqn.primitive.name, ()):
      try:
        made = read(inputs, eqn.params)
      except Refused:
        continue
      return Symbol(self._add(made, origin), tuple(eqn.outvars[0].aval.shape))
    raise _refusal(*origin, remedy(origin[0], inputs, eqn.params, place))

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
