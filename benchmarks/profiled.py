"""Where the time on a GPU goes: the kernels of a run, read from the trace of `jax.profiler`."""

import gzip
import json
import pathlib
import tempfile

import jax
from measuring import rounded

_TRACED = 3  # runs under the profiler
_LONGEST = 3  # kernels that are named
_NAME = 96  # characters of a kernel's name
# Kinds of kernels by words in their names; the first that fits.
_WORDS = {
  "neurons": ("integrate_and_fire",),
  "convolutions and products": (
    *("xmma", "gemm", "cutlass", "cudnn", "nvjet"),
    *("convol", "conv2d", "winograd"),  # a fused conversion is none
  ),
  "copies and layouts": ("memcpy", "copy", "transpose", "nchw", "nhwc"),
  "fusions": ("fusion",),
}
KINDS = (*_WORDS, "rest")


def profiled(run):
  """Milliseconds and calls of each kernel in one run."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(_TRACED):
        jax.block_until_ready(run())
    return {
      name: (microseconds / 1000 / _TRACED, calls / _TRACED)
      for name, (microseconds, calls) in kernels(pathlib.Path(folder)).items()
    }


def kernels(folder):
  """Microseconds and calls of each kernel in the traces below a folder."""
  found = {}
  for path in folder.rglob("*.trace.json.gz"):
    with gzip.open(path, "rt") as file:
      events = json.load(file)["traceEvents"]
    named = {
      (event["name"], event["pid"], event.get("tid")): event["args"]["name"]
      for event in events
      if event.get("name") in ("process_name", "thread_name")
    }
    processes = {pid: name for (kind, pid, _), name in named.items() if kind == "process_name"}
    for event in events:
      thread = named.get(("thread_name", event.get("pid"), event.get("tid")), "")
      if event.get("ph") == "X" and "GPU" in processes.get(event["pid"], "") and "Stream" in thread:
        taken, calls = found.get(event["name"], (0, 0))
        found[event["name"]] = taken + event["dur"], calls + 1
  return found


def by_kind(found):
  """Milliseconds of all kernels, the share of each kind in percent, and the longest kernels."""
  whole = sum(milliseconds for milliseconds, _ in found.values())
  shares = dict.fromkeys(KINDS, 0.0)
  for name, (milliseconds, _) in found.items():
    shares[kind(name)] += milliseconds
  longest = sorted(found.items(), key=lambda item: -item[1][0])[:_LONGEST]
  return {
    "kernel_ms": rounded(whole),
    "shares": {name: round(100 * taken / whole, 1) for name, taken in shares.items()},
    "longest": [
      {"kernel": name[:_NAME], "ms": rounded(milliseconds), "calls": round(calls)}
      for name, (milliseconds, calls) in longest
    ],
  }


def kind(name):
  """What a kernel does, by its name."""
  name = name.lower()
  return next((kind for kind, words in _WORDS.items() if any(w in name for w in words)), KINDS[-1])
