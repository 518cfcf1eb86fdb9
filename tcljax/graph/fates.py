"""What becomes of each operation of a model, and where in the user's source it stands."""

import dataclasses
import os
import sysconfig
import traceback
from collections.abc import Iterable
from typing import Any

AFFINE, FOLDED, MOVED = "affine", "folded", "moved"
POPULATION, POOLING = "population", "pooling"
DROPPED, IGNORED, REFUSED, AFTER_REFUSED = "dropped", "not used", "refused", "after a refusal"

# Code in these packages is not the user's.
_PACKAGES = ("jax", "jaxlib", "flax", "equinox", "keras", "torch", "optax", "tcljax")


@dataclasses.dataclass(frozen=True)
class Fate:
  """Of one operation of a model that depends on its input.

  Attributes:
    operation: the primitive of JAX.
    place: names of the user's modules around it, joined by slashes; "" where there are none.
    source: file and line of the user's code, "net.py:12"; "" where that is unknown.
    fate: what became of it: affine, folded, moved, population, pooling, dropped, not used, refused.
    detail: the population it became, what took it up, or why it is refused.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> network = tcljax.trace(lambda x: jax.nn.relu(x @ jnp.ones((4, 3))), jnp.ones((1, 4)))
    >>> [(fate.operation, fate.fate, fate.detail) for fate in network.operations]
    [('dot_general', 'affine', 'dense:1'), ('max', 'population', 'relu')]
  """

  operation: str
  place: str
  source: str
  fate: str
  detail: str = ""


def table(fates: Iterable[Fate]) -> str:
  """Lines of text: each operation with its fate and where it stands; equal neighbours are one."""
  rows = [("operation", "fate", "where", "source", "")]
  counted: list[tuple[Fate, int]] = []
  for fate in fates:
    if counted and counted[-1][0] == fate:
      counted[-1] = fate, counted[-1][1] + 1
    else:
      counted.append((fate, 1))
  for fate, count in counted:
    times = f" x{count}" if count > 1 else ""
    rows.append((fate.operation + times, fate.fate, fate.place, fate.source, fate.detail))
  widths = [max(map(len, column)) for column in zip(*rows)]
  return "\n".join(
    "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
  )


def source_of(frames: Any) -> str:
  """File and line of the innermost frame that is the user's, "net.py:12"; "" where none is.

  Args:
    frames: a traceback of XLA; None for none.
  """
  if frames is None:
    return ""
  for frame in frames.frames:
    if not _is_of_a_package(frame.file_name):
      return f"{os.path.basename(frame.file_name)}:{frame.line_num}"
  return ""


def source_of_error(error: BaseException) -> str:
  """File and line of the user's innermost frame that an error has come through; "" for none."""
  found = ""
  for frame, line in traceback.walk_tb(error.__traceback__):
    if not _is_of_a_package(frame.f_code.co_filename):
      found = f"{os.path.basename(frame.f_code.co_filename)}:{line}"
  return found


def _is_of_a_package(file: str) -> bool:
  """Whether a file is of Python itself, of a framework, or no file."""
  folders = file.split(os.sep)
  if "site-packages" in folders:
    return bool({*folders} & {*_PACKAGES})
  return file.startswith(("<", _PYTHON, _OWN))


_PYTHON = sysconfig.get_paths()["stdlib"]
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
