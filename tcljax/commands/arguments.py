"""What the commands share: flags, and whatever ends them told in one line, with a status."""

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ml_collections
from absl import flags
from absl import logging as absl_logging
from ml_collections import config_flags

from tcljax.commands import config_errors, supervision
from tcljax.files import FileError, why
from tcljax.runs import config_files, stopping

_Held = TypeVar("_Held")
# The others are then ended within half a minute.
_HOST_TIMEOUT = 20


class _Done(Exception):
  """The child of this process has done the command's work; holds its status."""


class Command:
  """Flags of one command, kept apart from absl's global ones so that commands can coexist.

  Args:
    name: shown before messages.
    description: first lines of --help; None where Python runs without docstrings.
    argv: command line, the program first; None for that of this process, which the command then
      may end.
  """

  def __init__(self, name: str, description: str | None, argv: Sequence[str] | None) -> None:
    self.name, self.description = name, description or name
    self.argv = list(sys.argv if argv is None else argv)
    self._is_process = argv is None
    self._held = contextlib.ExitStack()
    self.flags = flags.FlagValues()
    self._paths: list[str] = []
    flags.DEFINE_bool(
      "multihost", False, "Join the processes of a multi-host job first.", flag_values=self.flags
    )
    flags.DEFINE_integer(
      "host_timeout",
      _HOST_TIMEOUT,
      "With --multihost: seconds without a sign of life after which a process is taken for lost.",
      lower_bound=1,
      flag_values=self.flags,
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

  def define_switch(self, name: str, text: str, default: bool = False) -> None:
    """Adds a flag that is off unless given, or on unless given with "no" before it."""
    flags.DEFINE_bool(name, default, text, flag_values=self.flags)

  def define_word(self, name: str, bare: str, text: str) -> None:
    """Adds a flag that takes a word, and stands for `bare` where it is given without one."""
    flags.DEFINE_string(name, None, text, flag_values=self.flags)
    for i, argument in enumerate(self.argv):
      following = self.argv[i + 1 : i + 2] or ["-"]
      if argument in (f"-{name}", f"--{name}") and following[0].startswith("-"):
        self.argv[i] = f"--{name}={bare}"

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
      if "config" in self.flags and self.flags.config is not None:
        self._lock_config()
    except (Exception, SystemExit) as error:  # whatever a config file may raise
      raise ValueError(config_errors.told(error, self._config_given(), self.flags)) from error
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

  def _config_given(self) -> str:
    """The value of --config, with its variants; empty where there is none."""
    if "config" in self.flags:
      for argument, following in zip(self.argv, [*self.argv[1:], ""]):
        if given := re.fullmatch(r"--?config(?:=(.*))?", argument):
          return following if given[1] is None else given[1]
    return ""

  def _lock_config(self) -> None:
    config = self.flags.config
    if not type(config).__module__.startswith(f"{ml_collections.__name__}."):
      raise ValueError(
        f"get_config of the config file gives {config!r}: let it change and return base_config()"
      )
    config.lock()  # a file that failed to load raises at this first use

  def hold(self, context: contextlib.AbstractContextManager[_Held]) -> _Held:
    """Enters a context that is left when the command ends."""
    return self._held.enter_context(context)

  def join_hosts(self) -> None:
    """Joins the processes of a job, as a child of this process, which sees how it ends."""
    from tcljax.distributed import parallel

    if self._is_process and not supervision.is_child():
      raise _Done(supervision.run_as_child(self.name))
    if supervision.is_child():
      supervision.follow_parent(self.name)
    try:
      parallel.initialize_hosts(self.flags.host_timeout)
    except RuntimeError as error:
      raise ValueError(f"--multihost: the job cannot be joined: {why(error)}") from error

  def run(self, prepare: Callable[[], Callable[[], object]]) -> int:
    """Runs the command and gives its exit status.

    Args:
      prepare: checks all input and returns what does the work. Its ValueErrors are the user's
        to mend: one line, status 2. Afterwards only files and images that cannot be read or written
        are; training that diverges and a conversion that fails its check end in one line and status
        1.
    """
    with self._held:
      if self._is_process:
        self.hold(stopping.watching(self.name))
        sys.excepthook = _of_the_main_thread(sys.__excepthook__)
        sys.unraisablehook = _of_the_main_thread(sys.__unraisablehook__)
      try:
        status = self._run(prepare)
        sys.stdout.flush()
      except BrokenPipeError:
        _write_to_nowhere()
        status = self._complain(
          f"nobody reads the output any more: stopped; {stopping.HOW_TO_GO_ON}",
          128 + signal.SIGPIPE,
        )
      except _Done as done:
        [status] = done.args
      except OSError as error:  # of the data, of stdout, or of a library that is not whole
        _write_to_nowhere()
        status = self._complain(
          _failed_import(error) or f"{error.filename or 'output'}: {error.strerror or error}", 2
        )
      except Exception:
        if not self._is_process:
          raise
        traceback.print_exc()
        status = 1
    if status and self._is_process:
      os._exit(status)  # else other hosts, and threads with errors of their own, are waited for
    return status

  def _run(self, prepare: Callable[[], Callable[[], object]]) -> int:
    if {"--help", "-h", "-help"} & set(self.argv):
      own = (name for name in sorted(self.flags) if name not in ("flagfile", "undefok"))
      print(self.description, *(f"  --{name}: {self.flags[name].help}" for name in own), sep="\n")
      return 0
    # Orbax and what it runs on log at length what is then raised.
    absl_logging.set_verbosity(absl_logging.FATAL)
    for name in ("absl", "asyncio"):
      logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
      work = prepare()
    except ValueError as error:
      return self._complain(error, 2)
    # Imported late: with these come Orbax and TensorBoard, which bad input need not wait for.
    from tcljax.data import BadExample
    from tcljax.evaluation.accuracy import OutputNotFinite
    from tcljax.kernels.program_cache import keep_programs
    from tcljax.runs.conversion_run import ConversionFailed
    from tcljax.training.calibration import CalibrationError
    from tcljax.training.loop import Stopped, TrainingDiverged

    if self._is_process:
      keep_programs()
    try:
      work()
    except (BadExample, FileError) as error:
      return self._complain(error, 2)
    except (CalibrationError, ConversionFailed, OutputNotFinite, TrainingDiverged) as error:
      return self._complain(error, 1)
    except ValueError as error:
      if not isinstance(error.__cause__, OSError):
        raise
      return self._complain(error, 2)  # a network that could not be written
    except Stopped as stopped:
      status = 128 + (stopping.asked() or signal.SIGINT)
      return self._complain(f"{stopped}; the same command goes on from there", status)
    return 0

  def _complain(self, error: Exception | str, status: int) -> int:
    from tcljax.runs.config import ConfigError

    text, flag = " ".join(str(error).split()), ""
    named = re.match(r"(\w+)[=:]", text)  # the argument of a function, which a flag may be
    if isinstance(error, ConfigError):
      flag = "--config." if self._config_given() else ""
    elif isinstance(error, ValueError) and named and named[1] in self.flags:
      flag = "--"
    with contextlib.suppress(OSError):
      print(f"{self.name}: {flag}{text}", file=sys.stderr)
    return status


def _failed_import(error: BaseException) -> str:
  """What to do about the installed package in which an error was raised on import; else empty.

  TensorBoard's writer imports PyTorch wherever that is installed, in whatever state.
  """
  bodies = [
    frame
    for frame, _ in traceback.walk_tb(error.__traceback__)
    if frame.f_code.co_name == "<module>"
  ]
  if not bodies:
    return ""
  package = bodies[-1].f_globals.get("__name__", "").partition(".")[0]
  return (
    f"the installed package {package} cannot be imported: {error}; install it again, or remove it"
  )


def _of_the_main_thread(show: Callable[..., object]) -> Callable[..., None]:
  """A hook for errors that nobody catches, or that cannot be raised, which shows them by `show`.

  But for what TensorStore's threads say after a failed write.
  """

  def hook(*error: Any) -> None:
    if threading.current_thread() is threading.main_thread():
      show(*error)

  return hook


def _write_to_nowhere() -> None:
  """What stdout still holds is lost: Python would try it once more at its end, and complain."""
  with contextlib.suppress(OSError, ValueError):
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
