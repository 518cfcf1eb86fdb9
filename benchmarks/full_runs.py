"""Full training of the larger CIFAR-10 configs: networks, and weights trained on through the SNN.

    python benchmarks/full_runs.py [RUN ...] [--minutes=8] [--config.FIELD=VALUE ...]

A run is a command of `train.py` with a config of `configs/` and layers that compute in bfloat16.
Joint and quantized runs go on from the workdir of the network in their name, which is trained first
where there is none. By default all run, in their order. Overrides are for every run.

Wants a GPU. After --minutes the run at hand saves and stops, and the same command goes on with it.
Writes OUTPUT.json and .md after each run. Figures that OUTPUT.json holds from the same command are
kept, and those of another command make way: give these an --output of their own.
"""

import json
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from ledger import ROOT, Ledger, parser, portable

from tcljax.checks import check_finite

_TIME_STEPS = (1, 2, 4, 8, 16, 32, 64)
_INSTALMENTS = 8  # of initial potentials, in the networks that other runs go on from


class _Run(NamedTuple):
  """A config with its variants, the run that it goes on from, and a T in place of the config's."""

  config: str
  after: str = ""
  time_steps: int = 0


_RUNS = {
  "vgg16": _Run("vgg16"),
  "vgg16-joint-4": _Run("vgg16:joint", "vgg16", 4),
  "vgg16-joint-8": _Run("vgg16:joint", "vgg16", 8),
  "resnet18": _Run("resnet18"),
  "resnet18-joint-4": _Run("resnet18:joint", "resnet18", 4),
  "resnet18-joint-8": _Run("resnet18:joint", "resnet18", 8),
  "vgg16-quantized-8": _Run("vgg16:quantized", "vgg16", 8),
  "resnet20": _Run("resnet20"),
  "resnet20-joint-4": _Run("resnet20:joint", "resnet20", 4),
  "resnet20-scratch": _Run("resnet20:scratch"),
}


def main(argv=None):
  """Runs the benchmark; returns the exit status of the first run that fails or stops, or 0."""
  flags = parser(__doc__, "full_runs")
  flags.add_argument("parts", nargs="*", metavar="RUN", help=", ".join(_RUNS))
  flags.add_argument("--workdir", default="runs/full", help="each run has a directory below it")
  flags.add_argument("--minutes", type=float, default=0.0, help="until it stops; 0: no limit")
  args, rest = flags.parse_known_args(argv)
  if strange := [flag for flag in rest if not flag.startswith("--config.")]:
    flags.error(f"{' '.join(strange)}: runs come first, and only --config.FIELD=VALUE may follow")
  if unknown := [name for name in args.parts if name not in _RUNS]:
    flags.error(f"{' '.join(unknown)}: choose from {', '.join(_RUNS)}")
  try:
    check_finite("--minutes", args.minutes)
  except ValueError as error:
    flags.error(str(error))
  ends = time.monotonic() + (60 * args.minutes or float("inf"))
  ledger = Ledger(
    args.output,
    " ".join(["python benchmarks/full_runs.py", *map(portable, rest)]),
    markdown,
    key=_key,
    order=lambda row: list(_RUNS).index(row["run"]),
  )
  ledger.take_known()
  known = {row["run"] for row in ledger.rows}
  workdirs = {name: pathlib.Path(args.workdir) / name for name in _RUNS}
  for name in _in_order(args.parts or _RUNS, known, workdirs):
    workdir = workdirs[name]
    fresh, began = not workdir.exists(), time.monotonic()
    if status := _run([*_arguments(name, workdir), *rest], ends):
      return status
    seconds = round(time.monotonic() - began) if fresh else None
    ledger.add([_row(name, json.loads((workdir / "results.json").read_text()), seconds)])
    ledger.write()
  return 0


def _run(arguments, ends):
  """The exit status of train.py, which is told to stop at a moment of `time.monotonic`."""
  left = ends - time.monotonic()
  if left <= 0:
    print("full_runs: the minutes are over; the same command goes on", file=sys.stderr)
    return 128 + signal.SIGTERM
  process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *arguments])
  try:
    return process.wait(None if left == float("inf") else left)
  except subprocess.TimeoutExpired:
    process.terminate()
  except KeyboardInterrupt:
    pass  # the terminal sent it to train.py too, which ends at once at a second signal
  return process.wait()


def _in_order(names, known, workdirs):
  """The runs that are still to be done, each after that from which it goes on."""
  ordered = {}
  for name in names:
    if name not in known:
      before = _RUNS[name].after
      if before and (before not in known or not workdirs[before].exists()):
        ordered[before] = None
      ordered[name] = None
  return list(ordered)


def _arguments(name, workdir):
  """The command line of a run."""
  run = _RUNS[name]
  config, _, variants = run.config.partition(":")
  path = ROOT / "configs" / f"{config}.py"
  return [
    f"--config={path}:{variants}" if variants else f"--config={path}",
    "--config.model.dtype=bfloat16",
    *(
      (
        f"--config.pretrained={workdir.with_name(run.after)}",
        f"--config.tune.instalments={_INSTALMENTS}",
      )
      if run.after
      else ()
    ),
    *([f"--config.snn.time_steps={run.time_steps}"] if run.time_steps else ()),
    f"--workdir={workdir}",
  ]


def _key(row):
  """The run of a row; fails on a row that lacks a field."""
  name, *_ = (row[field] for field in ("run", "images", "ann", "clipped", "stages", "seconds"))
  return name


def _row(name, results, seconds):
  """What a run gave after each of its stages, at some T."""
  curves = {**results["earlier_stages"], results["stage"]: results["snn"]}
  return {
    "run": name,
    "images": results["images"],
    "ann": round(results["ann"], 2),
    "clipped": round(results["clipped"], 2),
    "stages": {
      stage: {t: round(curve[str(t)], 2) for t in _TIME_STEPS if str(t) in curve}
      for stage, curve in curves.items()
      if stage != "earlier run"  # the last one of the run before
    },
    "seconds": seconds,
  }


def markdown(found):
  """The table."""
  rows = found["rows"]
  heads = ["run", "ANN", "stage", *(f"T={t}" for t in _TIME_STEPS), "clipped", "seconds"]
  lines = [
    "# Full training on CIFAR-10",
    "",
    f"In percent of {rows[0]['images']} test images. Binary integrate-and-fire neurons, every step "
    "counted. Unless the command below says otherwise, layers compute in bfloat16 and the seed is "
    '0. "ANN" is the network that tuning learns from, "clipped" the one with the weights and '
    "thresholds of the last stage, without spikes. Seconds are those of a whole run, where it was "
    "not stopped.",
    "",
    f"| {' | '.join(heads)} |",
    "|" + "---|" * len(heads),
  ]
  for row in rows:
    for stage, curve in row["stages"].items():
      last = stage == list(row["stages"])[-1]
      at = {int(t): f"{percent:.2f}" for t, percent in curve.items()}
      cells = [
        *((row["run"], f"{row['ann']:.2f}") if stage == next(iter(row["stages"])) else ("", "")),
        stage,
        *(at.get(t, "") for t in _TIME_STEPS),
        f"{row['clipped']:.2f}" if last else "",
        str(row["seconds"] or "") if last else "",
      ]
      lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
