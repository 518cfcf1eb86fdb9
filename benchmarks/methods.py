"""Accuracy against T of a pretrained network, every method of ours and SpikingJelly's side by side.

    python benchmarks/methods.py --pretrained=PATH --model=resnet32 --time_steps=8

The network is one that `tcljax.load_pretrained` reads. Data, preprocessing and tuning are those of
--config, by default configs/resnet20.py; --config.FIELD=VALUE overrides a field of it.

--spikingjelly=COMMAND runs a rival's script on the same weights and images and puts its figures
beside ours: COMMAND takes --recipe, --passes, --steps and --images and prints, as its last line,
JSON with `images` and `accuracy_at_T`.

Writes OUTPUT.json, .md and .png. The whole takes hours on a CPU and can be had in parts, by
--time_steps and --methods: figures that OUTPUT.json holds from the same command are kept and added
to, those of the rival also from another one on the same network and images. Remove the file to
measure anew.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys

from record import machine, portable, write_results

from tcljax.commands import compare as command
from tcljax.reporting import tables
from tcljax.runs import compare

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEER_METHODS = {
  "max norm": ["--recipe=Max"],
  "robust norm 99.9 %": ["--recipe=99.9%"],
  "local threshold balancing, 50 passes": ["--recipe=ltb", "--passes=50"],
  "local threshold balancing, 200 passes": ["--recipe=ltb", "--passes=200"],
}
_NOT_DRAWN = (compare.QUANTIZED, compare.QUANTIZED_ALL, "max norm")
_STEPS = "4,8,16,32,64"


def main(argv=None):
  """Runs the benchmark; returns the exit status of the comparison."""
  argv = sys.argv[1:] if argv is None else argv
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
  )
  parser.add_argument("--pretrained", required=True, help="checkpoint of the network")
  parser.add_argument("--model", default="resnet20", help="its name in tcljax.models")
  parser.add_argument("--time_steps", default=_STEPS, help="numbers of steps T")
  parser.add_argument("--images", type=int, default=0, help="test images, the first ones; 0: all")
  parser.add_argument("--config", default=str(ROOT / "configs" / "resnet20.py"))
  parser.add_argument("--methods", default="", help="some of ours; by default all")
  parser.add_argument("--workdir", help="by default runs/compare-MODEL")
  parser.add_argument(
    "--output", help="by default benchmarks/results/methods (resnet20), or methods-MODEL"
  )
  parser.add_argument("--spikingjelly", help="command of the rival's script")
  args, rest = parser.parse_known_args(argv)
  workdir = pathlib.Path(args.workdir or f"runs/compare-{args.model}")
  default = "methods" if args.model == "resnet20" else f"methods-{args.model}"
  output = pathlib.Path(args.output or ROOT / "benchmarks" / "results" / default)

  # Which part is measured, where and beside what does not change a figure; all else may.
  deciding = [
    f"--{name}={getattr(args, name)}"
    for name in ("pretrained", "model", "config", "images")
    if getattr(args, name) != parser.get_default(name)
  ]
  table = Table(output, [*deciding, *rest], args.model)
  asked = [method for method in args.methods.split(",") if method] or compare.METHODS
  steps = {int(t) for t in args.time_steps.split(",") if t.isdecimal()}
  lacking = [method for method in asked if not steps or table.lacks("tcljax", method, steps)]
  if lacking:
    status = command.main(
      [
        "compare",
        f"--config={args.config}",
        f"--config.pretrained={args.pretrained}",
        f"--config.model.name={args.model}",
        f"--workdir={workdir}",
        f"--time_steps={args.time_steps}",
        f"--images={args.images}",
        f"--methods={','.join(lacking)}",
        *rest,
      ]
    )
    if status:
      return status
    results = json.loads((workdir / "compare.json").read_text())
    table.ann, table.images = round(results["ann"], 2), results["images"]
    for method, curve in compare.curves(results).items():
      table.add("tcljax", method, curve, steps)
    table.write()
  for method, flags in PEER_METHODS.items() if args.spikingjelly else ():
    if table.lacks("SpikingJelly", method, steps):
      print(f"SpikingJelly, {method} ...", flush=True)
      curve = _ask(args.spikingjelly, [*flags, f"--steps={max(steps)}"], table.images)
      table.add("SpikingJelly", method, curve, steps)
      table.write()
  print(f"written: {output}.json, .md and .png")
  return 0


class Table:
  """The figures of one command, kept in OUTPUT.json and drawn in OUTPUT.md and OUTPUT.png.

  Attributes:
    ann: accuracy of the ANN, in percent.
    images: how many test images.
  """

  def __init__(self, output, arguments, model):
    self._output, self._model = output, model
    self._arguments = " ".join(map(portable, arguments)).split()
    known = self._read()
    before = [
      argument
      for argument in known.get("command", "").split()[2:]
      if not argument.startswith(("--time_steps=", "--spikingjelly="))
    ]
    self.ann, self.images, self._curves = known.get("ann"), None, {}
    for row in known.get("rows", ()) if _measured(before) == _measured(self._arguments) else ():
      if row["system"] != "tcljax" or before == self._arguments:
        self.images = row["images"]
        self.add(row["system"], row["method"], {row["T"]: row["accuracy"]}, {row["T"]})

  def _read(self):
    path = self._output.with_suffix(".json")
    try:
      return dict(json.loads(path.read_text())) if path.exists() else {}
    except (TypeError, ValueError) as error:
      sys.exit(f"methods: {path} cannot be read: {error}; remove it to measure anew")

  def lacks(self, system, method, steps):
    """Whether a figure is missing."""
    return not steps <= set(self._curves.get((system, method), ()))

  def add(self, system, method, curve, steps):
    """Takes those of a curve's accuracies, by T, that were asked for."""
    self._curves.setdefault((system, method), {}).update(
      {t: round(curve[t], 2) for t in sorted(steps) if t in curve}
    )

  def write(self):
    """Writes all three files."""
    order = [
      *(("tcljax", method) for method in compare.METHODS),
      *(("SpikingJelly", method) for method in PEER_METHODS),
    ]
    curves = {
      key: dict(sorted(self._curves[key].items())) for key in order if self._curves.get(key)
    }
    rows = [
      {
        "system": system,
        "method": method,
        "model": self._model,
        "T": t,
        "images": self.images,
        "accuracy": accuracy,
      }
      for (system, method), curve in curves.items()
      for t, accuracy in curve.items()
    ]
    command = ["python benchmarks/methods.py", *self._arguments]
    steps = ",".join(map(str, sorted({row["T"] for row in rows})))
    command += [f"--time_steps={steps}"] if steps != _STEPS else []
    command += ["--spikingjelly=COMMAND"] * any(system != "tcljax" for system, _ in curves)
    found = {"command": " ".join(command), "machine": machine(), "ann": self.ann, "rows": rows}
    write_results(self._output, found, _markdown(found, self._model, curves, self.images))
    tables.plot_curves(
      self._output.with_suffix(".png"),
      {
        f"{system}: {method}": curve
        for (system, method), curve in reversed(curves.items())
        if method not in _NOT_DRAWN
      },
      self.ann,
      self._model,
    )


def _measured(arguments):
  """Those that say on what network and images figures were taken."""
  return [
    argument
    for argument in arguments
    if argument.partition("=")[0] in ("--pretrained", "--model", "--images")
  ]


def _ask(peer, flags, images):
  """The rival's accuracy by T with one of its methods."""
  done = subprocess.run(
    [*shlex.split(peer), *flags, f"--images={images}"], capture_output=True, text=True, check=False
  )
  if done.returncode:
    sys.exit(f"methods: --spikingjelly={peer} failed: {done.stderr.strip().splitlines()[-1:]}")
  answer = json.loads(done.stdout.strip().splitlines()[-1])
  if answer["images"] != images:
    sys.exit(f"methods: the rival measured {answer['images']} images, asked were {images}")
  return {int(t): accuracy for t, accuracy in answer["accuracy_at_T"].items()}


def _markdown(found, model, curves, images):
  steps = sorted({t for curve in curves.values() for t in curve})
  lines = [
    f"# Accuracy against T: {model}",
    "",
    f"In percent of {images} test images; the ANN has {found['ann']:.2f}. Weights untouched, "
    "binary integrate-and-fire neurons, every step counted.",
    "",
    "| system | method | " + " | ".join(f"T={t}" for t in steps) + " |",
    "|---|---|" + "---|" * len(steps),
  ]
  for (system, method), curve in curves.items():
    cells = [f"{curve[t]:.2f}" if t in curve else "" for t in steps]
    lines.append(f"| {system} | {method} | {' | '.join(cells)} |")
  lines += [
    "",
    "The quantized ANN is no spiking network: it is what the same thresholds would "
    "give if no spike came too early or too late.",
    "",
    "```bash",
    found["command"],
    "```",
    "",
    found["machine"],
    "",
  ]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
