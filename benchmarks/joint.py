"""Joint training of a pretrained network, weights and thresholds together, for each T.

    python benchmarks/joint.py --pretrained=PATH --steps=4,8,16

Runs `train.py --config=configs/resnet20.py:joint` for each T, with the fields below;
--config.FIELD=VALUE overrides one. Writes OUTPUT.json and .md. The whole takes some three hours on
two CPU cores and can be had in parts, by --steps: figures that OUTPUT.json holds from the same
command are kept. Remove the file to measure anew.
"""

import argparse
import json
import pathlib
import sys

from record import machine, portable, write_results

from tcljax.commands import train

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What each T is given beside its number of steps. Small batches are faster on CPUs: more of their
# arrays stay in the caches.
_RUNS = {
    4: {},
    8: {"tune.steps": 400, "joint.steps": 3000, "joint.batch_size": 16,
        "joint.optimizer.learning_rate": 3e-4, "joint.threshold_optimizer.learning_rate": 1e-3},
    16: {"tune.steps": 1000, "joint.steps": 1000},
}


def main(argv=None):
  """Runs the benchmark; returns the exit status of the first run that fails, or 0."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False)
  parser.add_argument("--pretrained", required=True, help="checkpoint of the network")
  parser.add_argument("--config", default=str(ROOT / "configs" / "resnet20.py"))
  parser.add_argument("--steps", default=",".join(map(str, _RUNS)), help="numbers of steps T")
  parser.add_argument("--workdir", default="runs/joint", help="each T has a directory below it")
  parser.add_argument("--output", default=str(ROOT / "benchmarks" / "results" / "joint"))
  args, rest = parser.parse_known_args(argv)
  steps = [int(t) for t in args.steps.split(",") if t.isdecimal()]
  if not steps or not set(steps) <= set(_RUNS):
    parser.error(f"--steps={args.steps}: choose from {', '.join(map(str, _RUNS))}")
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
      write_results(output, found, _markdown(found))
  print(f"written: {output}.json and .md")
  return 0


def _run(config, t):
  fields = {"snn.steps": t, "eval.steps": t, "tune.instalments": min(t, 8), **_RUNS[t]}
  return [f"--config={config}:joint",
          *(f"--config.{field}={value}" for field, value in fields.items())]


def _row(t, results):
  """Accuracy at this T after each stage, in their order."""
  curves = {**results["earlier_stages"], results["stage"]: results["snn"]}
  return {"T": t, "images": results["images"],
          "ann": round(results["ann"], 2),
          "stages": {stage: round(curve[str(t)], 2) for stage, curve in curves.items()},
          "accuracy": round(results["snn"][str(t)], 2),
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
           "T a network of its own.", "",
           "| T | after each stage, in their order | accuracy | spikes per neuron |",
           "|---|---|---|---|"]
  for row in rows:
    stages = ", ".join(f"{stage} {accuracy:.2f}" for stage, accuracy in row["stages"].items())
    lines.append(f"| {row['T']} | {stages} | {row['accuracy']:.2f} | "
                 f"{row['spikes_per_neuron']:.3f} |")
  lines += ["", "```bash", found["command"], "```", "", found["machine"], ""]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
