"""Fields of NIR nodes, which other programs wrote, as shapes and numbers, or told."""

import math
from typing import Any

import numpy as np

from tcljax.checks import in_a_line
from tcljax.conversion.checking import check_value
from tcljax.graph.whole_numbers import Shape, check_shape


def input_shape(node: Any) -> Shape:
  """The shape of the input of a graph, channels last.

  Raises:
    ValueError: if it is none, as do all functions here.
  """
  given = np.atleast_1d(node.input_type["input"])
  sizes = [int(n) for n in given]
  if given.ndim != 1 or not sizes or not np.array_equal(sizes, given):
    raise ValueError(f"its shape {in_a_line(given.tolist())} must be whole numbers")
  first, *rest = sizes
  shape = (*rest, first)
  check_shape("its shape", shape)
  check_value("it", math.prod(shape))
  return shape


def numbers(value: Any, field: str) -> np.ndarray:
  """A field as float32."""
  value = np.asarray(value)
  if value.dtype.kind not in "biuf":
    raise ValueError(f"its {field} must be numbers, and is {in_a_line(value.tolist())}")
  return value.astype(np.float32)


def whole(value: Any, axes: int, field: str) -> Shape:
  """A field of one whole number for each axis."""
  given = np.broadcast_to(np.asarray(value).reshape(-1), (axes,))
  found = tuple(map(int, given))
  if any(n != m for n, m in zip(found, given)):
    raise ValueError(f"its {field} must be whole numbers, and is {in_a_line(given.tolist())}")
  return found
