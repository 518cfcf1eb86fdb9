"""How time and memory are measured: in this process by turns, or of whole processes."""

import json
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

MATRIX = 2048  # height and width of the matrices whose product gives the rate of a machine

# A small process between: what one that is started by a large one counts as its peak is at least
# the memory of the large one.
_MEASURED = """
import resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.call(sys.argv[1:])
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def in_turns(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
  """Median seconds of each of several functions that take turns, back and forth.

  What came right before decides what is in the caches: in one fixed order, equal programs differ.
  """
  seconds = {name: [] for name in runs}
  for run in runs.values():
    jax.block_until_ready(run())
  for number in range(rounds):
    for name, run in list(runs.items())[:: -1 if number % 2 else 1]:
      start = time.perf_counter()
      jax.block_until_ready(run())
      seconds[name].append(time.perf_counter() - start)
  return {name: statistics.median(values) for name, values in seconds.items()}


def run_process(command: Sequence[str]) -> tuple[Any, float, float]:
  """Runs a command; its last line as JSON or None, its peak memory in MiB and its seconds."""
  done = subprocess.run(
    [sys.executable, "-c", _MEASURED, *command], capture_output=True, text=True, check=False
  )
  if done.returncode:
    sys.exit(f"{shlex.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
  *lines, measured = done.stdout.strip().splitlines()
  seconds, kibibytes = map(float, measured.split())
  return json.loads(lines[-1]) if lines else None, kibibytes / 1024, seconds


def rounded(value: float) -> float:
  """The value to four digits: more are noise."""
  return float(f"{value:.4g}")
