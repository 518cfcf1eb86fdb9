"""Lines of a user's source, where a framework recorded a network before JAX traces it."""

import re
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tcljax.graph.fates import source_of

_FRAME = re.compile(r'^\s*File "(.+)", line (\d+), in ', re.MULTILINE)


class Frame(NamedTuple):
  """A call on a stack, in the words of JAX's tracebacks."""

  file_name: str
  line_num: int


def frames_of(stack: str | None) -> list[Frame]:
  """The calls of a stack that is written as Python writes it, the innermost first."""
  found = [Frame(file, int(line)) for file, line in _FRAME.findall(stack or "")]
  return found[::-1]


def line_of(frames: Sequence[Frame]) -> str:
  """The line among them that is the user's, "net.py:12"; "" where none is."""
  return source_of(types.SimpleNamespace(frames=frames))


def called_from(frames: Sequence[Frame], function: Callable[..., Any]) -> Callable[..., Any]:
  """A function that does the same, and that JAX sees called through these frames.

  So what it traces to carries the user's line, as what the user calls in JAX does.
  """
  for frame in frames:
    step = _calling(function)
    code = step.__code__.replace(co_filename=frame.file_name, co_firstlineno=frame.line_num)
    function = types.FunctionType(code, {}, closure=step.__closure__)
  return function


def _calling(function):
  return lambda *args, **kwargs: function(*args, **kwargs)  # on one line, which becomes the user's
