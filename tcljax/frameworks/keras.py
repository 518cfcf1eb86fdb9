"""Networks of Keras 3 that run on JAX."""

from typing import Any

import jax
import jax.numpy as jnp

from tcljax.checks import must_be
from tcljax.frameworks.importing import framework
from tcljax.graph import Traced, trace


def from_keras(model: Any, example: Any = None, *, pooling: str = "gate") -> Traced:
  """Traces a network of Keras 3 for inference.

  Args:
    model: a built `keras.Model`; a softmax or sigmoid at its end is left out.
    example: inputs [B, ...], or their shape and type; by default what the model's own inputs say.
    pooling: see `tcljax.trace`.

  Returns:
    The network, its populations named after the layers that they stand in.

  Raises:
    ValueError: if Keras is not installed or runs on another backend, if this is no model of it, or
      has no input shape of its own, and as `tcljax.trace` does.

  Examples:
    >>> import tcljax
    >>> keras = __import__("pytest").importorskip("keras")
    >>> first = keras.layers.Dense(8, "relu", use_bias=False, name="first")
    >>> last = keras.layers.Dense(3, use_bias=False)
    >>> model = keras.Sequential([keras.Input((4,)), first, last])
    >>> tcljax.from_keras(model).populations
    ('first.relu',)
  """
  keras = framework("keras", "keras")
  if keras.backend.backend() != "jax":
    raise ValueError(
      f"Keras runs on {keras.backend.backend()}: set the environment variable KERAS_BACKEND=jax "
      "before it is imported"
    )
  if not isinstance(model, keras.Model):
    raise ValueError(must_be("model", model, "a keras.Model"))
  if example is None:
    example = _own_example(model)
  held = [
    [variable.value for variable in variables]
    for variables in (model.trainable_variables, model.non_trainable_variables)
  ]
  return trace(
    lambda x: model.stateless_call(*held, x, training=False)[0], example, pooling=pooling
  )


def _own_example(model):
  """Shapes and types of a batch, as the model's own inputs have them."""
  inputs = getattr(model, "inputs", None) or []
  if not inputs or any(None in tensor.shape[1:] for tensor in inputs):
    raise ValueError(
      "example=None: this model does not say which shape its inputs have, give a batch of them"
    )
  shapes = [
    jax.ShapeDtypeStruct((1, *tensor.shape[1:]), jnp.dtype(tensor.dtype)) for tensor in inputs
  ]
  return shapes if len(shapes) > 1 else shapes[0]
