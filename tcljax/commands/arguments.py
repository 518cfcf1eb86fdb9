"""What the commands share: flags, and bad input told in one line."""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Sequence

import ml_collections
from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

from tcljax.runs import config_files


class Command:
  """Flags of one command, kept apart from absl's global ones so that commands can coexist.

  Args:
    name: shown before messages.
    description: first lines of --help; None where Python runs without docstrings.
    argv: command line, the program first.
  """

  def __init__(self, name: str, description: str | None, argv: Sequence[str] | None) -> None:
    self.name, self.description = name, description or name
    self.argv = list(sys.argv if argv is None else argv)
    self.flags = flags.FlagValues()
    self._paths: list[str] = []
    flags.DEFINE_bool(
      "multihost", False, "Join the processes of a multi-host job first.", flag_values=self.flags
    )

  def define_path(self, name: str, text: str) -> None:
    """Adds a flag that takes a path."""
    flags.DEFINE_string(name, None, text, flag_values=self.flags)
    self._paths.append(name)

  def define_list(self, name: str, default: str, text: str) -> None:
    """Adds a flag that takes values separated by commas."""
    flags.DEFINE_list(name, default, text, flag_values=self.flags)

  def define_count(self, name: str, text: str) -> None:
    """Adds a flag that takes a number from 0 on, by default 0."""
    flags.DEFINE_integer(name, 0, text, lower_bound=0, flag_values=self.flags)

  def define_number(self, name: str, text: str) -> None:
    """Adds a flag that takes a number and may be left out."""
    flags.DEFINE_float(name, None, text, flag_values=self.flags)

  def define_switch(self, name: str, text: str) -> None:
    """Adds a flag that is off unless given."""
    flags.DEFINE_bool(name, False, text, flag_values=self.flags)

  def define_config(self) -> None:
    """Adds --config and its overrides."""
    config_flags.DEFINE_config_file(
      "config",
      None,
      f"Name of a config ({', '.join(config_files.shipped())}) or path of a config file; what "
      "follows a colon are variants. --config.FIELD=VALUE overrides a field.",
      flag_values=self.flags,
      sys_argv=self.argv,
    )

  def parse(self, *required: str) -> flags.FlagValues:
    """Parses the command line.

    Raises:
      ValueError: on what cannot be understood, or a flag that is required and missing.
    """
    if "config" in self.flags:
      self._find_config()
    try:
      rest = self.flags(self.argv)[1:]
      for name in required:
        if getattr(self.flags, name) is None:
          raise ValueError(f"--{name} is required; see --help")
      for name in self._paths:
        if getattr(self.flags, name) == "":
          raise ValueError(f"--{name}= is empty: give a path, or leave the flag out")
      if "config" in required:
        self._lock_config()
    except (AttributeError, KeyError) as error:
      if not _raised_by_ml_collections(error):
        raise ValueError(_unreadable(error)) from error
      raise ValueError(_unknown_field(str(error))) from error
    except (flags.Error, OSError, TypeError, ValueError) as error:
      raise ValueError(_without_traceback(str(error))) from error
    except (Exception, SystemExit) as error:  # whatever a config file may raise
      raise ValueError(_unreadable(error)) from error
    if rest:
      raise ValueError(f"{rest[0]!r} is not a flag; see --help")
    return self.flags

  def _find_config(self) -> None:
    """Puts the path of the config that --config names into argv; ValueError if there is none."""
    for i, argument in enumerate(self.argv):
      flag, equals, given = argument.partition("=")
      if flag in ("-config", "--config"):
        end = i + (1 if equals else 2)
        path = config_files.find_config(given if equals else "".join(self.argv[i + 1 : end]))
        self.argv[i:end] = [f"{flag}={path}"]

  def _lock_config(self) -> None:
    config = self.flags.config
    if not type(config).__module__.startswith(f"{ml_collections.__name__}."):
      raise ValueError(
        f"get_config of the config file gives {config!r}: let it change and return base_config()"
      )
    config.lock()  # a file that failed to load raises at this first use

  def run(self, prepare: Callable[[], Callable[[], object]]) -> int:
    """Runs the command and gives its exit status.

    Args:
      prepare: checks all input and returns what does the work. Its ValueErrors are the user's
        to mend: one line, status 2. Afterwards only unreadable checkpoints and images are; training
        that diverges and a conversion that fails its check end in one line and status 1.
    """
    if {"--help", "-h", "-help"} & set(self.argv):
      own = (name for name in sorted(self.flags) if name not in ("flagfile", "undefok"))
      print(self.description, *(f"  --{name}: {self.flags[name].help}" for name in own), sep="\n")
      return 0
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
      work = prepare()
    except ValueError as error:
      return self._complain(error, 2)
    # Imported late: with these come Orbax and TensorBoard, which bad input need not wait for.
    from tcljax.data import BadExample
    from tcljax.distributed.checkpoints import CheckpointError
    from tcljax.runs.conversion_run import ConversionFailed
    from tcljax.training.calibration import CalibrationError
    from tcljax.training.loop import TrainingDiverged

    try:
      work()
    except (BadExample, CheckpointError) as error:
      return self._complain(error, 2)
    except (CalibrationError, ConversionFailed, TrainingDiverged) as error:
      return self._complain(error, 1)
    return 0

  def _complain(self, error: Exception, status: int) -> int:
    from tcljax.runs.config import ConfigError

    text, flag = " ".join(str(error).split()), ""
    named = re.match(r"(\w+)[=:]", text)  # the argument of a function, which a flag may be
    if isinstance(error, ConfigError):
      flag = "--config." if "config" in self.flags else ""
    elif named and named[1] in self.flags:
      flag = "--"
    print(f"{self.name}: {flag}{text}", file=sys.stderr)
    return status


def _raised_by_ml_collections(error: BaseException) -> bool:
  """Whether a config said that it has no such field; else a config file itself went wrong."""
  *_, (frame, _) = traceback.walk_tb(error.__traceback__)
  return frame.f_globals.get("__name__", "").startswith(f"{ml_collections.__name__}.")


def _unreadable(error: BaseException) -> str:
  return f"the config cannot be read: {type(error).__name__}: {error}"


def _without_traceback(text: str) -> str:
  """What absl says of a config file that raised: what it was doing, and the error alone."""
  doing, trace, lines = text.partition("Traceback (most recent call last)")
  return doing + lines.strip().splitlines()[-1] if trace else text


def _unknown_field(text: str) -> str:
  """What ml_collections says of an unknown field, in one line."""
  field = re.search(r'Key "(\w+)"', text) or re.search(r"'(\w+)'?", text)
  nearest = re.search(r'Did you mean "(\w+)"', text)
  meant = f"did you mean {nearest[1]!r}?" if nearest else "see tcljax/runs/config.py for all fields"
  return f"--config has no field {(field[1] if field else text)!r}; {meant}"
