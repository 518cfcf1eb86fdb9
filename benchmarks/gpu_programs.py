"""What programs for a GPU move in its memory, compiled on a machine without one.

    python benchmarks/gpu_programs.py

XLA compiles for an H100 by its description. Every kernel of a program reads its operands, or what
it picks of them, and writes its results; these bytes are added up, once each, whatever a kernel
reads again or finds in a cache. What is compiled: K steps of a simulation, a step of tuning, and a
step of phase 1 in bfloat16, all of a VGG-16 on 32x32 images, as benchmarks/gpu.py runs them.
Figures are bytes and numbers of kernels, not times. Nothing is tried out for convolutions, so that
theirs may differ.

Wants JAX below 0.11 with its CUDA plugin, `pip install 'tcljax[cuda]'`: later ones write kernels of
neurons only where there is a GPU. Writes OUTPUT.json and .md.
"""

import collections
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ledger import Ledger, command_of, parser

from tcljax import TCL, OptimizerConfig, SpikingConfig, create_model, simulate
from tcljax.data import Preprocessing, Split
from tcljax.distributed import parallel, topologies
from tcljax.kernels import targets
from tcljax.layers.collections import CLIPPING, PARAMS
from tcljax.training.objectives import ann_objective, tuning_objective
from tcljax.training.phase import Phase
from tcljax.training.program_text import ProgramText
from tcljax.training.programs import step_program

_CLASSES, _SHAPE, _IMAGES = 10, (32, 32, 3), 50_000
_BATCH, _TUNE_STEPS = 128, 8  # of training
_SIMULATED, _CHUNK, _STEPS = 256, 16, 32  # images, K and T of a simulation
# Kinds of kernels by words in what they call or are; the first that fits.
_KINDS = {
  "neurons": ("gpu.triton",),
  "convolutions and products": ("cudnn", "cublas", "kCustom"),
  "copies": ("copy",),
  "fusions": ("fusion",),
}


def main(argv=None):
  """Runs the benchmark; returns 2 where nothing compiles for a GPU, else 0."""
  flags = parser(__doc__, "gpu_programs")
  args = flags.parse_args(argv)
  try:
    devices = topologies.devices_of("h100")
  except ValueError as error:
    print(f"gpu_programs: {error}", file=sys.stderr)
    return 2
  ledger = Ledger(args.output, command_of("gpu_programs", flags, args), markdown)
  with targets.planned_for(devices):
    mesh = parallel.data_mesh()
    ledger.add(
      {"program": name, "dtype": dtype, **figures(program(dtype, mesh).as_text())}
      for name, (program, dtypes) in _PROGRAMS.items()
      for dtype in dtypes
    )
  ledger.write()
  return 0


def _simulation(dtype, mesh):
  model = create_model("vgg16", _CLASSES, dtype=dtype, batch_norm=False, act=TCL)
  shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *_SHAPE)))

  def run(variables, x):
    spiking = SpikingConfig(_STEPS, _CHUNK)
    done = simulate(model, variables, x, spiking, observe=lambda chunk: chunk.logits.argmax(-1))
    return done.logits, done.observed

  x = jax.ShapeDtypeStruct((_SIMULATED, *_SHAPE), jnp.float32)
  return jax.jit(run).lower(*parallel.abstract_replicated(mesh, (shapes, x))).compile()


def _tuning(dtype, mesh):
  model = create_model("vgg16", _CLASSES, dtype=dtype, batch_norm=False, act=TCL)
  objective = tuning_objective(
    model, lambda images, key=None: images, SpikingConfig(_TUNE_STEPS, 0), mesh
  )
  optimizers = {CLIPPING: OptimizerConfig("adamw", 0.02)}
  return _step(model, Phase("tuning", 1000, _BATCH, objective, optimizers), np.float32, mesh)


def _phase1(dtype, mesh):
  model = create_model("vgg16", _CLASSES, dtype=dtype)
  objective = ann_objective(model, Preprocessing(), 0.1)
  optimizers = {PARAMS: OptimizerConfig("sgd", 0.1, weight_decay=5e-4)}
  return _step(model, Phase("ann", 1000, _BATCH, objective, optimizers), np.uint8, mesh)


def _step(model, phase, dtype, mesh):
  variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *_SHAPE)))
  images = np.broadcast_to(np.zeros((), dtype), (_IMAGES, *_SHAPE))
  split = Split(images, np.zeros(_IMAGES, np.int32))
  return step_program(phase, variables, split, mesh)[2]


_PROGRAMS = {
  f"{_CHUNK} steps of a simulation": (_simulation, ("float32", "bfloat16")),
  "a step of tuning": (_tuning, ("float32", "bfloat16")),
  "a step of phase 1": (_phase1, ("bfloat16",)),
}


def figures(text):
  """Kernels and megabytes by kind, of the loop that has most kernels in a compiled program."""
  kernels, moved = ProgramText.read(text).busiest_loop(), collections.Counter()
  for kernel in kernels:
    moved[_kind(kernel)] += kernel.moved
  return {
    "kernels": len(kernels),
    "megabytes": round(sum(moved.values()) / 1e6),
    "by_kind": {kind: round(moved[kind] / 1e6) for kind in (*_KINDS, "rest")},
  }


def _kind(kernel):
  named = re.findall(r'(?:custom_call_target="|kind=)([^",]+)', kernel.attributes)
  what = " ".join([kernel.operation, *named])
  return next((kind for kind, words in _KINDS.items() if any(w in what for w in words)), "rest")


def markdown(found):
  """The table."""
  heads = ["", "", "kernels", "MB", *(f"{kind}, MB" for kind in (*_KINDS, "rest"))]
  lines = [
    "# What programs for a GPU move",
    "",
    "VGG-16 on 32x32 images, compiled for an H100 that was not there. Bytes are those of the "
    f"operands and results of all kernels. A simulation has {_SIMULATED} images; training has "
    f"{_BATCH}, and {_TUNE_STEPS} steps where thresholds are tuned.",
    "",
    f"| {' | '.join(heads)} |".replace("|  |  |", "| | |"),
    "|" + "---|" * len(heads),
  ]
  for row in found["rows"]:
    cells = [row["program"], row["dtype"], row["kernels"], row["megabytes"]]
    lines.append(f"| {' | '.join(map(str, (*cells, *row['by_kind'].values())))} |")
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
