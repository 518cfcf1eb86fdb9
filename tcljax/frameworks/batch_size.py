"""Where a module of PyTorch uses the number of examples in a batch."""

import traceback
from typing import Any

import jax

from tcljax.frameworks.source_lines import Frame, line_of


def where_used(torch: Any, module: Any, inputs: tuple[Any, ...]) -> str:
  """The function and the line that hold only for some numbers of examples.

  `torch.export` tells that such a place exists, but not which it is. So the module is exported once
  more, for whatever numbers of examples it allows, and what narrows them down is watched.

  Args:
    torch: the framework.
    module: that cannot be exported for any number of examples.
    inputs: what it is called with, trees of tensors.

  Returns:
    For people: ", by `view` (net.py:12)", or " (net.py:12)" where Python itself asks for the
    number, as `len` and `if` do; "" where it is not found.
  """
  found = []

  class Watching(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
      before = _narrowed(args)
      answer = func(*args, **(kwargs or {}))
      if len(_narrowed(args)) > len(before):
        line = line_of(
          [Frame(of.filename, of.lineno or 0) for of in traceback.extract_stack()][::-1]
        )
        found.append(f", by `{getattr(func, '__name__', func)}`{line and f' ({line})'}")
      return answer

  free = torch.export.ShapesCollection()
  for leaf in jax.tree.leaves(inputs):
    free[leaf] = {0: torch.export.Dim.AUTO}
  try:
    with Watching():
      program = torch.export.export(module, inputs, dynamic_shapes=free, strict=False)
    held = [node.meta.get("val") for node in program.graph.nodes]
    lines = [_line(guard) for guard in _narrowed(held)]
  except Exception:  # of any kind: it is told without the place
    lines = []
  return found[0] if found else next((f" ({line})" for line in lines if line), "")


def _narrowed(values):
  """What torch.export has assumed about sizes so far, for the program that these are of."""
  modes = [value.fake_mode for value in values if hasattr(value, "fake_mode")]
  return [*modes[0].shape_env.guards] if modes and modes[0].shape_env else []


def _line(guard):
  """The user's line that asked for an assumption; "" where that is none of the user's."""
  frame: Any = getattr(getattr(guard, "sloc", None), "framework_loc", None)
  return line_of([Frame(frame.filename, frame.lineno)]) if hasattr(frame, "filename") else ""
