"""Frameworks are imported where they are asked for, and told of where they are absent."""

import importlib
from typing import Any


def framework(name: str, extra: str) -> Any:
  """A framework's module.

  Raises:
    ValueError: if it is not installed, with the command that installs it.
  """
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name != name.partition(".")[0]:
      raise
    raise ValueError(
      f"{name.partition('.')[0]} is not installed: run pip install 'tcljax[{extra}]'"
    ) from error
