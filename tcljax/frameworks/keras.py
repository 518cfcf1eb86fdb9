"""Networks of Keras 3 that run on JAX."""

import contextlib
import inspect
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tcljax.checks import must_be
from tcljax.files import kind_and_why
from tcljax.frameworks.importing import framework
from tcljax.frameworks.inference import traced
from tcljax.graph import Traced


def from_keras(model: Any, example: Any = None, *, pooling: str = "gate") -> Traced:
  """Traces a network of Keras 3 for inference.

  Args:
    model: a built `keras.Model`; a softmax or sigmoid at its end is left out.
    example: inputs [B, ...], or their shape and type, of a model of several inputs in the tree in
      which it has them; by default what the model's own inputs say.
    pooling: see `tcljax.trace`.

  Returns:
    The network, its populations named after the layers that they stand in. It takes and returns a
    tuple where the model has a list.

  Raises:
    ValueError: if Keras is not installed or runs on another backend, if this is no model of it, is
      not built or has no input shape of its own, and as `tcljax.trace` does.

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
    example = _own_example(keras, model)
  if not model.built:
    raise ValueError("the model is not built: call it on a batch of inputs, and then train it")
  held = [
    [variable.value for variable in variables]
    for variables in (model.trainable_variables, model.non_trainable_variables)
  ]
  takes = inspect.signature(model.call).parameters.values()
  told = any(one.name == "training" or one.kind is one.VAR_KEYWORD for one in takes)
  mode = {"training": False} if told else {}  # which a model of the user's own need not take

  def run(x):
    with _as_raised(keras, model):
      return model.stateless_call(*held, x, **mode)[0]

  return traced(run, example, pooling)


@contextlib.contextmanager
def _as_raised(keras: Any, model: Any) -> Iterator[None]:
  """What a layer raises is told as it is, with the layer's name.

  Where Keras filters tracebacks, it writes what it was about around what was raised, whose own text
  then stands lines below. It has no place for all of JAX's errors, and raises others in their
  place.
  """
  filters = keras.config.is_traceback_filtering_enabled()
  keras.config.disable_traceback_filtering()
  try:
    yield
  except jax.errors.UnexpectedTracerError:
    raise  # which `tcljax.trace` knows
  except Exception as error:  # of any kind, as layers may be the user's
    name = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
      layer: Any = frame.f_locals.get("self")
      if isinstance(layer, keras.layers.Layer) and layer is not model:
        name = layer.name
    if not name:
      raise
    said = f"in layer {name!r}, {kind_and_why(error)}"
    raise ValueError(said).with_traceback(error.__traceback__) from error
  finally:
    if filters:
      keras.config.enable_traceback_filtering()


def _own_example(keras, model):
  """Shapes and types of a batch, in the tree in which the model has its own inputs."""
  inputs = getattr(model, "inputs", None) or []
  if not inputs or any(None in tensor.shape[1:] for tensor in inputs):
    raise ValueError(
      "example=None: this model does not say which shape its inputs have, give a batch of them"
    )
  of = lambda tensor: jax.ShapeDtypeStruct((1, *tensor.shape[1:]), jnp.dtype(tensor.dtype))
  sequential = isinstance(model, keras.Sequential)
  shapes = jax.tree.map(of, model.inputs if sequential else model.input)
  return shapes[0] if isinstance(shapes, (tuple, list)) and len(shapes) == 1 else shapes
