"""Processor seconds until a deep network is calibrated, or tuned for a step, nothing compiled.

    python benchmarks/compile_time.py

ResNet-20 and ResNet-44 at random weights, 128 images of 32x32, in processes of their own without a
cache of compiled programs: calibration, and one step of tuning with a batch of 32 for T = 8. In
the column "each written" XLA writes every fused loop by itself, and in "as it is" equal ones are
written once where a program repeats itself (`tcljax.kernels.xla_options.Jitted`). Seconds are those
of all cores together and hold the run itself, of which "compiling" is XLA's part in wall-clock
time. Writes OUTPUT.json and .md.
"""

import argparse
import json
import math
import os
import sys
import time

import jax
import numpy as np
from ledger import Ledger, command_of, parser
from measuring import rounded, run_process

import tcljax
from tcljax.kernels import xla_options

_MODELS = ("resnet20", "resnet44")
_WHAT = ("calibrate", "tune")
_WAYS = {"each": "each written", "shared": "as it is"}
_IMAGES, _BATCH = 128, 32
_SETTINGS = tcljax.SpikingConfig(time_steps=8)
_EVENT = "/jax/core/compile/backend_compile_duration"


def main(argv=None):
  """Runs the benchmark; with --one a part of it, whose figures are printed as JSON."""
  flags = parser(__doc__, "compile_time")
  flags.add_argument("--one", default="", help=argparse.SUPPRESS)
  args = flags.parse_args(argv)
  if args.one:
    print(json.dumps(measure(*args.one.split(","))))
    return 0
  os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
  ledger = Ledger(args.output, command_of("compile_time", flags, args), markdown)
  rows = []
  for model in _MODELS:
    for what in _WHAT:
      row = {"model": model, "what": what}
      for way in _WAYS:
        found, peak, _ = run_process([sys.executable, __file__, f"--one={model},{what},{way}"])
        row[way] = {**found, "peak_mib": round(peak)}
      rows.append(row)
      print(row, flush=True)
  ledger.add(rows)
  ledger.write()
  return 0


def measure(name, what, way):
  """Processor seconds of the work, and of it those in which XLA compiles."""
  if way == "each":
    xla_options._REPEATS = math.inf
  model = tcljax.create_model(name, 10)
  rng = np.random.default_rng(0)
  images = rng.normal(size=(_IMAGES, 32, 32, 3)).astype(np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), images[:1])
  if what == "tune":
    variables = model.clone(act=tcljax.TCL).init(jax.random.key(0), images[:1])
  compiling = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiling.append(seconds) if event == _EVENT else None
  )
  start = time.process_time()
  if what == "calibrate":
    tcljax.calibrate(model, variables, [images], _SETTINGS)
  else:
    tcljax.tune(model, variables, images, None, _SETTINGS, steps=1, batch_size=_BATCH)
  taken = time.process_time() - start
  return {"seconds": rounded(taken), "compiling": rounded(sum(compiling))}


def markdown(found):
  """The table."""
  lines = [
    "# Compiling",
    "",
    f"Processor seconds until a network is calibrated on {_IMAGES} images, or tuned for one step "
    f"(batch {_BATCH}, T = {_SETTINGS.time_steps}), nothing compiled before; XLA's part of them in "
    "wall-clock seconds; and the peak memory of the process, MiB.",
    "",
    f"| | {' | '.join(f'{way} | compiling | peak' for way in _WAYS.values())} |",
    "|---|---|---|---|---|---|---|",
  ]
  for row in found["rows"]:
    cells = [
      f"{row[way]['seconds']} | {row[way]['compiling']} | {row[way]['peak_mib']}" for way in _WAYS
    ]
    lines.append(f"| {row['what']}, {row['model']} | {' | '.join(cells)} |")
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
