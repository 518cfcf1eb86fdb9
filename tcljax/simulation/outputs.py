"""What a network's output says: which class each example has, and how sure that is.

An output is [B, C], a number for each class, or a map of them, [B, ..., C]: an answer at each
position. A single number z is that of a binary classifier: it stands for two classes with the
logits 0 and z, so that the answer is 1 where z > 0, the probability of 1 is sigmoid(z), and the
margin is |z|. All that looks at classes goes through `class_logits`. Outputs that are quantities
and no logits tell no classes; whoever has such says so. A network may answer with several arrays,
in a tree, each of a kind of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_choice, in_a_line
from tcljax.layers.collections import Variables
from tcljax.layers.inputs import told_of_inputs
from tcljax.maths.trees import (
  Path,
  Tree,
  at,
  check_places,
  count,
  leaves_by_path,
  name_of,
  place,
)

Outputs = TypeVar("Outputs", np.ndarray, jax.Array)
# What outputs may be: logits of classes, or quantities.
CLASSES, QUANTITIES = OUTPUTS = ("classes", "quantities")


class Output(NamedTuple):
  """One array of those that a network answers with.

  Attributes:
    path: where it is in what the network returns; () where that is one array.
    shape: of one example.
    kind: one of `OUTPUTS`.
  """

  path: Path
  shape: tuple[int, ...]
  kind: str

  @property
  def name(self) -> str:
    """As people read it, "heads/0"; "" where the network returns one array."""
    return name_of(self.path)

  @property
  def quantities(self) -> bool:
    """Whether these are quantities, and no logits."""
    return self.kind == QUANTITIES

  @property
  def labels(self) -> tuple[tuple[int, ...], int]:
    """What labels it has, see `labels_of`."""
    return labels_of(self.shape, self.quantities)


def check_kinds(outputs: Any) -> None:
  """Raises ValueError unless these are kinds of outputs: one, or a tree of them."""
  for path, kind in leaves_by_path(outputs, _holds_none).items():
    check_choice(f"outputs{place(path)}", kind, OUTPUTS)


def _holds_none(part: Any) -> bool:
  """Whether a part of outputs, or of their kinds, has none within; of lists they may be, too."""
  return not isinstance(part, (tuple, list, Mapping))


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


def check_arrays(output: Any, what: str = "the model") -> None:
  """Raises ValueError unless a model's output is an array, or a tree of arrays."""
  paths = jax.tree_util.tree_flatten_with_path(output, is_leaf=lambda part: part is None)[0]
  for path, leaf in paths or [((), output)]:
    if not hasattr(leaf, "shape"):
      raise ValueError(
        f"{what}'s output{jax.tree_util.keystr(path)} is of type {type(leaf).__name__} and must be "
        "an array, [batch, ...]; several may come in a tuple or a dictionary"
      )


def check_classes(output: Any, batch: int) -> None:
  """Raises ValueError unless a model's output for so many examples is [batch, classes]."""
  check_arrays(output)
  shape = tuple(output.shape)
  if len(shape) != 2 or shape[0] != batch or not shape[1]:
    raise ValueError(
      f"the model's output has shape {shape} for {batch} inputs, expected [batch, classes]"
    )


def outputs_of_model(
  model: nn.Module, variables: Variables, x: Tree, kinds: Any, what: str = "the model"
) -> tuple[Output, ...]:
  """The arrays that a model answers with.

  Args:
    model: a network, whatever its activation.
    variables: its variables.
    x: shapes and types of inputs, [B, ...]; nothing is computed. Of two inputs or more, an output
      shows whether it has the batch along its first axis.
    kinds: what they are, from `OUTPUTS`: one for all, or a tree of them. Quantities have any shape,
      logits of classes [..., C].
    what: the words for the model.

  Raises:
    ValueError: if an output is another one or has no kind, or the model does not take such inputs.
  """
  with told_of_inputs(model, variables, x, what):
    output = jax.eval_shape(model.apply, variables, x)
  check_arrays(output, what)
  batch, found = count(x), []
  for path, leaf in leaves_by_path(output, _holds_none).items():
    kind, shape, where = _kind(kinds, path), tuple(leaf.shape), f"{what}'s output{place(path)}"
    quantities = kind == QUANTITIES
    expected = "[batch, ...]" if quantities else "[batch, classes] or a map [batch, ..., classes]"
    remedy = "; are these quantities, give outputs='quantities'" * (len(shape) == 1)
    if len(shape) < 2 - quantities or shape[0] != batch or not np.prod(shape):
      raise ValueError(f"{where} has shape {shape} for {batch} inputs, expected {expected}{remedy}")
    found.append(Output(path, shape[1:], kind))
  if not isinstance(kinds, str):
    leaves = leaves_by_path(kinds, _holds_none)
    check_places("outputs", leaves, [one.path for one in found], "output")
  return tuple(found)


def _kind(kinds: Any, path: Path) -> str:
  """What the output at a path is."""
  kind = kinds if isinstance(kinds, str) else at(kinds, path)
  if not isinstance(kind, str):
    one_of = f"one of {', '.join(OUTPUTS)}"
    if not path:  # a tree, where the output is a single array
      given = in_a_line(kinds)
      raise ValueError(f"outputs={given}, and the network has one output: give {one_of} alone")
    raise ValueError(f"outputs{place(path)} is missing: choose {one_of} for it")
  return kind


def arrays_of(outputs: Sequence[Output], output: Tree) -> dict[Path, Any]:
  """The arrays of a network's answer by path, in the order of `outputs`."""
  return dict(zip([one.path for one in outputs], jax.tree.leaves(output), strict=True))


def labels_of(shape: tuple[int, ...], quantities: bool) -> tuple[tuple[int, ...], int]:
  """What labels outputs of a shape have for one example: their shape, and the number of classes.

  A class for each position; 2 classes where there is a single output at each. Of quantities the
  shape of the output itself, and 0.
  """
  return (shape, 0) if quantities else (shape[:-1], max(2, shape[-1]))
