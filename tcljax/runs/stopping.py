"""Ctrl-C, and the signal by which schedulers end a job: told in one line, saved where it can be.

While a phase of training runs, the first signal lets it finish its step and save. Everywhere else,
and at a second signal, the process ends at once: what is on disk is whole at any moment.

A thread takes the signals. Python's own handlers wait for the end of what the main thread does in
compiled code, and an exception that they raise may come up where nothing expects it.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import jax

from tcljax.training.loop import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
HOW_TO_GO_ON = "the same command goes on from what is saved"


class _State:
  """What was asked of this process, and whether it will see to it itself."""

  lock = threading.Lock()
  asked: int | None = None
  awaited = False


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
    _State.asked = None


def _take(reading: int, name: str) -> None:
  while taken := os.read(reading, 1):
    number = taken[0]
    if number not in _SIGNALS:  # another handler's; Python tells of every signal
      continue
    with _State.lock:
      if not _State.awaited or _State.asked is not None:
        end_at_once(name, f"stopped; {HOW_TO_GO_ON}", 128 + number)
      _State.asked = number


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
def after_a_step() -> Iterator[Callable[[], bool]]:
  """Where the process sees to the first signal itself; gives a function that says if there was one.

  Several hosts would have to agree on the step, so there it ends at once.

  Raises:
    Stopped: on leaving without an error, if there was a signal.
  """
  if jax.process_count() > 1:
    yield lambda: False
    return
  with _State.lock:
    _State.awaited = True
  try:
    yield lambda: _State.asked is not None
  finally:
    with _State.lock:
      _State.awaited = False
  if _State.asked is not None:  # after the last step
    raise Stopped("stopped at the end of a phase, which is saved")


def asked() -> int | None:
  """The signal that this process was to end by, None if there was none."""
  return _State.asked
