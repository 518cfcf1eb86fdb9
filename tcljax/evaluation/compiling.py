"""What is compiled for a network and a user's functions, kept for the next call."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes)


def compiled(make: Callable[..., Any], preprocess: Callable[..., Any], *arguments: Any) -> Any:
  """What `make` makes; kept, so that a second evaluation of the same network compiles nothing.

  It is made anew for a function that may do something else than before: one that holds an object,
  or whose module has another function or number by a name that it reads. What it reads as an
  attribute, of a module or class, is taken for constant.

  Args:
    make: a function that gives a compiled one.
    preprocess: a user's function that becomes a part of it.
    *arguments: what else it is made of.
  """
  try:
    read: dict[Any, Any] = {}
    _collect(preprocess, read)
    return kept(make, preprocess, tuple(read.values()), *arguments)
  except (TypeError, ValueError):  # what may change; or a model has a list or an array as field
    return make(preprocess, *arguments)


@functools.lru_cache(maxsize=64)
def kept(make: Callable[..., Any], preprocess: Any, read: Any, *arguments: Any) -> Any:
  """What `make` makes of a function, with all that this reads by name as it is now."""
  del read
  return make(preprocess, *arguments)


def _collect(function: Any, read: dict[Any, Any]) -> None:
  """Adds what a function does its work by; TypeError if that may change behind the same names."""
  if inspect.ismethod(function):
    _collect(function.__self__, read)
    function = function.__func__
  if id(function) in read:
    return
  if inspect.isfunction(function):
    read[id(function)] = function, function.__code__
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    if function.__closure__ or not all(isinstance(one, _CONSTANTS) for one in defaults):
      raise TypeError("what it holds may change")
    for name, value in _named(function):
      _collect_named(function, name, value, read)
  elif type(function).__hash__ in (object.__hash__, None):
    raise TypeError("what it holds may change")
  else:  # equal ones are alike, such as frozen dataclasses
    read[id(function)] = function
    if type(function).__module__.partition(".")[0] == "tcljax":
      return
    if inspect.isfunction(call := type(function).__call__):
      _collect(call, read)
    if dataclasses.is_dataclass(function):
      for field in dataclasses.fields(function):
        if callable(held := getattr(function, field.name)):
          _collect(held, read)


def _collect_named(function, name, value, read):
  """Adds what a function reads of its module by a name."""
  library = type(value).__module__.partition(".")[0]  # compiled functions of JAX, and such
  if inspect.isfunction(value) and value.__module__ == function.__module__:
    _collect(value, read)
  elif inspect.ismodule(value) or inspect.isclass(value) or inspect.isfunction(value):
    read[id(value)] = value
  elif isinstance(value, _CONSTANTS):
    read[id(function), name] = type(value), value
  elif callable(value) and library in ("builtins", "numpy", "jax", "jaxlib"):
    read[id(value)] = value
  else:
    raise TypeError("what it reads may change")


def _named(function):
  """What a function's code, and that of functions written in it, names of its module."""
  names, codes = set(), [function.__code__]
  for code in codes:
    names.update(code.co_names)
    codes += [inner for inner in code.co_consts if inspect.iscode(inner)]
  known = function.__globals__
  return [(name, known[name]) for name in sorted(names) if name in known]
