"""What is compiled for a network and a user's functions, kept for the next call."""

import inspect
from collections.abc import Callable
from typing import Any


def compiled(make: Any, preprocess: Callable[..., Any], *arguments: Any) -> Any:
  """What `make` makes; kept, so that a second evaluation of the same network compiles nothing.

  Args:
    make: a function under `functools.lru_cache` that gives a compiled one.
    preprocess: a user's function that becomes a part of it.
    *arguments: what else it is made of.
  """
  try:
    return (make.__wrapped__ if _may_change(preprocess) else make)(preprocess, *arguments)
  except TypeError:  # a model with a list as field has no hash
    return make.__wrapped__(preprocess, *arguments)


def _may_change(function: Any) -> bool:
  """Whether a function may do something else when it is called again.

  One that is defined by itself stays what it is; of others, what they hold may be another.
  """
  if inspect.ismethod(function):
    return _may_change(function.__self__)
  if inspect.isfunction(function):
    return bool(function.__closure__)
  return type(function).__hash__ in (object.__hash__, None)
