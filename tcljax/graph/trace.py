"""From a Flax model to a graph, by reading the operations it traces to (its jaxpr).

Nothing is matched by module name or class: whatever does not depend on the input is evaluated
(BatchNorm's statistics become two constants), whatever does must be affine or an activation. The
one exception is a maximum of input currents, which neurons alone may read.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from tcljax.graph.nodes import INPUT, Graph, Node
from tcljax.graph.primitives import BATCH, AffinePrimitives, Symbol
from tcljax.kernels import convolution
from tcljax.layers.activations import Activation, with_activation
from tcljax.maths import max_pooling

_NEURONS = core.Primitive("neurons")


@_NEURONS.def_abstract_eval
def _shape_of_neurons(x, *, path, max_pool):
  if max_pool is None:
    return x
  pooled = jax.eval_shape(
    lambda x: max_pooling.max_pool(x, max_pool), jax.ShapeDtypeStruct(x.shape, x.dtype)
  )
  return x.update(shape=pooled.shape)


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


class _Marker(Activation):
  """Stands in for the activation and leaves its path in the traced operations."""

  @nn.compact
  def __call__(self, x):
    self.check_name()
    return _NEURONS.bind(x, path=self.path, max_pool=self.max_pool)


def trace(
  model: nn.Module, variables: Any, input_shape: tuple[int, ...]
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
  network = with_activation(model, _Marker)
  with convolution.as_written():
    closed = jax.make_jaxpr(lambda x: network.apply(variables, x))(
      jax.ShapeDtypeStruct((BATCH, *input_shape), jnp.float32)
    )
  tracer = _Tracer()
  outputs = tracer.run(closed.jaxpr, closed.consts, [Symbol(INPUT, (BATCH, *input_shape))])
  if len(outputs) != 1 or not isinstance(outputs[0], Symbol):
    raise ValueError("the model must return one array that depends on its input")
  graph = Graph(tuple(tracer.nodes), outputs[0].name)
  _check_maxima(graph, tracer.places)
  return graph, tracer.arrays


def _check_maxima(graph, places):
  """Raises ValueError unless every maximum is one of input currents, on their way into neurons.

  Of spikes it would be no sum of spikes; and after a maximum, BatchNorm could not be folded into
  the convolution before it, as a negative scale would make a minimum of it.
  """
  nodes = {node.name: node for node in graph.nodes}

  def only_spikes(name):  # moved or scaled, but not yet summed by weights; or pixels
    if name == INPUT or nodes[name].op == "neurons":
      return True
    return nodes[name].op not in ("conv", "dense") and all(map(only_spikes, nodes[name].inputs))

  for name, place in places.items():
    readers = {node.op for node in graph.nodes if name in node.inputs}
    if only_spikes(name) or readers - {"neurons"} or graph.output == name:
      raise _refusal("reduce_window_max", place)


_MAXIMUM = (
  "use average pooling, or give maximum pooling to the activation before it, "
  "self.act(name=..., max_pool=tcljax.MaxPool(2))(x); of input currents a maximum may be taken "
  "where an activation alone reads it, after BatchNorm and right before the activation"
)
_REMEDIES = {
  "reduce_window_max": _MAXIMUM,
  "reduce_max": _MAXIMUM,
  "max": "write self.act(name=...)(x) in place of nn.relu(x), and pass act=self.act on to inner "
  "modules",
}


def _refusal(operation, place):
  """The error for an operation that spikes cannot carry, with what to do."""
  remedy = _REMEDIES.get(
    operation,
    (
      "between two activations convert can read convolutions, products with weights, sums, "
      "scalings, BatchNorm, average pooling and reshapes, each example by itself"
    ),
  )
  return ValueError(f"the model applies `{operation}`{' in ' + place if place else ''}: {remedy}")


class _Tracer(AffinePrimitives):
  """Walks a jaxpr, keeping constants as arrays and turning the rest into nodes."""

  def __init__(self):
    self.nodes, self.arrays, self._count = [], {}, {}
    self.places = {}  # where in the model each maximum stands, by node

  def run(self, jaxpr, consts, args):
    env = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, args))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else env[atom]
    for eqn in jaxpr.eqns:
      inputs = [read(atom) for atom in eqn.invars]
      if eqn.primitive.name in _CALLS:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        inner, inner_consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        outputs = self.run(inner, inner_consts, inputs)
      elif not any(isinstance(value, Symbol) for value in inputs):
        if eqn.primitive is _NEURONS:
          raise ValueError(
            f"activation {'.'.join(eqn.params['path'])!r} does not depend on the "
            "input: nothing to convert"
          )
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
        outputs = outputs if eqn.primitive.multiple_results else [outputs]
      else:
        outputs = [self._equation(eqn, inputs)]
      env.update(zip(eqn.outvars, outputs))
    return [read(atom) for atom in jaxpr.outvars]

  def _equation(self, eqn, inputs):
    name = eqn.primitive.name
    handler = getattr(self, f"_on_{name}", None)
    node = handler(inputs, eqn.params) if handler else None
    place = str(eqn.source_info.name_stack)
    if node is None:
      raise _refusal(name, place)
    if isinstance(node, Symbol):
      return node
    op, sources, arrays, settings, *named = node
    made = self.emit(op, sources, arrays, settings, eqn.outvars[0].aval.shape, *named)
    if op == "max_pool":
      self.places[made.name] = place
    return made

  def emit(self, op, sources, arrays, settings, shape, name=None):
    if name is None:
      self._count[op] = self._count.get(op, 0) + 1
      name = f"{op}:{self._count[op]}"
    settings = tuple(sorted(settings.items()))
    self.nodes.append(Node(name, op, tuple(source.name for source in sources), settings))
    if arrays:
      self.arrays[name] = {key: _at_least_float32(array) for key, array in arrays.items()}
    return Symbol(name, shape)

  def _on_neurons(self, inputs, params):
    name = ".".join(params["path"])
    if any(node.name == name for node in self.nodes):
      raise ValueError(f"activation {name!r} is used twice: give each use a name of its own")
    gate = params["max_pool"]
    settings = dataclasses.asdict(gate) if gate else {}
    return "neurons", inputs, {}, settings, name


def _at_least_float32(array):
  array = np.asarray(array)
  return array.astype(np.float32) if array.dtype.itemsize < 4 else array
