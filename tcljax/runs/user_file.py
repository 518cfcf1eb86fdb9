"""A network from a file of the user's, `FILE.py:FUNCTION`, which is executed as Python."""

import contextlib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any, NamedTuple

from tcljax.files import checked_path
from tcljax.graph import Traced, trace
from tcljax.graph.fates import source_of_error

_MODULE = "network_of_convert"  # as which the file is imported; a name that no package has
_WANTED = (
  "what tcljax.trace, tcljax.from_torch and the like give, or a function of a batch of images"
)


class Place(NamedTuple):
  """A function in a file of the user's."""

  path: pathlib.Path
  function: str

  def __str__(self) -> str:
    return f"{self.path.name}:{self.function}"


def place_of(network: str) -> Place:
  """The file and the function; ValueError if the text names no function, or there is no file."""
  file, colon, function = network.rpartition(":")
  if not colon or not function.isidentifier():
    raise ValueError(
      f"network={network!r} names no function: give FILE.py:FUNCTION, such as my_net.py:network"
    )
  path = checked_path("network", file).absolute()
  if not path.is_file():
    raise ValueError(f"network={network!r}: {path} is no file")
  return Place(path, function)


def traced_from(place: Place, example: Any) -> Traced:
  """The network that the function gives.

  Args:
    place: from `place_of`.
    example: shape and type of a batch of images, with which a function that it gives is traced.

  Raises:
    ValueError: in one line: if there is no such function, it takes arguments, it raises an error,
      named with its line, or gives something else; or as `tcljax.trace` does.
  """
  with _importing_beside(place.path):
    made = _made(place)
    if isinstance(made, Traced):
      return made
    if not callable(made) or isinstance(made, type):
      raise ValueError(f"network={place} gives {_kind(made)}: let it return {_WANTED}")
    try:
      return trace(made, example)
    except ValueError as error:
      raise ValueError(f"network={place}: {error}") from error


@contextlib.contextmanager
def _importing_beside(path: pathlib.Path) -> Iterator[None]:
  """Lets a file import what lies beside it, as it could if Python ran it."""
  sys.path.insert(0, str(path.parent))
  try:
    yield
  finally:
    with contextlib.suppress(ValueError):
      sys.path.remove(str(path.parent))
    sys.modules.pop(_MODULE, None)


def _kind(made: Any) -> str:
  named = made is None or isinstance(made, type)
  return str(made) if named else f"a value of type {type(made).__name__}"


def _made(place: Place) -> Any:
  """What the function gives."""
  module = _called(place, lambda: _imported(place.path))
  function = vars(module).get(place.function)
  if not callable(function):
    own = [key for key, value in vars(module).items() if _is_defined_in(value, module)]
    others = f"; its functions are {', '.join(own)}" if own else ""
    raise ValueError(f"network={place}: the file has no function {place.function!r}{others}")
  if takes := _required(function):
    raise ValueError(
      f"network={place} takes arguments ({', '.join(takes)}): name a function without any, which "
      f"gives {_WANTED}"
    )
  return _called(place, function)


def _is_defined_in(value: Any, module: ModuleType) -> bool:
  return inspect.isfunction(value) and value.__module__ == module.__name__


def _required(function: Callable[..., Any]) -> list[str]:
  """The arguments that have to be given."""
  try:
    parameters = inspect.signature(function).parameters.values()
  except ValueError:  # as some callables of C have none
    return []
  free = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
  return [one.name for one in parameters if one.default is one.empty and one.kind not in free]


def _imported(path: pathlib.Path) -> ModuleType:
  loader = SourceFileLoader(_MODULE, str(path))  # whatever the name of the file ends with
  spec = ModuleSpec(_MODULE, loader, origin=str(path))
  spec.has_location = True  # so that the module knows its __file__
  module = importlib.util.module_from_spec(spec)
  sys.modules[_MODULE] = module
  loader.exec_module(module)
  return module


def _called(place: Place, function: Callable[[], Any]) -> Any:
  """What a call gives of code of the user's, whose errors are told in a line."""
  try:
    return function()
  except (Exception, SystemExit) as error:  # of any kind, as the code is the user's
    at = source_of_error(error)
    if isinstance(error, SyntaxError) and error.filename == str(place.path):
      at = f"{place.path.name}:{error.lineno}"
    said = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
    raise ValueError(
      f"network={place} fails{at and f' ({at})'}: {type(error).__name__}: {said}"
    ) from error
