"""Which inputs a model takes, and what is told of those that it does not take."""

import contextlib
import dataclasses
import traceback
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util
from flax.errors import InvalidRngError, ModifyScopeVariableError

from tcljax.files import kind_and_why
from tcljax.layers.activations import ReLU
from tcljax.layers.collections import Variables
from tcljax.maths.trees import Tree, count, shape_text

FALSE_BY_DEFAULT = "let an argument such as train be False by default"


@contextlib.contextmanager
def told_of_inputs(
  model: nn.Module,
  variables: Variables,
  x: Any,
  what: str = "the model",
  inference: str = FALSE_BY_DEFAULT,
) -> Iterator[None]:
  """Runs a model, and tells in one line if it fails, most often because of its inputs.

  Only where something fails inside, it is tried whether the model runs with plain ReLUs, for
  inference. If it does, what took their place is at fault: our own errors, ValueErrors, say so.

  Args:
    model: any Flax module; of one with a field `act` the activation does not matter.
    variables: those that it is run with.
    x: inputs, [B, ...], or their shape and type; one array or a tree of several.
    what: the words for the model.
    inference: how a model is made to run for inference that runs as it is trained.

  Raises:
    ValueError: with the shape of the inputs, and as far as it is known that which the variables
      were made for; what Flax or JAX raised is its cause.
  """
  try:
    yield
  except Exception as error:  # of any kind, as the model is the user's
    given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), x)
    _check(model, variables, given, what, inference)
    if isinstance(error, (ValueError, MemoryError, jax.errors.JaxRuntimeError)):
      raise
    raise ValueError(
      f"{what} runs with tcljax.ReLU, and not with another activation in its place: "
      f"{kind_and_why(error)}; tcljax.convert tells what a model cannot have, such "
      "as nn.vmap around an activation"
    ) from error


def _check(model: nn.Module, variables: Variables, x: Tree, what: str, inference: str) -> None:
  """Raises ValueError unless the model can be run with plain ReLUs; nothing is computed."""
  if "act" in {field.name for field in dataclasses.fields(model)}:
    model = model.clone(act=ReLU)
  try:
    jax.eval_shape(model.apply, variables, x)
  except Exception as error:
    if found := _misfit(model, variables, x):
      shape = shape_text(x, "batch")
      raise ValueError(f"{what} takes no inputs of shape {shape}: {found}") from error
    remedy = ""
    if _in_training(error):
      remedy = (
        f"; model(x) must run it for inference: {inference}, and BatchNorm then have "
        "use_running_average=True, Dropout deterministic=True"
      )
    elif not str(error).strip():
      module = _raised_in(error)
      where = f"in its module {module}" if module else "there"
      remedy = f"; look at the shapes that meet {where}"
    raise ValueError(
      f"{what} cannot be run on {_told(x)}: {kind_and_why(error)}{remedy}"
    ) from error


def _raised_in(error: Exception) -> str:
  """The path of the innermost module that an error comes from, "block/Conv_0"; "" of none."""
  found = ""
  for frame, _ in traceback.walk_tb(error.__traceback__):
    module = frame.f_locals.get("self")
    if isinstance(module, nn.Module) and module.scope is not None:
      found = "/".join(module.path)
  return found


def _told(x: Tree) -> str:
  """Inputs in words; of a pair it may be that the second are labels."""
  if isinstance(x, jax.ShapeDtypeStruct):
    return f"{x.shape[0]} inputs of shape {x.shape[1:]} and type {x.dtype}"
  labels = ", which are several inputs and no pair of images and labels"
  pair = labels if isinstance(x, tuple) and len(x) == 2 else ""
  return f"{count(x)} inputs of shapes {shape_text(x)}{pair}"


def _in_training(error: Exception) -> bool:
  """Whether an error is one of a model that runs as it is trained, or wants to be told."""
  missing = isinstance(error, TypeError) and "required positional argument" in str(error)
  return missing or isinstance(error, (ModifyScopeVariableError, InvalidRngError))


def _misfit(model: nn.Module, variables: Variables, x: Tree) -> str:
  """What is wrong with the first variable that is not as a fresh one; "" where that is unknown."""
  fresh: dict[tuple[str, ...], Any] = {}

  def initialize(x):  # the order of the layers is known in here alone
    fresh.update(traverse_util.flatten_dict(dict(model.init(jax.random.key(0), x))))

  try:
    jax.eval_shape(initialize, x)
    held = traverse_util.flatten_dict(dict(variables))
  except Exception:  # as the model fails on them
    return ""
  for path, wanted in fresh.items():
    name = "/".join(path)
    if path not in held:
      return (
        f"its variables have no {name} of shape {wanted.shape}; give all that model.init gave of "
        f"this model, not {', '.join(map(str, list(variables)[:3])) or 'nothing'}"
      )
    if getattr(held[path], "shape", None) != wanted.shape:
      found = getattr(held[path], "shape", type(held[path]).__name__)
      return (
        f"its variables were made for others: {name} has shape {found}, and for such inputs it "
        f"would have {wanted.shape}"
      )
  return ""
