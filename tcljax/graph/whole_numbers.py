"""Sizes, axes and the like as a file may hold them: whole numbers within limits, or told."""

from typing import Any

Shape = tuple[int, ...]  # of one example, without the batch

_LARGEST_INTEGER = 2**31 - 1  # what XLA takes for a size
_MOST_AXES = 12


def check_shape(name: str, shape: Any) -> None:
  """Raises ValueError unless this is a tuple of sizes, each at least 1."""
  check_integers(name, shape, None, 1)


def check_integer(name: str, value: Any, least: int, most: int = _LARGEST_INTEGER) -> None:
  """Raises ValueError unless this is an integer of Python, no bool, within these limits."""
  if type(value) is not int or not least <= value <= most:
    raise ValueError(f"{name}={value!r} must be a whole number from {least} to {most}")


def check_integers(
  name: str, values: Any, count: int | None, least: int, most: int = _LARGEST_INTEGER
) -> None:
  """Raises ValueError unless this is a tuple of integers within limits.

  Args:
    name: of the setting.
    values: the setting.
    count: how many; None for as many as an array may have axes.
    least: limit of each.
    most: limit of each.
  """
  counts = range(_MOST_AXES + 1) if count is None else (count,)
  if not isinstance(values, tuple) or len(values) not in counts:
    wanted = f"at most {_MOST_AXES}" if count is None else count
    raise ValueError(f"{name}={values!r} must be {wanted} whole numbers")
  for value in values:
    check_integer(name, value, least, most)


def check_entries(name: str, values: Any, count: int, length: int) -> None:
  """Raises ValueError unless this is a tuple of `count` tuples of integers of either sign."""
  if not isinstance(values, tuple) or len(values) != count:
    raise ValueError(f"{name}={values!r} must have {count} entries")
  for value in values:
    check_integers(name, value, length, -_LARGEST_INTEGER)
