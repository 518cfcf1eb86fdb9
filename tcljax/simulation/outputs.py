"""What a network's output says: which class each example has, and how sure that is.

An output is [B, C], a number for each class, or a map of them, [B, ..., C]: an answer at each
position. A single number z is that of a binary classifier: it stands for two classes with the
logits 0 and z, so that the answer is 1 where z > 0, the probability of 1 is sigmoid(z), and the
margin is |z|. All that looks at classes goes through `class_logits`. Outputs that are quantities
and no logits tell no classes; whoever has such says so.
"""

from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcljax.layers.collections import Variables
from tcljax.layers.inputs import told_of_inputs

Outputs = TypeVar("Outputs", np.ndarray, jax.Array)
# What outputs may be: logits of classes, or quantities.
OUTPUTS = ("classes", "quantities")


def class_logits(output: Outputs) -> Outputs:
  """A logit for each class: [..., C] as it is where C is at least 2, of [..., 1] zeros and it."""
  if output.shape[-1] > 1:
    return output
  numpy: Any = np if isinstance(output, np.ndarray) else jnp
  return numpy.concatenate([numpy.zeros_like(output), output], axis=-1)


def answers(output: Outputs) -> Outputs:
  """The class of each example or position, [...] of [..., C]."""
  found: Any = class_logits(output).argmax(axis=-1)
  return found


def margins(output: np.ndarray) -> np.ndarray:
  """How far the answer is ahead of the next class, [...] of [..., C], in units of the output.

  The largest logit less the second largest; of a single one the distance from 0.
  """
  second, first = np.moveaxis(np.partition(class_logits(output), -2, axis=-1)[..., -2:], -1, 0)
  return first - second


def check_one_array(output: Any) -> None:
  """Raises ValueError unless a model's output is one array."""
  if not hasattr(output, "shape"):
    raise ValueError(
      f"the model's output is of type {type(output).__name__} and must be one array, [batch, ...]"
    )


def check_classes(output: Any, batch: int) -> None:
  """Raises ValueError unless a model's output for so many examples is [batch, classes]."""
  check_one_array(output)
  shape = tuple(output.shape)
  if len(shape) != 2 or shape[0] != batch or not shape[1]:
    raise ValueError(
      f"the model's output has shape {shape} for {batch} inputs, expected [batch, classes]"
    )


def shape_of_outputs(
  model: nn.Module,
  variables: Variables,
  x: jax.ShapeDtypeStruct,
  quantities: bool,
  what: str = "the model",
) -> tuple[int, ...]:
  """The shape of a model's output for one example.

  Args:
    model: a network, whatever its activation.
    variables: its variables.
    x: shape and type of inputs, [B, ...]; nothing is computed. Of two inputs or more, an output
      shows whether it has the batch along its first axis.
    quantities: whether the outputs are quantities, in any shape, or logits of classes, [..., C].
    what: the words for the model.

  Raises:
    ValueError: if the output is another one, or the model does not take such inputs.
  """
  with told_of_inputs(model, variables, x, what):
    output = jax.eval_shape(model.apply, variables, x)
  check_one_array(output)
  shape = tuple(output.shape)
  expected = "[batch, ...]" if quantities else "[batch, classes] or a map [batch, ..., classes]"
  remedy = "; are these quantities, give outputs='quantities'" * (len(shape) == 1)
  if len(shape) < 2 - quantities or shape[0] != x.shape[0] or not np.prod(shape):
    raise ValueError(
      f"{what}'s output has shape {shape} for {x.shape[0]} inputs, expected {expected}{remedy}"
    )
  return shape[1:]


def labels_of(shape: tuple[int, ...], quantities: bool) -> tuple[tuple[int, ...], int]:
  """What labels outputs of a shape have for one example: their shape, and the number of classes.

  A class for each position; 2 classes where there is a single output at each. Of quantities the
  shape of the output itself, and 0.
  """
  return (shape, 0) if quantities else (shape[:-1], max(2, shape[-1]))
