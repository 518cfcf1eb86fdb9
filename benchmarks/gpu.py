"""Simulation and phase 1 on a GPU: their rates, and which kernels take the time.

    python benchmarks/gpu.py

Parts, named before the flags: simulation, phase1; by default both, and the whole table is made
anew. The network is VGG-16 on 32x32 images with random weights: figures are times, not accuracies.
A simulation is without BatchNorm and hands back the answer after every step; K steps are one call
of the layers. It takes turns with its floor, forward passes of the ANN at eight times the batch.
Kernels are those of `jax.profiler`. Phase 1 is whole steps of training in bfloat16 with BatchNorm,
one step a call with batches from the host, and many a call with all images on the device.

Wants a GPU that does nothing else. Writes OUTPUT.json and .md.
"""

import contextlib
import functools
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from ledger import Ledger, command_of, parser
from measuring import in_turns, rounded
from profiled import KINDS, by_kind, profiled
from workload import compiled_simulation, network

from tcljax import OptimizerConfig, ReLU, SpikingConfig, create_model
from tcljax.data import Preprocessing, Split, training_batches
from tcljax.data.batches import training_order
from tcljax.distributed import parallel
from tcljax.layers.activations import with_activation
from tcljax.layers.collections import PARAMS
from tcljax.training.feeds import OnDevice, OneByOne
from tcljax.training.loop import Hooks, fit
from tcljax.training.objectives import ann_objective
from tcljax.training.phase import Phase
from tcljax.training.step import new_state, train_step, train_steps

_CLASSES, _SHAPE = 10, (32, 32, 3)
_DTYPES, _CHUNKS = ("float32", "bfloat16"), (8, 32)
_FOLDED = 8  # batches in one call of the ANN
_IMAGES = 50_000
_WARM_UP = 128  # steps of phase 1 that are not measured
_AUGMENTATIONS = {
  "none": Preprocessing(),
  "shift, flip": Preprocessing(shift=4, flip=True),
  "shift, flip, Cutout, RandAugment": Preprocessing(shift=4, flip=True, cutout=8, randaugment=2),
}


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "gpu")
  flags.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
  flags.add_argument("--batch_size", type=int, default=256, help="of the simulation")
  flags.add_argument("--time_steps", type=int, default=32, help="T of the simulation")
  flags.add_argument("--train_batch_size", type=int, default=128, help="of phase 1")
  flags.add_argument("--train_steps", type=int, default=1024, help="that are measured")
  flags.add_argument("--rounds", type=int, default=5, help="of a simulation and its floor")
  args = flags.parse_args(argv)
  if unknown := set(args.parts) - set(PARTS):
    flags.error(f"{' '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
  if jax.default_backend() != "gpu":
    print(f"gpu: this wants a GPU, and JAX finds {jax.devices()[0].device_kind}", file=sys.stderr)
    return 2
  command = command_of("gpu", flags, args)
  ledger = Ledger(args.output, command, markdown, key=_key, order=_order)
  if args.parts:
    ledger.take_known()
  for name in ("batch_size", "time_steps", "train_batch_size"):
    ledger.shared[name] = getattr(args, name)
  for part in args.parts or PARTS:
    for row in PARTS[part](args):
      ledger.add([{"benchmark": part, **row}])
      ledger.write()
  return 0


def _key(row):
  return row["benchmark"], row.get("dtype"), row.get("chunk"), row.get("augmentation")


def _order(row):
  return list(PARTS).index(row["benchmark"])  # rows of a part stay in the order they came


def _simulations(args):
  for dtype in _DTYPES:
    for chunk in _CHUNKS:
      yield simulation(dtype, chunk, args.batch_size, args.time_steps, args.rounds)


def simulation(dtype, chunk, batch_size, time_steps, rounds):
  """The row of a simulation, K of whose steps are one call of the layers."""
  spiking = SpikingConfig(time_steps, chunk)
  model, variables, x = network("vgg16", dtype, batch_size)
  run, temporary = compiled_simulation(model, variables, x, spiking)
  ann = jax.jit(with_activation(model, ReLU).apply)
  many = jnp.concatenate([x] * _FOLDED)
  seconds = in_turns({"run": run, "ann": functools.partial(ann, variables, many)}, rounds)
  floor = seconds["ann"] / _FOLDED
  return {
    "dtype": dtype,
    "chunk": chunk,
    "images_per_second": rounded(batch_size / seconds["run"]),
    "ann_images_per_second": rounded(batch_size / floor),
    "over_ann": rounded(seconds["run"] / time_steps / floor),
    "temporary_mib": round(temporary / 2**20),
    **by_kind(profiled(run)),
  }


def _phase1(args):
  rng = np.random.default_rng(0)
  split = Split(
    rng.integers(0, 256, (_IMAGES, *_SHAPE), np.uint8), rng.integers(0, _CLASSES, _IMAGES)
  )
  model = create_model("vgg16", _CLASSES, dtype="bfloat16")
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *_SHAPE)))
  for name, preprocessing in _AUGMENTATIONS.items():
    phase = Phase(
      name="ann",
      steps=_WARM_UP + args.train_steps,
      batch_size=args.train_batch_size,
      objective=ann_objective(model, preprocessing, 0.1),
      optimizers={PARAMS: OptimizerConfig("sgd", 0.1, weight_decay=5e-4)},
    )
    yield {
      "augmentation": name,
      "one_a_call": rounded(steps_per_second(phase, variables, split, many=False)),
      "many_a_call": rounded(steps_per_second(phase, variables, split, many=True)),
    }


def steps_per_second(phase, variables, split, many):
  """Rate of a phase's steps after the warm-up, one a call or many."""
  mesh, moved, trained = parallel.data_mesh(), phase.transformation(), tuple(phase.optimizers)
  if many:
    steps = train_steps(phase.objective, moved, trained, mesh)
    order = training_order(split, phase.batch_size, phase.seed)
    feed = OnDevice(steps, split, order, mesh)
  else:
    batches = training_batches(split, phase.batch_size, phase.seed)
    feed = OneByOne(train_step(phase.objective, moved, trained), batches, mesh)
  state = parallel.replicate(mesh, new_state(variables, moved))
  moments = []
  with contextlib.closing(feed):
    for steps in (_WARM_UP, phase.steps):
      state = jax.block_until_ready(fit(state, feed, steps, seed=phase.seed, hooks=Hooks()))
      moments.append(time.perf_counter())
  return (phase.steps - _WARM_UP) / (moments[1] - moments[0])


PARTS = {"simulation": _simulations, "phase1": _phase1}


def markdown(found):
  """The tables."""
  lines = ["# On a GPU", "", found["note"]] if "note" in found else ["# On a GPU"]
  simulations, phases = (
    [row for row in found["rows"] if row["benchmark"] == part] for part in PARTS
  )
  if simulations:
    lines += [
      "",
      "## Simulation",
      "",
      f"VGG-16 without BatchNorm, {found['batch_size']} images, T = {found['time_steps']}; the ANN "
      f"gets {_FOLDED} times as many images in one call. Shares are those of the kernels' time.",
      "",
      "| | K | images/s | ANN, images/s | time over T x ANN | temporary MiB | kernels, ms | "
      + " | ".join(f"{name}, %" for name in KINDS)
      + " |",
      "|---|" + "---|" * (6 + len(KINDS)),
    ]
    fields = ("dtype", "chunk", "images_per_second", "ann_images_per_second", "over_ann")
    for row in simulations:
      cells = [*(row[field] for field in fields), row["temporary_mib"], row["kernel_ms"]]
      cells += [row["shares"][name] for name in KINDS]
      lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += ["", "The kernels that take longest in a run:", ""]
    lines += ["| | K | kernel | ms | calls |", "|---|---|---|---|---|"]
    lines += [
      f"| {row['dtype']} | {row['chunk']} | `{one['kernel']}` | {one['ms']} | {one['calls']} |"
      for row in simulations
      for one in row["longest"]
    ]
  if phases:
    lines += [
      "",
      "## Phase 1",
      "",
      f"VGG-16 with BatchNorm in bfloat16, {found['train_batch_size']} images a step.",
      "",
      "| augmentation | steps/s, one a call | steps/s, many a call |",
      "|---|---|---|",
    ]
    lines += [
      f"| {row['augmentation']} | {_cell(row['one_a_call'])} | {_cell(row['many_a_call'])} |"
      for row in phases
    ]
  return "\n".join(lines)


def _cell(value):
  return f"{value:,.0f}" if isinstance(value, float) and value >= 100 else str(value)


if __name__ == "__main__":
  sys.exit(main())
