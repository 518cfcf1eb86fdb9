"""A process of several hosts, run as a child: the last line says which one was lost.

When a process of such a job ends, JAX ends the others from its C++ code, with a stack of calls as
their last words. Only another process can say more afterwards: the one that was started, which
therefore runs the command as its child. A pipe between them tells the child of signals.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time

from tcljax.runs import stopping

_VARIABLE = "TCLJAX_SUPERVISOR"  # holds a file descriptor that ends with the parent
_REMEMBERED = 1 << 16  # bytes
# What JAX's coordination says, and the transport of CPUs. Either may end the process before the
# other has said a word, and the transport does not know which process it has lost.
_LOST = re.compile(
  rb"distributed service detected fatal errors|coordination service|gloo::\w+"
  rb"|Gloo[^\n]*(?:Connection|Read error|Write error|[Tt]imed out|[Tt]imeout)"
)
_UNHEALTHY = re.compile(rb"tasks are unhealthy[^\n]*:\s*([\d\s,]+)")
_NO_COORDINATOR = re.compile(rb"Failed to send RPC to coordination service")
# How an error of C++ or Python begins. What follows is mostly the last that a process says: it is
# held back for a while, for where it says no more than that another process was lost.
_LAST_WORDS = re.compile(rb"^(?:[EF]\d{4} |Traceback \(most recent|terminate called)", re.MULTILINE)
_HELD_SECONDS = 10.0


def is_child() -> bool:
  """Whether a parent watches this process."""
  return _VARIABLE in os.environ


def follow_parent(name: str) -> None:
  """Lets this child take signals from its parent alone, and end when it does, in whatever way.

  Args:
    name: of the command, before the line about a signal.
  """
  reading = int(os.environ[_VARIABLE])
  stopping.leave_to_parent()

  def watch():
    while told := os.read(reading, 1):
      stopping.take(told[0], name)
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def run_as_child(name: str) -> int:
  """Runs this process's command once more, as a child, and gives its exit status.

  Args:
    name: of the command, before the line about a lost process.
  """
  reading, writing = os.pipe()
  child = subprocess.Popen(
    [sys.executable, *sys.orig_argv[1:]],
    env={**os.environ, _VARIABLE: str(reading)},
    pass_fds=(reading,),
    stderr=subprocess.PIPE,
  )
  os.close(reading)

  def tell(number):
    with contextlib.suppress(OSError):  # it may have ended
      os.write(writing, bytes([number]))

  assert child.stderr
  with stopping.passed_on(tell), child.stderr:
    said, held = _copied(child.stderr.fileno())
    status = child.wait()
  os.close(writing)
  lost = _lost(status, said)
  if not lost:
    _show(held)
    lost = f"this process was ended by {signal.Signals(-status).name}" if status < 0 else ""
  if lost:
    print(
      f"{name}: {lost}: start all processes of the job again, {stopping.HOW_TO_GO_ON}",
      file=sys.stderr,
    )
  return status if status >= 0 else 1


def _copied(reading: int) -> tuple[bytes, bytes]:
  """Copies what the child says to stderr, to its end; the end of it, and what was held back."""
  said = held = b""
  until = 0.0
  while True:
    left = max(0.0, until - time.monotonic()) if held else None
    if not select.select([reading], [], [], left)[0]:
      _show(held)  # it says more than last words
      held = b""
      continue
    chunk = os.read(reading, 4096)
    if not chunk:
      return said, held
    said = (said + chunk)[-_REMEMBERED:]
    if held:
      held += chunk
    else:
      begun = _LAST_WORDS.search(chunk)
      shown = begun.start() if begun else len(chunk)
      _show(chunk[:shown])
      held, until = chunk[shown:], time.monotonic() + _HELD_SECONDS


def _show(said: bytes) -> None:
  with contextlib.suppress(OSError):
    os.write(2, said)


def _lost(status: int, said: bytes) -> str:
  """Which other process was lost, as far as the child said so; empty where none was."""
  if status == -signal.SIGABRT or (status == 1 and b"Traceback" in said):
    if found := _UNHEALTHY.findall(said):
      numbers = sorted({int(n) for n in re.findall(rb"\d+", found[-1])})
      which = ", ".join(map(str, numbers))
      return f"process {which} was lost" if len(numbers) == 1 else f"processes {which} were lost"
    if _NO_COORDINATOR.search(said):
      return "process 0 was lost"
    if _LOST.search(said):
      return "another process was lost"
  return ""
