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

  One stays what it is if it holds nothing and names nothing but modules, classes and functions that
  stay what they are. Of others, what they hold or name may be another.
  """
  if inspect.ismethod(function):
    return _may_change(function.__self__) or _may_change(function.__func__)
  if inspect.isfunction(function):
    return any(map(_holds_what_may_change, _reached(function, {})))
  return type(function).__hash__ in (object.__hash__, None)


def _reached(function, found):
  """A function, and those of its module that it calls by their names, and so on."""
  found[function] = None
  for value in _named(function):
    own = inspect.isfunction(value) and value.__module__ == function.__module__
    if own and value not in found:
      _reached(value, found)
  return found


def _holds_what_may_change(function):
  defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
  constant = all(one is None or isinstance(one, (bool, int, float, str)) for one in defaults)
  return bool(function.__closure__) or not constant or not all(map(_stays, _named(function)))


def _stays(value):
  """Whether what a function names is taken for what it will be: no number, array or object."""
  if inspect.ismodule(value) or inspect.isclass(value) or inspect.isfunction(value):
    return True
  library = type(value).__module__.partition(".")[0]  # compiled functions of JAX, and such
  return callable(value) and library in ("builtins", "numpy", "jax", "jaxlib")


def _named(function):
  """What a function's code, and that of functions written in it, names of its module."""
  names, codes = set(), [function.__code__]
  for code in codes:
    names.update(code.co_names)
    codes += [inner for inner in code.co_consts if inspect.iscode(inner)]
  return [function.__globals__[name] for name in names if name in function.__globals__]
