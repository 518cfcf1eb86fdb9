"""What goes wrong with a config file or its overrides, in one line: where, and what to do."""

import re
import traceback

import ml_collections
from absl import flags

_KINDS = {
  flags.BooleanParser: "true or false",
  flags.FloatParser: "a number",
  flags.IntegerParser: "a whole number",
}


def told(error: BaseException, given: str, values: flags.FlagValues) -> str:
  """What an error of parsing the flags means for who wrote them.

  Args:
    error: as absl or ml_collections raised it, around what a config file may have raised.
    given: the value of --config; empty where there is none.
    values: the flags, as far as they are known.
  """
  path, _, variants = given.partition(":")
  raised = _chain(error)
  first, place = raised[-1], _place(raised, path)
  if isinstance(first, AttributeError) and first.name == "get_config":
    return f"{path} has no function get_config: it makes base_config(), changes and returns it"
  for one in raised:
    if isinstance(one, (AttributeError, KeyError)) and _raised_in(one, ml_collections.__name__):
      return f"{place}{_unknown_field(str(one))}"
  if place:
    if isinstance(first, ValueError) and _raised_in(first, "tcljax"):  # a variant that is none
      return f"--config={given}: {first}"
    return f"{place}{type(first).__name__}: {_reason(first)}"
  if variants and isinstance(first, TypeError) and "get_config()" in str(first):
    return f"--config={given}: {path} has no variants: leave out ':{variants}'"
  if not given and (field := re.match(r"Unknown command line flag '(config\.[\w.]+)'", str(error))):
    return f"--{field[1]} changes a config: give --config too"
  return _illegal_value(str(error), values) or " ".join(str(error).split())


def _chain(error: BaseException) -> list[BaseException]:
  """An error, and those that it was raised about; the last was the first."""
  chain = [error]
  while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None:
    chain.append(earlier)
  return chain


def _place(raised: list[BaseException], path: str) -> str:
  """Where in the config file it went wrong, `path, line n: `; empty if the file had no part."""
  for error in reversed(raised):
    lines = [
      line
      for frame, line in traceback.walk_tb(error.__traceback__)
      if frame.f_code.co_filename == path
    ]
    if isinstance(error, SyntaxError) and error.filename == path:
      lines = [error.lineno or 1]
    if path and lines:
      return f"{path}, line {lines[-1]}: "
  return ""


def _raised_in(error: BaseException, package: str) -> bool:
  """Whether the error comes from a package, not from what called it."""
  frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
  return bool(frames) and frames[-1].f_globals.get("__name__", "").startswith(f"{package}.")


def _reason(error: BaseException) -> str:
  return error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())


def _illegal_value(text: str, values: flags.FlagValues) -> str:
  """What absl says of a value that is none of its flag, in our words; empty if it says no such."""
  if not (found := re.match(r"flag --([\w.]+)=(.*?): ", text, re.DOTALL)):
    return ""
  name, value = found.groups()
  parser = values[name].parser if name in values else None
  kind = next((words for known, words in _KINDS.items() if type(parser) is known), None)
  if kind is None and name.startswith("config."):
    kind = "a tuple, such as (4, 8)" if "uple" in type(parser).__name__ else None
    kind = kind or "set by its fields, such as --config.train.optimizer.momentum=0.5"
  elif kind is None:
    return ""
  return f"--{name}={value} must be {kind}"


def _unknown_field(text: str) -> str:
  """What ml_collections says of an unknown field, in one line."""
  field = re.search(r'Key "(\w+)"', text) or re.search(r"'(\w+)'?", text)
  nearest = re.search(r'Did you mean "(\w+)"', text)
  meant = f"did you mean {nearest[1]!r}?" if nearest else "docs/commands.md lists all fields"
  return f"--config has no field {(field[1] if field else text)!r}; {meant}"
