"""Joint training of a pretrained network, for each T: weights and thresholds through the SNN.

    python benchmarks/joint.py --pretrained=PATH --steps=4,8,16

Runs `train.py --config=configs/resnet20.py:joint` for each T; --config.FIELD=VALUE overrides a
field of it. Training takes as long for each T: twice the T, half the batches. Writes OUTPUT.json
and .md. The whole takes hours on a CPU and can be had in parts, by --steps: figures that
OUTPUT.json holds from the same command are kept. Remove the file to measure anew.
"""

import argparse
import json
import pathlib
import sys

from record import machine, portable

from tcljax.commands import train
from tcljax.files import write_text

ROOT = pathlib.Path(__file__).resolve().parent.parent
# By T: batches of 32 that tune the thresholds, batches of 64 that train all.
_BATCHES = {4: (500, 1500), 8: (400, 750), 16: (300, 375)}


def main(argv=None):
  """Runs the benchmark; returns the exit status of the first run that fails, or 0."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False)
  parser.add_argument("--pretrained", required=True, help="checkpoint of the network")
  parser.add_argument("--config", default=str(ROOT / "configs" / "resnet20.py"))
  parser.add_argument("--steps", default=",".join(map(str, _BATCHES)), help="numbers of steps T")
  parser.add_argument("--workdir", default="runs/joint", help="each T has a directory below it")
  parser.add_argument("--output", default=str(ROOT / "benchmarks" / "results" / "joint"))
  args, rest = parser.parse_known_args(argv)
  steps = [int(t) for t in args.steps.split(",") if t.isdecimal()]
  if not steps or not set(steps) <= set(_BATCHES):
    parser.error(f"--steps={args.steps}: choose from {', '.join(map(str, _BATCHES))}")
  output = pathlib.Path(args.output)

  command = " ".join(map(portable, [
      "python benchmarks/joint.py", f"--pretrained={args.pretrained}",
      *([f"--config={args.config}"] if args.config != parser.get_default("config") else []),
      *rest]))
  rows = _known_rows(output, command)
  for t in steps:
    if t not in {row["T"] for row in rows}:
      workdir = pathlib.Path(args.workdir) / f"T{t}"
      status = train.main(["joint", *_run(args.config, t), f"--config.pretrained={args.pretrained}",
                           f"--workdir={workdir}", *rest])
      if status:
        return status
      rows.append(_row(t, json.loads((workdir / "results.json").read_text())))
      rows.sort(key=lambda row: row["T"])
      found = {"command": command, "machine": machine(), "rows": rows}
      output.parent.mkdir(parents=True, exist_ok=True)
      write_text(output.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
      write_text(output.with_suffix(".md"), _markdown(found))
  print(f"written: {output}.json and .md")
  return 0


def _run(config, t):
  tune, joint = _BATCHES[t]
  return [f"--config={config}:joint", f"--config.snn.steps={t}", f"--config.eval.steps={t}",
          f"--config.tune.instalments={min(t, 8)}", f"--config.tune.steps={tune}",
          f"--config.joint.steps={joint}"]


def _row(t, results):
  """Accuracy at this T after each stage."""
  earlier = {stage: round(curve[str(t)], 2) for stage, curve in results["earlier_stages"].items()}
  return {"T": t, "images": results["images"], "ann": round(results["ann"], 2), **earlier,
          results["stage"]: round(results["snn"][str(t)], 2),
          "clipped": round(results["clipped"], 2),
          "spikes_per_neuron": round(results["spikes_per_neuron"][str(t)], 3)}


def _known_rows(output, command):
  path = output.with_suffix(".json")
  try:
    known = json.loads(path.read_text()) if path.exists() else {}
    return list(known["rows"]) if known.get("command") == command else []
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    sys.exit(f"joint: {path} cannot be read: {error}; remove it to measure anew")


def _markdown(found):
  rows = found["rows"]
  lines = ["# Joint training from a pretrained network", "",
           f"In percent of {rows[0]['images']} test images; the ANN that it starts from has "
           f"{rows[0]['ann']:.2f}. Binary integrate-and-fire neurons, every step counted; for each "
           "T a network of its own.", "", "| stage | " + " | ".join(f"T={r['T']}" for r in rows) +
           " |", "|---|" + "---|" * len(rows)]
  for label, field in (("calibrated", "calibrated"), ("tuned", "tuned"),
                       ("trained jointly", "trained jointly"), ("its clipped ANN", "clipped"),
                       ("its spikes per neuron", "spikes_per_neuron")):
    lines.append(f"| {label} | {' | '.join(f'{row[field]:.2f}' for row in rows)} |")
  lines += ["", "```bash", found["command"], "```", "", found["machine"], ""]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
