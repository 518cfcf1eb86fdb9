"""Accuracy against T of a pretrained network, every method of ours and SpikingJelly's side by side.

    python benchmarks/methods.py --pretrained=PATH --model=resnet32 --time_steps=8

The network is one that `tcljax.load_pretrained` reads. Data, preprocessing and tuning are those of
--config, by default configs/resnet20.py; --config.FIELD=VALUE overrides a field of it.

--burst=N, --signed and --phase=N take neurons that say more, and have tables of their own. Phases
want a readout without a delay within a period: --config.snn.delay=0.

--spikingjelly=COMMAND runs a rival's script on the same weights and images and puts its figures
beside ours: COMMAND takes --recipe, --passes, --steps and --images and prints, as its last line,
JSON with `images` and `accuracy_at_T`.

Writes OUTPUT.json, .md and .png, and OUTPUT-thresholds.png: mean thresholds against T, of methods
that have others for each T (`tcljax.runs.standings`). The whole takes hours on a CPU and can be
had in parts, by --time_steps and --methods: figures that OUTPUT.json holds from the same command
are kept and added to, those of the rival also from another one on the same network and images.
Remove the file to measure anew.
"""

import json
import pathlib
import shlex
import subprocess
import sys

from ledger import ROOT, Ledger, parser, portable

from tcljax.commands import compare as command
from tcljax.maths.spikes import Neuron
from tcljax.reporting import tables
from tcljax.runs import standings

PEER_METHODS = {
  "max norm": ["--recipe=Max"],
  "robust norm 99.9 %": ["--recipe=99.9%"],
  "local threshold balancing, 50 passes": ["--recipe=ltb", "--passes=50"],
  "local threshold balancing, 200 passes": ["--recipe=ltb", "--passes=200"],
}
_CURVES = [
  *(("tcljax", method) for method in standings.METHODS),
  *(("SpikingJelly", method) for method in PEER_METHODS),
]
_NOT_DRAWN = (standings.QUANTIZED_EACH, standings.QUANTIZED_ALL, "max norm")
_STEPS = "4,8,16,32,64"


def main(argv=None):
  """Runs the benchmark; returns the exit status of the comparison."""
  flags = parser(__doc__, "methods")
  flags.add_argument("--pretrained", required=True, help="checkpoint of the network")
  flags.add_argument("--model", default="resnet20", help="its name in tcljax.models")
  flags.add_argument("--time_steps", default=_STEPS, help="numbers of steps T")
  flags.add_argument("--images", type=int, default=0, help="test images, the first ones; 0: all")
  flags.add_argument("--config", default=str(ROOT / "configs" / "resnet20.py"))
  flags.add_argument("--burst", type=int, default=1, help="the most spikes of a neuron in a step")
  flags.add_argument("--signed", action="store_true", help="whether neurons take back spikes")
  flags.add_argument("--phase", type=int, default=1, help="steps in which spikes' heights halve")
  flags.add_argument("--methods", default="", help="some of ours; by default all")
  flags.add_argument("--workdir", help="by default runs/compare-MODEL")
  flags.add_argument("--spikingjelly", help="command of the rival's script")
  args, rest = flags.parse_known_args(argv)
  neuron = Neuron(burst=args.burst, signed=args.signed, phase=args.phase)
  neurons = neuron.alphabet.replace(" ", "-")
  special = [args.model] * (args.model != flags.get_default("model"))
  special += [neurons] * (neurons != Neuron().alphabet)
  workdir = pathlib.Path(args.workdir or "-".join(["runs/compare", *(special or [args.model])]))
  if args.output == flags.get_default("output"):
    args.output = args.output.with_name("-".join(["methods", *special]))
  deciding = [
    f"--{name}={getattr(args, name)}"
    for name in ("pretrained", "model", "config", "images", "burst", "phase")
    if getattr(args, name) != flags.get_default(name)
  ]
  deciding += ["--signed"] * args.signed
  measured = " ".join(["python benchmarks/methods.py", *map(portable, [*deciding, *rest])])
  ledger = Ledger(args.output, measured, markdown, key=_key, order=_order)
  ledger.take_known(_decides)
  asked = [method for method in args.methods.split(",") if method] or standings.METHODS
  steps = {int(t) for t in args.time_steps.split(",") if t.isdecimal()}
  lacking = [
    method for method in asked if not steps or _lacks(ledger.rows, "tcljax", method, steps)
  ]
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
        f"--config.snn.burst={args.burst}",
        f"--config.snn.signed={args.signed}",
        f"--config.snn.phase={args.phase}",
        *rest,
      ]
    )
    if status:
      return status
    results = json.loads((workdir / "compare.json").read_text())
    ledger.shared = {"ann": round(results["ann"], 2), "neurons": results["neurons"]}
    ledger.add(
      _row(
        "tcljax",
        row["method"],
        args.model,
        row["T"],
        results["images"],
        row[standings.ACCURACY],
        **{name: row[name] for name in (standings.THRESHOLD, standings.DELAY) if name in row},
      )
      for row in results["rows"]
      if row["T"] in steps
    )
    _write(ledger, measured)
  images = ledger.rows[0]["images"]
  for method, how in PEER_METHODS.items() if args.spikingjelly else ():
    if _lacks(ledger.rows, "SpikingJelly", method, steps):
      print(f"SpikingJelly, {method} ...", flush=True)
      curve = _ask(args.spikingjelly, [*how, f"--steps={max(steps)}"], images)
      ledger.add(
        _row("SpikingJelly", method, args.model, t, images, curve[t]) for t in steps & set(curve)
      )
      _write(ledger, measured)
  return 0


def _row(system, method, model, t, images, accuracy, **more):
  row = {
    "system": system,
    "method": method,
    "model": model,
    "T": t,
    "images": images,
    standings.ACCURACY: round(accuracy, 2),
  }
  return row | {name: round(number, 2) for name, number in more.items()}


def _key(row):
  return row["system"], row["method"], row["T"]


def _order(row):
  return _CURVES.index((row["system"], row["method"])), row["T"]


def _decides(row, flag):
  """Whether a flag changes a figure; which part is measured and beside what does not."""
  name = flag.partition("=")[0]
  if name in ("--time_steps", "--spikingjelly"):
    return False
  return row["system"] == "tcljax" or name in ("--pretrained", "--model", "--images")


def _lacks(rows, system, method, steps):
  """Whether a figure is lacking at a step: an accuracy, or of some of ours a mean threshold."""
  ours = system == "tcljax" and method in standings.FOR_EACH_T
  figure = standings.THRESHOLD if ours else standings.ACCURACY
  return not steps <= {*curves(rows, figure).get((system, method), ())}


def curves(rows, figure=standings.ACCURACY):
  """From systems and methods to a figure by T, of those that have it."""
  found = {}
  for row in rows:
    if figure in row:
      found.setdefault((row["system"], row["method"]), {})[row["T"]] = row[figure]
  return found


def _write(ledger, command):
  steps = ",".join(map(str, sorted({row["T"] for row in ledger.rows})))
  parts = [f"--time_steps={steps}"] if steps != _STEPS else []
  parts += ["--spikingjelly=COMMAND"] * any(row["system"] != "tcljax" for row in ledger.rows)
  ledger.command = " ".join([command, *parts])
  ledger.write()
  model = ledger.rows[0]["model"]
  tables.plot_curves(
    ledger.output.with_suffix(".png"),
    {
      f"{system}: {method}": curve
      for (system, method), curve in reversed(curves(ledger.rows).items())
      if method not in _NOT_DRAWN
    },
    model,
    ann=ledger.shared["ann"],
  )
  if shares := curves(ledger.rows, standings.THRESHOLD):
    tables.plot_curves(
      ledger.output.with_name(f"{ledger.output.name}-thresholds.png"),
      {method: curve for (_, method), curve in shares.items()},
      model,
      tables.MEAN_THRESHOLD,
    )


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


def markdown(found):
  """The table, and that of mean thresholds below it."""
  rows = found["rows"]
  delays = curves(rows, standings.DELAY)
  late = tables.left_out({method: curve for (_, method), curve in delays.items()})
  lines = [
    f"# Accuracy against T: {rows[0]['model']}",
    "",
    f"In percent of {rows[0]['images']} test images; the ANN has {found['ann']:.2f}. Weights "
    f"untouched, {found.get('neurons', 'binary')} integrate-and-fire neurons, every step counted.",
    "",
    *_table(curves(rows)),
    "",
    *([late, ""] if late else []),
    "The quantized ANN is no spiking network: it is what the same thresholds would "
    "give if no spike came too early or too late.",
  ]
  if shares := curves(rows, standings.THRESHOLD):
    lines += [
      "",
      "## Mean threshold",
      "",
      "In percent of the largest activation of a channel on the images of calibration: the "
      "geometric mean over all channels.",
      "",
      *_table(shares),
    ]
  return "\n".join(lines)


def _table(found):
  """Lines of Markdown: a row for each curve, a column for each T."""
  steps = sorted({t for curve in found.values() for t in curve})
  lines = [
    "| system | method | " + " | ".join(f"T={t}" for t in steps) + " |",
    "|---|---|" + "---|" * len(steps),
  ]
  for (system, method), curve in found.items():
    cells = [f"{curve[t]:.2f}" if t in curve else "" for t in steps]
    lines.append(f"| {system} | {method} | {' | '.join(cells)} |")
  return lines


if __name__ == "__main__":
  sys.exit(main())
