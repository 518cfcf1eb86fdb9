"""Populations of neurons, and the primitive that marks where they are while a model is traced."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.extend import core
from jax.interpreters import batching

from tcljax.graph import forms, nir_forms, rectifiers
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol, as_stored
from tcljax.graph.nodes import NEURONS
from tcljax.graph.record import Kind, Operation, Use
from tcljax.graph.remedies import VMAP
from tcljax.layers.activations import Activation
from tcljax.maths import max_pooling
from tcljax.maths.max_pooling import MaxPool

PRIMITIVE = core.Primitive("neurons")


@PRIMITIVE.def_abstract_eval
def _shape_of_neurons(x, *, path, max_pool, bound):
  del path, bound
  if max_pool is None:
    return x
  pooled = jax.eval_shape(
    lambda x: max_pooling.max_pool(x, max_pool), jax.ShapeDtypeStruct(x.shape, x.dtype)
  )
  return x.update(shape=pooled.shape)


def _refuse_vmap(inputs, axes, *, path, max_pool, bound):
  """Which would make one population of neurons of several, or of the batch none."""
  del inputs, axes, max_pool, bound
  raise ValueError(f"activation {'/'.join(path)!r} is applied inside a vmap: {VMAP}")


batching.primitive_batchers[PRIMITIVE] = _refuse_vmap


class Marker(Activation):
  """Stands in for the activation and leaves its path and fields in the traced operations."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """A value of the activation's shape; it can be traced and not computed."""
    self.check_name()
    return PRIMITIVE.bind(x, path=self.path, max_pool=self.max_pool, bound=self.bound)


def name_of(params: Mapping[str, Any]) -> str:
  """The name of a population: the path of its activation, joined by dots."""
  return ".".join(params["path"])


def _read_neurons(graph: Builder, use: Use) -> Symbol:
  (x,) = use.inputs
  path, gate = use.params["path"], use.params["max_pool"]
  if x.ndim < 2:
    raise ValueError(
      f"activation {'/'.join(path)!r} is applied to an array of shape [batch]: neurons need an "
      "axis of channels, [batch, ..., channels], such as x[:, None]"
    )
  name = name_of(use.params)
  if name in graph.nodes:
    raise ValueError(
      f"activation {name!r} is used twice: give each use a name of its own, in a loop of "
      "Python in place of nn.scan"
    )
  # Channels are the last axis of the model, whose thresholds they have.
  x = graph.as_in_model(x)
  settings = dataclasses.asdict(gate) if gate else {}
  if use.params["bound"] is not None:
    settings["bound"] = float(use.params["bound"])
  made = graph.node(NEURONS, (x.name,), use.shapes[0], settings, name=name)
  return as_stored(made, graph.shapes[made])


def _run_neurons(
  x: jax.Array, *, act: Callable[..., Any], bound: float | None = None, **gate: Any
) -> jax.Array:
  """Applies `act`, which knows its name; neurons that gate have the fields of their `MaxPool`."""
  given: dict[str, Any] = {"max_pool": MaxPool(**gate)} if gate else {}
  return act(**given | ({} if bound is None else {"bound": bound}))(x)


OPERATIONS = (
  Operation(
    name=NEURONS,
    run=_run_neurons,
    form=forms.neurons,
    read={PRIMITIVE.name: _read_neurons, **rectifiers.READERS},
    kind=Kind.NEURONS,
    nir=nir_forms.neurons,
  ),
)
