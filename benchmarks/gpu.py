"""Simulation, tuning and phase 1 on a GPU: their rates, and which kernels take the time.

    python benchmarks/gpu.py

Parts, named before the flags: simulation, tuning, phase1; by default all, and the whole table is
made anew. The network is VGG-16 on 32x32 images with random weights: figures are times, not
accuracies. A simulation is without BatchNorm and hands back the answer after every step; K steps
are one call of the layers. It takes turns with its floor, forward passes of the ANN at eight times
the batch. Tuning is a whole step of phase 2. Kernels are those of `jax.profiler`. Phase 1 is whole
steps of training in bfloat16 with BatchNorm, one step a call with batches from the host, and many a
call with all images on the device.

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
from workload import compiled_simulation, compiled_tuning_step, network

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
from tcljax.training.step import train_step, train_steps

_CLASSES, _SHAPE = 10, (32, 32, 3)
_DTYPES, _CHUNKS = ("float32", "bfloat16"), (8, 16)
_FOLDED = 8  # batches in one call of the ANN
_IMAGES = 50_000
_KEY = ("benchmark", "dtype", "chunk", "augmentation", "backend", "channels_last")
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
  flags.add_argument("--tune_time_steps", type=int, default=8, help="T of tuning")
  flags.add_argument("--train_batch_size", type=int, default=128, help="of tuning and phase 1")
  flags.add_argument("--train_steps", type=int, default=1024, help="of phase 1 that are measured")
  flags.add_argument("--rounds", type=int, default=5, help="of simulations and tuning")
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
  for name in ("batch_size", "time_steps", "tune_time_steps", "train_batch_size"):
    ledger.shared[name] = getattr(args, name)
  for part in args.parts or PARTS:
    for row in PARTS[part](args):
      ledger.add([{"benchmark": part, **row}])
      ledger.write()
  return 0


def _key(row):
  return tuple(row.get(name) for name in _KEY)


def _order(row):
  return _ORDER.index(row["benchmark"])  # rows of a part stay in the order they came


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


def _tuning(args):
  for dtype in _DTYPES:
    model, variables, x = network("vgg16", dtype, args.train_batch_size)
    run, temporary = compiled_tuning_step(
      model, variables, x, SpikingConfig(args.tune_time_steps, 0)
    )
    seconds = in_turns({"run": run}, args.rounds)["run"]
    yield {
      "dtype": dtype,
      "images_per_second": rounded(args.train_batch_size / seconds),
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
  mesh = parallel.data_mesh()
  state = parallel.replicate(mesh, phase.new_state(variables))
  if many:
    order = training_order(split, phase.batch_size, phase.seed)
    feed = OnDevice(train_steps(phase.step(), mesh), split, order, mesh)
  else:
    batches = training_batches(split, phase.batch_size, phase.seed)
    feed = OneByOne(train_step(phase.step()), batches, mesh)
  moments = []
  with contextlib.closing(feed):
    for steps in (_WARM_UP, phase.steps):
      state = jax.block_until_ready(fit(state, feed, steps, seed=phase.seed, hooks=Hooks()))
      moments.append(time.perf_counter())
  return (phase.steps - _WARM_UP) / (moments[1] - moments[0])


PARTS = {"simulation": _simulations, "tuning": _tuning, "phase1": _phase1}


def markdown(found):
  """The tables."""
  lines = ["# On a GPU", "", found["note"]] if "note" in found else ["# On a GPU"]
  by_part = {part: [row for row in found["rows"] if row["benchmark"] == part] for part in _ORDER}
  for part, section in _SECTIONS.items():
    if by_part[part]:
      lines += ["", *section(found, by_part[part])]
  return "\n".join(lines)


def _simulation_section(found, rows):
  return [
    "## Simulation",
    "",
    f"VGG-16 without BatchNorm, {found['batch_size']} images, T = {found['time_steps']}; the ANN "
    f"gets {_FOLDED} times as many images in one call. Shares are those of the kernels' time.",
    "",
    *_table(
      rows,
      {
        "": "dtype",
        "K": "chunk",
        "images/s": "images_per_second",
        "ANN, images/s": "ann_images_per_second",
        "time over T x ANN": "over_ann",
        **_OF_KERNELS,
      },
    ),
    "",
    "The kernels that take longest in a run:",
    "",
    *_table(
      [
        {**row, **one, "kernel": f"`{one['kernel']}`"}
        for row in rows
        for one in row.get("longest", ())
      ],
      {"": "dtype", "K": "chunk", "kernel": "kernel", "ms": "ms", "calls": "calls"},
    ),
  ]


def _tuning_section(found, rows):
  return [
    "## Tuning",
    "",
    f"A whole step, {found['train_batch_size']} images, T = {found['tune_time_steps']}.",
    "",
    *_table(rows, {"": "dtype", "images/s": "images_per_second", **_OF_KERNELS}),
  ]


def _phase1_section(found, rows):
  return [
    "## Phase 1",
    "",
    f"VGG-16 with BatchNorm in bfloat16, {found['train_batch_size']} images a step.",
    "",
    *_table(
      rows,
      {
        "augmentation": "augmentation",
        "steps/s, one a call": "one_a_call",
        "steps/s, many a call": "many_a_call",
      },
    ),
  ]


def _rival_section(found, rows):
  return [
    "## SpikingJelly 2.0",
    "",
    "The same network and batches, by hand; its training step computes the weights' gradients too.",
    "",
    *_table(
      rows,
      {
        "backend": "backend",
        "channels last": "channels_last",
        "": "dtype",
        "simulation, images/s": "simulation",
        "training step, images/s": "training",
      },
    ),
  ]


_SECTIONS = {
  "simulation": _simulation_section,
  "tuning": _tuning_section,
  "phase1": _phase1_section,
  "spikingjelly": _rival_section,  # rows that were added by hand
}
_ORDER = tuple(_SECTIONS)
_OF_KERNELS = {
  "temporary MiB": "temporary_mib",
  "kernels, ms": "kernel_ms",
  **{f"{name}, %": name for name in KINDS},
}


def _table(rows, columns):
  """A table of rows: its columns' headings, each with the field that it shows."""
  lines = [f"| {' | '.join(columns)} |".replace("|  |", "| |"), "|" + "---|" * len(columns)]
  for row in rows:
    row = {**row, **row.get("shares", {})}
    lines.append(f"| {' | '.join(_cell(row.get(field, '')) for field in columns.values())} |")
  return lines


def _cell(value):
  return f"{value:,.0f}" if isinstance(value, float) and value >= 100 else str(value)


if __name__ == "__main__":
  sys.exit(main())
