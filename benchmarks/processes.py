"""Commands in processes of their own, with their time and peak memory."""

import json
import shlex
import subprocess
import sys

# A small process between: what one that is started by a large one counts as its peak is at least
# the memory of the large one.
_MEASURED = """
import resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.call(sys.argv[1:])
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def run(command):
  """Runs a command; its last line as JSON or None, its peak memory in MiB and its seconds."""
  done = subprocess.run(
    [sys.executable, "-c", _MEASURED, *command], capture_output=True, text=True, check=False
  )
  if done.returncode:
    sys.exit(f"speed: {shlex.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
  *lines, measured = done.stdout.strip().splitlines()
  seconds, kibibytes = map(float, measured.split())
  return json.loads(lines[-1]) if lines else None, kibibytes / 1024, seconds
