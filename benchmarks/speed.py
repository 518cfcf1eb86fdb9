"""Speed and memory of simulation and tuning beside SpikingJelly's, of loading and of starting up.

    python benchmarks/speed.py --spikingjelly_vgg16=COMMAND --spikingjelly_resnet20=COMMAND

Parts, named before the flags: simulation, tuning, growth, memory, loading, start-up; by default
these; and gpu, a simulation of a size for one. Each figure comes from processes of its own
(benchmarks/workload.py), ours and the rival's in turns, and each ratio from two that ran one after
the other; medians over --rounds. Growth and memory, where nothing is compared, take one process
each, and the medians within it.

COMMAND is a rival's script that prints, as its last line, JSON: for a VGG-16 with --batch, --steps,
--channels-last, --train and --device=cuda `snn_images_per_second`, for a ResNet-20 with --recipe,
--images and --steps `image_steps_per_second`. Without it ours are measured alone. Wants an
otherwise idle machine.

Writes OUTPUT.json and .md; rows of parts that were not asked for stay.
"""

import shlex
import statistics
import sys

from ledger import ROOT, Ledger, parser
from measuring import MATRIX, rounded, run_process

# Flags, and how the cases of the networks begin that they bring a rival for.
_RIVALS = {"spikingjelly_vgg16": "VGG-16", "spikingjelly_resnet20": "ResNet-20"}
_IMPORTS = {"import tcljax": "import tcljax", "import jax, flax, optax": "import jax, flax, optax"}
_FIRST_RESULT = """
import jax.numpy as jnp, jax, tcljax
model, x = tcljax.CNN(num_classes=10), jnp.ones((1, 32, 32, 3))
variables = tcljax.calibrate(model, model.init(jax.random.key(0), x), [x])
tcljax.convert(model, variables, x.shape[1:])(x, time_steps=8).block_until_ready()
"""


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "speed")
  flags.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
  flags.add_argument("--rounds", type=int, default=5)
  for flag, network in _RIVALS.items():
    flags.add_argument(f"--{flag}", help=f"command of the rival's script for a {network}")
  args = flags.parse_args(argv)
  parts = args.parts or [part for part in PARTS if part != "gpu"]
  if unknown := set(parts) - set(PARTS):
    flags.error(f"{' '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
  if args.rounds < 1:
    flags.error(f"--rounds={args.rounds} must be at least 1")
  part_of = lambda row: row["benchmark"]
  order = lambda row: list(PARTS).index(part_of(row))
  ledger = Ledger(args.output, _command([]), markdown, key=part_of, order=order)
  ledger.take_known(decides=lambda row, flag: False)  # a rival beside ours changes no other row
  for part in parts:
    ledger.add({"benchmark": part, **row} for row in PARTS[part](args))
    ledger.command = _command(ledger.rows)
    ledger.write()
  return 0


def _simulation(args):
  vgg16 = _rival_vgg16(args.spikingjelly_vgg16, batch=16, steps=8, rounds=args.rounds)
  yield _beside("VGG-16, batch 16, T = 8", _ours("simulation", "vgg16", 16, 8), vgg16, args.rounds)
  resnet20 = {}
  if args.spikingjelly_resnet20:
    resnet20["as it is"] = (
      [*shlex.split(args.spikingjelly_resnet20), "--recipe=Max", "--images=300", "--steps=64"],
      lambda answer: answer["image_steps_per_second"] / 64,
    )
  yield _beside(
    "ResNet-20, batch 100, T = 64", _ours("simulation", "resnet20", 100, 64), resnet20, args.rounds
  )


def _gpu(args):
  rival = _rival_vgg16(args.spikingjelly_vgg16, batch=256, steps=32, rounds=args.rounds, gpu=True)
  ours = _ours("simulation", "vgg16", 256, 32)
  for dtype in ("float32", "bfloat16"):
    yield _beside(
      f"VGG-16, batch 256, T = 32, {dtype}", [*ours, f"--dtype={dtype}"], rival, args.rounds
    )


def _tuning(args):
  rival = _rival_vgg16(args.spikingjelly_vgg16, batch=16, steps=8, rounds=args.rounds, train=True)
  yield _beside("VGG-16, batch 16, T = 8", _ours("tuning", "vgg16", 16, 8), rival, args.rounds)


# Flags of benchmarks/workload.py beside --model=vgg16 --batch_size=16 --time_steps=8.
_GROWTH = {
  "simulation": (
    (),
    ("--time_steps=32",),
    ("--batch_size=1",),
    ("--batch_size=64",),
    ("--chunk=8",),
    ("--dtype=bfloat16",),
    ("--model=resnet20",),
  ),
  "tuning": (
    (),
    ("--time_steps=32",),
    ("--batch_size=64",),
    ("--chunk=1",),
    ("--chunk=4",),
    ("--dtype=bfloat16",),
    ("--model=resnet20",),
  ),
}


def _growth(args):
  for what, cases in _GROWTH.items():
    for flags in cases:
      yield _beside(" ".join([what, *flags]), [*_ours(what, "vgg16", 16, 8), *flags], {}, 1)


def _memory(args):
  for what, lengths in (("simulation", (16, 256)), ("tuning", (8, 64))):
    for steps in lengths:
      yield _beside(
        f"{what}, VGG-16, batch 16, T = {steps}",
        [*_ours(what, "vgg16", 16, steps), "--rounds=1"],
        {},
        1,
      )


def _loading(args):
  command = _workload("loading", "--batch_size=128")
  rates = [run_process(command)[0]["images_per_second"] for _ in range(args.rounds)]
  yield {
    "case": "images of 32x32 from memory, augmented, batch 128",
    "images_per_second": rounded(statistics.median(rates)),
  }


def _start_up(args):
  """Seconds of whole processes, which take turns."""
  sources = {**_IMPORTS, "import to first result": _FIRST_RESULT}
  seconds = {name: [] for name in sources}
  for number in range(args.rounds + 1):  # the first fills the caches of the disk
    for name, source in sources.items():
      taken = run_process([sys.executable, "-c", source])[2]
      if number:
        seconds[name].append(taken)
  for name, taken in seconds.items():
    ratios = [a / b for a, b in zip(taken, seconds["import jax, flax, optax"], strict=True)]
    yield {
      "case": name,
      "seconds": rounded(statistics.median(taken)),
      "over_import_of_jax_flax_optax": rounded(statistics.median(ratios)),
    }


PARTS = {
  "simulation": _simulation,
  "tuning": _tuning,
  "growth": _growth,
  "memory": _memory,
  "loading": _loading,
  "start-up": _start_up,
  "gpu": _gpu,
}


def _workload(what, *flags):
  return [sys.executable, str(ROOT / "benchmarks" / "workload.py"), f"--what={what}", *flags]


def _ours(what, model, batch, steps):
  return _workload(what, f"--model={model}", f"--batch_size={batch}", f"--time_steps={steps}")


def _rival_vgg16(command, batch, steps, rounds, train=False, gpu=False):
  """Commands of its two layouts, each with the way to read its answer."""
  if not command:
    return {}
  common = [
    *shlex.split(command),
    f"--batch={batch}",
    f"--steps={steps}",
    f"--repeats={rounds}",
    *["--train"] * train,
    *["--device=cuda"] * gpu,
  ]
  rate = lambda answer: answer["snn_images_per_second"]
  return {"default": (common, rate), "channels last": ([*common, "--channels-last"], rate)}


def _beside(case, ours, rivals, rounds):
  """A row: ours, and each mode of the rival right after it in every round."""
  answers, peaks = [], []
  rates = {mode: [] for mode in rivals}
  rivals_peaks = {mode: [] for mode in rivals}
  for number in range(rounds):
    answer, peak, _ = run_process(ours)
    answers.append(answer)
    peaks.append(peak)
    for mode, (command, rate) in rivals.items():
      answer, peak, _ = run_process(command)
      rates[mode].append(rate(answer))
      rivals_peaks[mode].append(peak)
    print(
      f"{case}, round {number + 1}: {answers[-1]['images_per_second']:.1f} images/s"
      + "".join(f", SpikingJelly ({mode}) {values[-1]:.1f}" for mode, values in rates.items()),
      flush=True,
    )
  row = {"case": case, "device": answers[0]["device"], "peak_mib": round(statistics.median(peaks))}
  for key in answers[0]:
    if key != "device":
      row[key] = rounded(statistics.median(answer[key] for answer in answers))
  if rivals:
    ours_rates = [answer["images_per_second"] for answer in answers]
    row["spikingjelly"] = {
      mode: {
        "images_per_second": rounded(statistics.median(values)),
        "peak_mib": round(statistics.median(rivals_peaks[mode])),
        "ratio": rounded(statistics.median(a / b for a, b in zip(ours_rates, values, strict=True))),
      }
      for mode, values in rates.items()
    }
    row["over_spikingjelly"] = min(mode["ratio"] for mode in row["spikingjelly"].values())
  return row


def _command(rows):
  """The command of the whole table; where the rival's scripts lie is no part of it."""
  rivals = [
    f"--{flag}=COMMAND"
    for flag, network in _RIVALS.items()
    if any("spikingjelly" in row and row["case"].startswith(network) for row in rows)
  ]
  return " ".join(["python benchmarks/speed.py", *rivals])


# Heading of a column, and the field of a row that it shows.
_WORK = {
  "images/s": "images_per_second",
  "time over T x ANN": "over_ann",
  "ANN's share of the product rate": "ann_share_of_product",
  "compiling, s": "compile_seconds",
  "peak MiB": "peak_mib",
  "times SpikingJelly's fastest": "over_spikingjelly",
}
_COLUMNS = {
  "simulation": _WORK,
  "tuning": _WORK,
  "growth": {name: _WORK[name] for name in list(_WORK)[:-1]},
  "memory": {"peak MiB of the process": "peak_mib", "of it temporary": "temporary_mib"},
  "loading": {"images/s": "images_per_second"},
  "start-up": {"s": "seconds", "over the import of them": "over_import_of_jax_flax_optax"},
  "gpu": _WORK,
}


def markdown(found):
  """The tables, one for each part."""
  lines = [
    "# Speed and memory",
    "",
    "Medians; a ratio is that of two processes that ran one after "
    f"the other. The product is of two {MATRIX}x{MATRIX} float32 matrices. "
    "Growth is that of VGG-16, batch 16, T = 8, unless its flags say otherwise.",
  ]
  for part, columns in _COLUMNS.items():
    rows = [row for row in found["rows"] if row["benchmark"] == part]
    if rows:
      title = "GPU" if part == "gpu" else part.capitalize()
      lines += [
        "",
        f"## {title}",
        "",
        f"| | {' | '.join(columns)} |",
        "|---|" + "---|" * len(columns),
      ]
      for row in rows:
        lines.append(
          "| "
          + " | ".join([row["case"], *(str(row.get(field, "")) for field in columns.values())])
          + " |"
        )
        for mode, figures in row.get("spikingjelly", {}).items():
          cells = [str(figures.get(field, "")) for field in columns.values()]
          lines.append(f"| SpikingJelly, {mode} | {' | '.join(cells)} |")
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
