"""JSON that somebody else may have written: read strictly, or refused in one line."""

import collections
import json
import math
import re
from typing import Any

import numpy as np

LARGEST = 2**22  # bytes of a text; Python makes up to 25 times as many of it
_DEEPEST = 64  # lists and objects within each other; Python's own limit is some hundreds
# One that does not end reaches to the end of the text: looking for it again would take long.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def from_json(raw: bytes) -> Any:
  """What a text in UTF-8 stands for.

  Raises:
    ValueError: if it is no JSON, or too large, nests too deep, names a key twice, or holds numbers
      that are infinite or none at all.
  """
  if len(raw) > LARGEST:
    raise ValueError(f"it has {len(raw)} bytes, and {LARGEST} are the most")
  try:
    text = raw.decode("utf-8")
  except UnicodeDecodeError as error:
    raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
  _check_depth(raw)
  try:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
  except json.JSONDecodeError as error:
    raise ValueError(f"it is not JSON: {error}") from None


def to_json(tree: Any, **layout: Any) -> str:
  """The text of a tree in ASCII, for `from_json` to read; numbers keep every bit.

  Raises:
    ValueError: if it is no tree of JSON.
  """
  try:
    return json.dumps(tree, allow_nan=False, **layout)
  except (TypeError, ValueError, RecursionError) as error:
    raise ValueError(str(error)) from None


def _check_depth(raw: bytes) -> None:
  """Raises ValueError if brackets nest too deep, those in strings not counted."""
  bytes_ = np.frombuffer(_STRING.sub(b"", raw), np.uint8)
  opened, closed = (
    sum((bytes_ == ord(one)).astype(np.int8) for one in pair) for pair in ("[{", "]}")
  )
  if np.max(np.cumsum(opened - closed, dtype=np.int32), initial=0) > _DEEPEST:
    raise ValueError(f"it nests more than {_DEEPEST} deep")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) != len(pairs):
    [(twice, _)] = collections.Counter(name for name, _ in pairs).most_common(1)
    raise ValueError(f"it names {twice!r} twice")
  return found


def _refuse(constant: str) -> Any:
  raise ValueError(f"it holds {constant}, which is no number of JSON")


def _finite(text: str) -> float:
  if not math.isfinite(value := float(text)):
    raise ValueError(f"it holds a number that is too large: {text}")
  return value
