"""What the commands share: flags, and bad input told in one line."""

import logging
import sys
from typing import Callable, Sequence

from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

from tcljax.checkpoints import CheckpointError
from tcljax.fitting import TrainingDiverged


class Command:
  """Flags of one command, kept apart from absl's global ones so that commands can coexist.

  Args:
    name: shown before messages.
    description: first lines of --help.
    argv: command line, the program first.
  """

  def __init__(self, name: str, description: str, argv: Sequence[str] | None):
    self.name, self.description = name, description
    self.argv = list(sys.argv if argv is None else argv)
    self.flags = flags.FlagValues()
    flags.DEFINE_bool("multihost", False, "Join the processes of a multi-host job first.",
                      flag_values=self.flags)

  def define_path(self, name: str, text: str) -> None:
    flags.DEFINE_string(name, None, text, flag_values=self.flags)

  def define_config(self) -> None:
    config_flags.DEFINE_config_file(
        "config", None, "Path of a config file; --config.FIELD=VALUE overrides a field.",
        flag_values=self.flags, sys_argv=self.argv)

  def parse(self, *required: str) -> flags.FlagValues:
    """Parses the command line.

    Raises:
      ValueError: on what cannot be understood, or a flag that is required and missing.
    """
    try:
      rest = self.flags(self.argv)[1:]
      for name in required:
        if getattr(self.flags, name) is None:
          raise ValueError(f"--{name} is required; see --help")
    except AttributeError as error:  # ml_collections: the field of an override
      raise ValueError(f"--config has no field {str(error).strip(chr(34) + chr(39))!r}; the fields "
                       "and their defaults stand in tcljax/config.py") from error
    except (flags.Error, OSError, TypeError) as error:
      raise ValueError(" ".join(str(error).split())) from error
    if rest:
      raise ValueError(f"{rest[0]!r} is not a flag; see --help")
    return self.flags

  def run(self, prepare: Callable[[], Callable[[], object]]) -> int:
    """Runs the command and gives its exit status.

    Args:
      prepare: checks all input and returns what does the work. Its ValueErrors are the user's
        to mend: one line, status 2. Afterwards only unreadable checkpoints are.
    """
    if {"--help", "-h", "-help"} & set(self.argv):
      print(f"{self.description}\n{self.flags.main_module_help() or self.flags.get_help()}")
      return 0
    absl_logging.set_verbosity(absl_logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
      work = prepare()
    except ValueError as error:
      return self._complain(error, 2)
    try:
      work()
    except CheckpointError as error:
      return self._complain(error, 2)
    except TrainingDiverged as error:
      return self._complain(error, 1)
    return 0

  def _complain(self, error, status):
    print(f"{self.name}: {' '.join(str(error).split())}", file=sys.stderr)
    return status
