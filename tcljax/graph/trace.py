"""From a Flax model to a graph, by reading the operations it traces to (its jaxpr).

Nothing is matched by module name or class: whatever does not depend on the input is evaluated
(BatchNorm's statistics become two constants), whatever does must be affine or an activation.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from tcljax.activations import Activation, with_activation
from tcljax.graph.nodes import INPUT, Graph, Node

_NEURONS = core.Primitive("neurons")
_NEURONS.def_abstract_eval(lambda x, *, path: x)

# What runs the operations inside it once, as they stand; loops do not.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call",
          "custom_vjp_call")

# Traced with two examples, so that the batch axis cannot be mistaken for an axis of size one.
_BATCH = 2


class _Marker(Activation):
  """Stands in for the activation and leaves its path in the traced operations."""

  @nn.compact
  def __call__(self, x):
    self.check_name()
    return _NEURONS.bind(x, path=self.path)


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
  closed = jax.make_jaxpr(lambda x: network.apply(variables, x))(
      jax.ShapeDtypeStruct((_BATCH, *input_shape), jnp.float32))
  tracer = _Tracer()
  outputs = tracer.run(closed.jaxpr, closed.consts, [_Symbol(INPUT, (_BATCH, *input_shape))])
  if len(outputs) != 1 or not isinstance(outputs[0], _Symbol):
    raise ValueError("the model must return one array that depends on its input")
  return Graph(tuple(tracer.nodes), outputs[0].name), tracer.arrays


class _Symbol:
  """A value that depends on the input: the node that makes it, and its shape."""

  def __init__(self, name, shape):
    self.name, self.shape, self.ndim = name, tuple(shape), len(shape)


class _Tracer:
  """Walks a jaxpr, keeping constants as arrays and turning the rest into nodes."""

  def __init__(self):
    self.nodes, self.arrays, self._count = [], {}, {}

  def run(self, jaxpr, consts, args):
    env = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, args))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else env[atom]
    for eqn in jaxpr.eqns:
      inputs = [read(atom) for atom in eqn.invars]
      if eqn.primitive.name in _CALLS:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        inner, inner_consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
        outputs = self.run(inner, inner_consts, inputs)
      elif not any(isinstance(value, _Symbol) for value in inputs):
        if eqn.primitive is _NEURONS:
          raise ValueError(f"activation {'.'.join(eqn.params['path'])!r} does not depend on the "
                           "input: nothing to convert")
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
    if node is None:
      place = str(eqn.source_info.name_stack)
      hint = {
          "reduce_window_max": "use average pooling: a maximum of spikes is not a sum of spikes",
          "max": "write self.act(name=...)(x) in place of nn.relu(x), and pass act=self.act on to "
                 "inner modules",
      }.get(name, "between two activations convert can read convolutions, products with weights, "
            "sums, scalings, BatchNorm, average pooling and reshapes, each example by itself")
      raise ValueError(f"the model applies `{name}`{' in ' + place if place else ''}: {hint}")
    if isinstance(node, _Symbol):
      return node
    op, sources, arrays, settings = node
    return self._emit(op, sources, arrays, settings, eqn.outvars[0].aval.shape)

  def _emit(self, op, sources, arrays, settings, shape, name=None):
    if name is None:
      self._count[op] = self._count.get(op, 0) + 1
      name = f"{op}:{self._count[op]}"
    settings = tuple(sorted(settings.items()))
    self.nodes.append(Node(name, op, tuple(source.name for source in sources), settings))
    if arrays:
      self.arrays[name] = {key: np.asarray(array) for key, array in arrays.items()}
    return _Symbol(name, shape)

  # One handler a primitive. Each returns a symbol (nothing to do), (op, sources, arrays, settings),
  # or None where this use of the primitive is not affine in the activations.

  def _on_neurons(self, inputs, params):
    name = ".".join(params["path"])
    if any(node.name == name for node in self.nodes):
      raise ValueError(f"activation {name!r} is used twice: give each use a name of its own")
    return self._emit("neurons", inputs, {}, {}, inputs[0].shape, name)

  def _on_conv_general_dilated(self, inputs, params):
    x, kernel = inputs
    last = x.ndim - 1 if isinstance(x, _Symbol) else 0
    spatial = tuple(range(1, last))
    numbers = params["dimension_numbers"]
    channels_last = (0, last) + spatial
    kernel_layout = (last, last - 1) + tuple(range(last - 1))
    if (isinstance(kernel, _Symbol) or not isinstance(x, _Symbol)
        or tuple(numbers.lhs_spec) != channels_last or tuple(numbers.out_spec) != channels_last
        or tuple(numbers.rhs_spec) != kernel_layout or params["batch_group_count"] != 1):
      return None
    keys = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "feature_group_count")
    return "conv", [x], {"kernel": kernel}, {key: _plain(params[key]) for key in keys}

  def _on_dot_general(self, inputs, params):
    x, kernel = inputs
    (x_axes, kernel_axes), batch_axes = params["dimension_numbers"]
    if (isinstance(kernel, _Symbol) or tuple(x_axes) != (x.ndim - 1,) or x.ndim < 2
        or any(batch_axes) or kernel.ndim != 2):
      return None
    kernel = np.asarray(kernel)
    return "dense", [x], {"kernel": kernel if kernel_axes[0] == 0 else kernel.T}, {}

  def _on_reduce_window_sum(self, inputs, params):
    window = {key: _plain(params[key]) for key in (
        "window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")}
    if window["window_dimensions"][0] != 1 or window["window_strides"][0] != 1:
      return None
    return "sum_pool", inputs, {}, window

  def _on_reduce_sum(self, inputs, params):
    return None if 0 in params["axes"] else ("sum", inputs, {}, {"axes": _plain(params["axes"])})

  def _on_reshape(self, inputs, params):
    return self._reshape(inputs, params["new_sizes"])

  def _on_squeeze(self, inputs, params):
    shape = inputs[0].shape
    return self._reshape(inputs, [n for i, n in enumerate(shape) if i not in params["dimensions"]])

  def _on_broadcast_in_dim(self, inputs, params):
    shape = inputs[0].shape
    adds_unit_axes = np.prod(params["shape"]) == np.prod(shape)
    return self._reshape(inputs, params["shape"]) if adds_unit_axes else None

  def _reshape(self, inputs, sizes):
    if not sizes or sizes[0] != _BATCH:
      return None
    if tuple(sizes) == inputs[0].shape:
      return inputs[0]
    return "reshape", inputs, {}, {"shape": _plain(sizes[1:])}

  def _on_transpose(self, inputs, params):
    permutation = _plain(params["permutation"])
    return ("transpose", inputs, {}, {"permutation": permutation}) if permutation[0] == 0 else None

  def _on_add(self, inputs, params):
    if all(isinstance(value, _Symbol) for value in inputs):
      return "add", inputs, {}, {}
    x, constant = inputs if isinstance(inputs[0], _Symbol) else inputs[::-1]
    return _affine(x, shift=constant)

  def _on_sub(self, inputs, params):
    x, y = inputs
    if not isinstance(y, _Symbol):
      return _affine(x, shift=-np.asarray(y))
    if not isinstance(x, _Symbol):
      return _affine(y, scale=-1.0, shift=x)
    negated = self._emit(*_affine(y, scale=-1.0), y.shape)
    return "add", [x, negated], {}, {}

  def _on_mul(self, inputs, params):
    if all(isinstance(value, _Symbol) for value in inputs):
      return None
    x, constant = inputs if isinstance(inputs[0], _Symbol) else inputs[::-1]
    return _affine(x, scale=constant)

  def _on_div(self, inputs, params):
    x, y = inputs
    return None if isinstance(y, _Symbol) else _affine(x, scale=1.0 / np.asarray(y))

  def _on_neg(self, inputs, params):
    return _affine(inputs[0], scale=-1.0)

  def _identity(self, inputs, params):
    return inputs[0]

  def _on_convert_element_type(self, inputs, params):
    return inputs[0] if jnp.issubdtype(params["new_dtype"], jnp.floating) else None

  _on_copy = _on_copy_p = _on_stop_gradient = _on_sharding_constraint = _identity


def _affine(x, scale=1.0, shift=0.0):
  """x * scale + shift, the constants kept as small as broadcasting allows."""
  arrays = {"scale": _per_example(scale, x.ndim), "shift": _per_example(shift, x.ndim)}
  return None if any(a is None for a in arrays.values()) else ("affine", [x], arrays, {})


def _per_example(constant, ndim):
  """The constant without its batch axis, constant axes at size 1; None if it differs by example."""
  constant = np.asarray(constant, np.float64)
  if constant.ndim == 0:
    return constant.reshape((1,) * (ndim - 1))
  if constant.shape[0] > 1 and not np.all(constant == constant[:1]):
    return None
  constant = constant[0]
  for axis in range(constant.ndim):
    first = constant.take([0], axis)
    constant = first if np.all(constant == first) else constant
  return constant


def _plain(value):
  """Tuples of integers, whatever sequence types the primitive's parameters use."""
  return tuple(_plain(v) for v in value) if isinstance(value, (tuple, list)) else int(value)
