"""Populations of neurons, and the primitive that marks where they are while a model is traced."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.extend import core
from jax.interpreters import batching

from tcljax.graph import forms
from tcljax.graph.record import Kind, Made, Operation
from tcljax.graph.remedies import VMAP
from tcljax.layers.activations import Activation
from tcljax.maths import max_pooling
from tcljax.maths.max_pooling import MaxPool

PRIMITIVE = core.Primitive("neurons")


@PRIMITIVE.def_abstract_eval
def _shape_of_neurons(x, *, path, max_pool):
  if max_pool is None:
    return x
  pooled = jax.eval_shape(
    lambda x: max_pooling.max_pool(x, max_pool), jax.ShapeDtypeStruct(x.shape, x.dtype)
  )
  return x.update(shape=pooled.shape)


def _refuse_vmap(inputs, axes, *, path, max_pool):
  """Which would make one population of neurons of several, or of the batch none."""
  del inputs, axes, max_pool
  raise ValueError(f"activation {'/'.join(path)!r} is applied inside a vmap: {VMAP}")


batching.primitive_batchers[PRIMITIVE] = _refuse_vmap


class Marker(Activation):
  """Stands in for the activation and leaves its path in the traced operations."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """A value of the activation's shape; it can be traced and not computed."""
    self.check_name()
    return PRIMITIVE.bind(x, path=self.path, max_pool=self.max_pool)


def name_of(params: Mapping[str, Any]) -> str:
  """The name of a population: the path of its activation, joined by dots."""
  return ".".join(params["path"])


def _read_neurons(inputs: Sequence[Any], params: Mapping[str, Any]) -> Made:
  if len(inputs[0].shape) < 2:
    raise ValueError(
      f"activation {'/'.join(params['path'])!r} is applied to an array of shape [batch]: neurons "
      "need an axis of channels, [batch, ..., channels], such as x[:, None]"
    )
  gate = params["max_pool"]
  settings = dataclasses.asdict(gate) if gate else {}
  return Made("neurons", tuple(inputs), settings=settings, name=name_of(params))


def _run_neurons(x: jax.Array, *, act: Callable[..., Any], **gate: Any) -> jax.Array:
  """Applies `act`, which knows its name; neurons that gate have the fields of their `MaxPool`."""
  return act(**({"max_pool": MaxPool(**gate)} if gate else {}))(x)


OPERATIONS = (
  Operation(
    name="neurons",
    run=_run_neurons,
    form=forms.neurons,
    read={PRIMITIVE.name: _read_neurons},
    kind=Kind.NEURONS,
  ),
)
