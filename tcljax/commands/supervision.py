"""A process of several hosts, run as a child: the last line says which one was lost.

When a process of such a job ends, JAX ends the others from its C++ code, with a stack of calls as
their last words. Only another process can say more afterwards: the one that was started, which
therefore runs the command as its child.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading

from tcljax.runs.stopping import HOW_TO_GO_ON

_VARIABLE = "TCLJAX_SUPERVISOR"  # holds a file descriptor that ends with the parent
_REMEMBERED = 1 << 16  # bytes
# What JAX's coordination says, and the transport of CPUs. Either may end the process before the
# other has said a word, and the transport does not know which process it has lost.
_LOST = re.compile(rb"distributed service detected fatal errors|[Gg]loo|coordination service")
_UNHEALTHY = re.compile(rb"tasks are unhealthy[^\n]*:\s*([\d\s,]+)")
_NO_COORDINATOR = re.compile(rb"Failed to send RPC to coordination service")


def is_child() -> bool:
  """Whether a parent watches this process."""
  return _VARIABLE in os.environ


def end_with_parent() -> None:
  """Lets this child end when its parent does, in whatever way."""
  reading = int(os.environ[_VARIABLE])

  def watch():
    os.read(reading, 1)
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
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda received, _: child.send_signal(received))
  said = b""
  assert child.stderr
  while chunk := os.read(child.stderr.fileno(), 4096):
    with contextlib.suppress(OSError):
      os.write(2, chunk)
    said = (said + chunk)[-_REMEMBERED:]
  status = child.wait()
  os.close(writing)
  if lost := _lost(status, said):
    print(f"{name}: {lost}: start all processes of the job again, {HOW_TO_GO_ON}", file=sys.stderr)
  return status if status >= 0 else 1


def _lost(status: int, said: bytes) -> str:
  """What has become of the job, as far as its child said so; empty where nothing was lost."""
  if status == -signal.SIGABRT or (status == 1 and b"Traceback" in said):
    if found := _UNHEALTHY.findall(said):
      numbers = sorted({int(n) for n in re.findall(rb"\d+", found[-1])})
      which = ", ".join(map(str, numbers))
      return f"process {which} was lost" if len(numbers) == 1 else f"processes {which} were lost"
    if _NO_COORDINATOR.search(said):
      return "process 0 was lost"
    if _LOST.search(said):
      return "another process was lost"
  if status < 0:
    return f"this process was ended by {signal.Signals(-status).name}"
  return ""
