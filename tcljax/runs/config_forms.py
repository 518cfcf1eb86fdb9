"""The forms of a config beside `RunConfig`: what a config file overrides, and what a workdir holds.

A file under `configs/` calls `base_config()` and overrides what differs. Every field can be set on
the command line, `--config.tune.steps=500`; a field that is not there is an error.
"""

import dataclasses
import json
import pathlib
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from ml_collections import ConfigDict, config_dict

from tcljax.files import read_json, why
from tcljax.runs.config import ConfigError, RunConfig, named

_Section = TypeVar("_Section")


def base_config() -> ConfigDict:
  """All fields of `RunConfig` with their defaults, to be overridden."""
  return _open(RunConfig()).lock()


def _open(section: Any) -> ConfigDict:
  config, types = ConfigDict(), typing.get_type_hints(type(section))
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if dataclasses.is_dataclass(value):
      config[field.name] = _open(value)
    elif value is None:  # of a type all the same
      config[field.name] = config_dict.placeholder(typing.get_args(types[field.name])[0])
    else:
      config[field.name] = value
  return config


def parse(config: ConfigDict) -> RunConfig:
  """The checked config that these fields describe.

  Raises:
    ConfigError: naming the field, its value and the remedy.
  """
  return _parse(RunConfig, config.to_dict(), "")


def _parse(kind: Callable[..., _Section], fields: Any, section: str) -> _Section:
  if not isinstance(fields, dict):
    raise ConfigError(f"{section.rstrip('.') or 'config'}={fields!r} must be a section of fields")
  types = typing.get_type_hints(kind)
  parsed = {}
  for name, value in fields.items():
    if name not in types:
      raise ConfigError(f"{section}{name}={value!r} is no field of a config: leave it out")
    if dataclasses.is_dataclass(types[name]):
      parsed[name] = _parse(types[name], value, f"{section}{name}.")
    else:
      parsed[name] = value
      _check_type(f"{section}{name}", value, types[name])
  return named(section, kind, **parsed)


def _check_type(field: str, value: Any, kind: Any) -> None:
  """Raises ConfigError unless the value is of the type that the field declares."""
  kinds = (tuple,) if typing.get_origin(kind) is tuple else typing.get_args(kind) or (kind,)
  if not isinstance(value, (*kinds, int) if float in kinds else kinds):
    raise ConfigError(f"{field}={value!r} must be of type {getattr(kind, '__name__', kind)}")


def to_json(config: RunConfig) -> str:
  """The config as it is stored in a workdir."""
  return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(path: pathlib.Path) -> RunConfig:
  """Reads what `to_json` wrote.

  Raises:
    ValueError: if it is not there, not JSON, or its fields are not those of a config.
  """
  try:
    stored = read_json(path)
  except FileNotFoundError:
    raise ValueError(f"{path} does not exist: is {path.parent} a workdir of train.py?") from None
  try:
    return _parse(RunConfig, _with_tuples(stored), "")
  except (RecursionError, ValueError) as error:
    raise ValueError(
      f"{path} does not hold the fields of this version: {why(error)}; choose another workdir"
    ) from error


def _with_tuples(value: Any) -> Any:
  """JSON knows no tuples; configs know nothing else."""
  if isinstance(value, dict):
    return {key: _with_tuples(v) for key, v in value.items()}
  return tuple(_with_tuples(v) for v in value) if isinstance(value, list) else value


def differences(stored: RunConfig, given: RunConfig) -> list[str]:
  """One text for each field in which two configs differ: `field: stored -> given`."""
  old, new = (_flatten(json.loads(to_json(config))) for config in (stored, given))
  return [
    f"{field}: {old.get(field)!r} -> {new.get(field)!r}"
    for field in sorted({*old, *new})
    if old.get(field) != new.get(field)
  ]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
  return flat
