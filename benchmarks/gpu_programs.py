"""What programs for a GPU move in its memory, compiled on a machine without one.

    python benchmarks/gpu_programs.py

XLA compiles for an H100 by its description. Every kernel of a program reads its operands and writes
its results; these bytes are added up, those that a kernel reads again or keeps in a cache among
them as they are. What is compiled: K steps of a simulation, a step of tuning, and a step of phase 1
in bfloat16, all of a VGG-16 on 32x32 images, as benchmarks/gpu.py runs them. Figures are bytes and
numbers of kernels, not times. Nothing is tried out for convolutions, so that theirs may differ.

Wants JAX below 0.11 with its CUDA plugin, `pip install 'tcljax[cuda]'`: later ones write kernels of
neurons only where there is a GPU. Writes OUTPUT.json and .md.
"""

import collections
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from ledger import Ledger, command_of, parser

from tcljax import TCL, OptimizerConfig, SpikingConfig, create_model, simulate
from tcljax.data import Preprocessing, Split
from tcljax.distributed import parallel
from tcljax.kernels import targets
from tcljax.layers.collections import CLIPPING, PARAMS
from tcljax.training.objectives import ann_objective, tuning_objective
from tcljax.training.phase import Phase
from tcljax.training.programs import bytes_of_arrays, step_program

_CLASSES, _SHAPE = 10, (32, 32, 3)
_IMAGES = 512  # on the device; a step counts as if it read them all
_BATCH, _TUNE_STEPS = 128, 8  # of training
_SIMULATED, _CHUNK, _STEPS = 256, 16, 32  # images, K and T of a simulation
_H100 = """
  platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
  runtime_version { major: 12 minor: 8 } dnn_version_info { major: 9 minor: 10 }
  gpu_device_info {
    cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
    memory_bandwidth: 3352320000000 device_memory_size: 84929347584 l2_cache_size: 52428800
    threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
    shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
    shared_memory_per_core: 233472
    registers_per_block_limit: 65536 registers_per_core_limit: 65536
    block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  }
"""
_COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(.*)$")
# Kinds of kernels by words in what they call or are; the first that fits.
_KINDS = {
  "neurons": ("gpu.triton",),
  "convolutions and products": ("cudnn", "cublas", "kCustom"),
  "copies": ("copy",),
  "fusions": ("fusion",),
}
_NO_KERNEL = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all")


def main(argv=None):
  """Runs the benchmark; returns 2 where nothing compiles for a GPU, else 0."""
  flags = parser(__doc__, "gpu_programs")
  args = flags.parse_args(argv)
  jax.config.update("jax_platforms", "cpu")  # or JAX looks for the GPU that is not there
  try:
    devices = topologies.get_topology_desc(
      "h100", "cuda", target_config=_H100, topology="1x1x1"
    ).devices
  except Exception as error:  # of several kinds, none of which JAX names
    print(
      "gpu_programs: JAX has no plugin here that compiles for GPUs: pip install 'tcljax[cuda]' "
      f"({str(error).splitlines()[0][:80]})",
      file=sys.stderr,
    )
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
  computations, held = {}, None
  for line in text.splitlines():
    if found := _COMPUTATION.match(line):
      held = computations.setdefault(found[1], [])
    elif held is not None and (found := _INSTRUCTION.match(line)):
      held.append(found.groups())
  loops = [computations[name] for name in re.findall(r"body=%([\w.\-]+)", text)]
  loop = max(loops, key=lambda held: sum(map(_is_kernel, held)))
  results = {name: shape for name, shape, *_ in loop}
  kernels, moved = collections.Counter(), collections.Counter()
  for instruction in filter(_is_kernel, loop):
    _, shape, _, operands, _ = instruction
    kind = _kind(instruction)
    read = (results.get(name, "") for name in re.findall(r"%([\w.\-]+)", operands))
    kernels[kind] += 1
    moved[kind] += bytes_of_arrays(shape) + sum(map(bytes_of_arrays, read))
  return {
    "kernels": sum(kernels.values()),
    "megabytes": round(sum(moved.values()) / 1e6),
    "by_kind": {kind: round(moved[kind] / 1e6) for kind in (*_KINDS, "rest")},
  }


def _is_kernel(instruction):
  return instruction[2] not in _NO_KERNEL and not instruction[2].startswith("while")


def _kind(instruction):
  _, _, operation, _, rest = instruction
  what = " ".join([operation, *re.findall(r'(?:custom_call_target="|kind=)([^",]+)', rest)])
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
