"""Checks of a user's values; each raises ValueError with the field, the value and the remedy."""

import math


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
  """Raises ValueError unless `value` is one of `choices`."""
  if value not in choices:
    raise ValueError(f"{field}={value!r} is unknown: choose one of {', '.join(choices)}")


def check_percentile(percentile: float) -> None:
  """Raises ValueError unless the percentile lies strictly between 0 and 100."""
  if not 0 < percentile < 100:
    raise ValueError(f"percentile={percentile} must lie strictly between 0 and 100")


def check_finite(field: str, value: float) -> None:
  """Raises ValueError unless `value` is a finite number from 0 on."""
  if not 0 <= value < math.inf:
    raise ValueError(f"{field}={value} must be finite and not negative")


def check_least(field: str, value: float, least: float) -> None:
  """Raises ValueError unless `value` is at least `least`; NaN is not."""
  if not value >= least:
    raise ValueError(f"{field}={value} must be at least {least}")
