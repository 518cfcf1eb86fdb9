"""Ctrl-C, and the signal by which schedulers end a job: told in one line, saved where it can be.

While a phase of training runs, the first signal lets it finish its step and save. Everywhere else,
and at a second signal, the process ends at once: what is on disk is whole at any moment.

A thread takes the signals. Python's own handlers wait for the end of what the main thread does in
compiled code, and an exception that they raise may come up where nothing expects it.

The processes of a job stop after the same step, whichever of them was sent a signal.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax

from tcljax.distributed import parallel
from tcljax.training.loop import Asked, Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DUE = 1  # a checkpoint; below every signal
HOW_TO_GO_ON = "the same command goes on from what is saved"


class _State:
  """What was asked of this process, and whether it will see to it itself.

  Signals are numbers; 0 is none. `agreed` is that of a job, which its other processes may not have
  been sent yet: for them it is still the first one then.
  """

  lock = threading.Lock()
  asked = agreed = 0
  awaited = False
  passed_on: Callable[[int], object] | None = None


@contextlib.contextmanager
def watching(name: str) -> Iterator[None]:
  """Ends the process, with a line and the status that shells give, at the signals that say so.

  Args:
    name: of the command, before the line.
  """
  ours = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
  if threading.current_thread() is not threading.main_thread() or not ours:
    yield  # Python leaves signals to the main thread
    return
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  thread = threading.Thread(target=_take, args=(reading, name), daemon=True)
  thread.start()
  former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  handlers = {n: signal.signal(n, lambda *_: None) for n in ours}
  try:
    yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(former)
    os.close(writing)  # which ends the thread
    thread.join()
    os.close(reading)
    _State.asked = _State.agreed = 0


def _take(reading: int, name: str) -> None:
  while taken := os.read(reading, 1):
    if taken[0] in _SIGNALS:  # Python tells of every signal that has a handler
      take(taken[0], name)


def take(number: int, name: str) -> None:
  """Does what this process does at a signal.

  Args:
    number: of the signal.
    name: of the command, before the line.
  """
  with _State.lock:
    if _State.passed_on is not None:
      _State.passed_on(number)
    elif not _State.awaited or _State.asked:
      end_at_once(name, f"stopped; {HOW_TO_GO_ON}", 128 + number)
    else:
      _State.asked = number


@contextlib.contextmanager
def passed_on(to: Callable[[int], object]) -> Iterator[None]:
  """Where signals are for another process to see to: they are given to `to`, and change nothing."""
  with _State.lock:
    _State.passed_on = to
  try:
    yield
  finally:
    with _State.lock:
      _State.passed_on = None


def leave_to_parent() -> None:
  """Lets signals pass by inside `watching`, where a parent tells of them: a whole job gets them.

  They are not ignored: processes that this one starts would inherit that.
  """
  signal.set_wakeup_fd(-1)


def end_at_once(name: str, text: str, status: int) -> None:
  """Ends the process without unwinding, after a line on stderr."""
  with contextlib.suppress(OSError, RuntimeError, ValueError):  # the terminal may be gone
    sys.stdout.flush()
  # Below the progress bar, or the ^C of the terminal.
  line = f"{name}: {text}\n"
  with contextlib.suppress(OSError):
    os.write(2, f"\n{line}".encode() if os.isatty(2) else line.encode())
  os._exit(status)


@contextlib.contextmanager
def after_a_step(save_every: float) -> Iterator[Callable[[], Asked]]:
  """Where the process sees to the first signal itself; gives a function of what is asked for.

  The processes of a job are to call it after the same steps. It says on all of them at once that
  one was sent a signal, or that it is time to save by the clock of process 0, a step late, since
  none waits for the others.

  Args:
    save_every: seconds after which it is time to save; infinity for never.

  Raises:
    Stopped: on leaving without an error, if there was a signal.
  """
  alone = jax.process_count() == 1
  highest = int if alone else parallel.Highest()
  latest, saved = 0, time.monotonic()

  def asked():
    nonlocal latest, saved
    due = parallel.is_main_host() and time.monotonic() - saved >= save_every
    if due:
      saved = time.monotonic()
    former, latest = latest, highest(_State.asked or due * _DUE)
    found = int(latest if alone else former)
    if found > _DUE:
      _State.agreed = found
      return Asked.STOP
    return Asked.SAVE if found else Asked.NOTHING

  with _State.lock:
    _State.awaited = True
  try:
    yield asked
  finally:
    with _State.lock:
      _State.awaited = False
  _State.agreed = int(highest(_State.asked))
  if _State.agreed:  # after the last step
    raise Stopped("stopped at the end of a phase, which is saved")


def asked() -> int:
  """The signal that this process was to end by, or its job; 0 if there was none."""
  return _State.agreed or _State.asked
