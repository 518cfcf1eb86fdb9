"""Checks of a user's values; each raises ValueError with the field, the value and the remedy."""

import inspect
import math
import operator
from collections.abc import Iterable
from typing import Any

_LONGEST = 80  # characters of a value in a message
_SHORT = (str, bytes, bool, int, float, complex, type(None))


def must_be(field: str, value: Any, wanted: str) -> str:
  """The words for a value of the wrong kind: `x=None must be a path`.

  Arrays and networks are never written out, as they take many lines: `x is of type dict and must
  be a path`.
  """
  text = repr(value) if isinstance(value, _SHORT) else ""
  if text and len(text) <= _LONGEST:
    return f"{field}={text} must be {wanted}"
  kind = f"of type {type(value).__name__}"
  if isinstance(value, type):
    kind = f"the class {value.__name__}"
  return f"{field} is {kind} and must be {wanted}"


def check_function(field: str, value: Any, takes: tuple[str, ...]) -> None:
  """Raises ValueError unless `value` can be called with as many arguments; `takes` names them."""
  wanted = f"a function of {' and '.join(takes)}"
  if not callable(value):
    raise ValueError(must_be(field, value, wanted))
  try:
    signature = inspect.signature(value)
  except (TypeError, ValueError):  # of some functions in C nothing is known
    return
  try:
    signature.bind(*takes)
  except TypeError as error:
    raise ValueError(f"{field} must be {wanted}, and cannot be called so: {error}") from None


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
  """Raises ValueError unless `value` is one of `choices`."""
  if not isinstance(value, str) or value not in choices:
    raise ValueError(f"{field}={in_a_line(value)} is unknown: choose one of {', '.join(choices)}")


def check_number(field: str, value: Any) -> None:
  """Raises ValueError unless `value` is a real number of Python, NumPy or JAX; NaN is one."""
  # All of NumPy's scalars have `__float__`: complex ones, dates and texts too. bfloat16 is "V".
  real = not hasattr(value, "dtype") or getattr(value.dtype, "kind", None) in set("biufV")
  if not hasattr(value, "__float__") or getattr(value, "ndim", 0) or not real:
    raise ValueError(f"{field}={in_a_line(value)} must be a number")


def in_a_line(value: Any) -> str:
  """A value in the words of Python, cut where they are long."""
  text = " ".join(repr(value).split())
  return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def check_percentile(percentile: float) -> None:
  """Raises ValueError unless the percentile lies strictly between 0 and 100."""
  check_number("percentile", percentile)
  if not 0 < percentile < 100:
    raise ValueError(f"percentile={percentile} must lie strictly between 0 and 100")


def check_finite(field: str, value: float) -> None:
  """Raises ValueError unless `value` is a finite number from 0 on."""
  check_number(field, value)
  if not 0 <= value < math.inf:
    raise ValueError(f"{field}={value} must be finite and not negative")


def check_least(field: str, value: float, least: float) -> None:
  """Raises ValueError unless `value` is a number of at least `least`; NaN is not."""
  check_number(field, value)
  if not value >= least:
    raise ValueError(f"{field}={value} must be at least {least}")


def check_batches(batches: Any) -> None:
  """Raises ValueError unless this is something to iterate over that is no array itself."""
  if hasattr(batches, "ndim"):
    raise ValueError("batches is a single array: give an iterable of batches, such as [images]")
  if not hasattr(batches, "__iter__"):
    raise ValueError(must_be("batches", batches, "an iterable of batches, such as [images]"))


def check_count(field: str, value: int, least: int) -> None:
  """Raises ValueError unless `value` is a whole number of at least `least`."""
  try:
    operator.index(value)
  except TypeError:
    raise ValueError(
      f"{field}={in_a_line(value)} must be a whole number, at least {least}"
    ) from None
  check_least(field, value, least)


def check_seed(field: str, seed: int) -> None:
  """Raises ValueError unless `seed` is a whole number of 32 bits; of more JAX takes the last 32."""
  check_count(field, seed, 0)
  if operator.index(seed) >= 2**32:
    raise ValueError(f"{field}={seed} must be below {2**32}")


def check_widths(field: str, value: Any, groups: Iterable[Any], what: str) -> None:
  """Raises ValueError unless each of `groups`, of which `value` consists, is a tuple of widths."""
  for widths in groups:
    if not isinstance(widths, tuple) or not all(type(w) is int and w > 0 for w in widths):
      raise ValueError(f"{field}={value} must be {what}")
