"""Joint training of a pretrained network, weights and thresholds together, for each T.

    python benchmarks/joint.py --pretrained=PATH --time_steps=4,8,16

Runs `train.py --config=configs/resnet20.py:VARIANT` for each T, with the variants and fields below;
where there are two, the second goes on from the first. --config.FIELD=VALUE overrides a field.
Writes OUTPUT.json and .md. The whole takes some four hours on two CPU cores and can be had in
parts, by --time_steps: figures that OUTPUT.json holds from the same command are kept. Remove the
file to measure anew.
"""

import argparse
import json
import pathlib
import sys

from record import machine, portable, write_results

from tcljax.commands import train

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The runs for each T: a variant of the config, and fields beside the number of steps. Small batches
# are faster on CPUs: more of their arrays stay in the caches.
_RUNS = {
  4: [("joint", {})],
  8: [
    (
      "quantized",
      {
        "joint.objective": "cross_entropy",
        "joint.steps": 15_600,
        "joint.batch_size": 32,
        "joint.optimizer.weight_decay": 5e-4,
        "joint.optimizer.warmup_steps": 500,
        "preprocessing.cutout": 8,
        "tune.steps": 0,
      },
    ),
    (
      "joint",
      {
        "tune.steps": 400,
        "joint.steps": 2500,
        "joint.batch_size": 16,
        "joint.optimizer.learning_rate": 3e-4,
        "joint.threshold_optimizer.learning_rate": 1e-3,
        "preprocessing.cutout": 8,
      },
    ),
  ],
  16: [
    (
      "quantized",
      {
        "joint.objective": "cross_entropy",
        "joint.cycles": 2,
        "joint.steps": 15_600,
        "joint.batch_size": 32,
        "joint.optimizer.weight_decay": 5e-4,
        "joint.optimizer.warmup_steps": 500,
        "preprocessing.cutout": 8,
        "tune.steps": 600,
        "snn.chunk": 16,
      },
    )
  ],
}


def main(argv=None):
  """Runs the benchmark; returns the exit status of the first run that fails, or 0."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
  )
  parser.add_argument("--pretrained", required=True, help="checkpoint of the network")
  parser.add_argument("--config", default=str(ROOT / "configs" / "resnet20.py"))
  parser.add_argument("--time_steps", default=",".join(map(str, _RUNS)), help="numbers of steps T")
  parser.add_argument("--workdir", default="runs/joint", help="each T has a directory below it")
  parser.add_argument("--output", default=str(ROOT / "benchmarks" / "results" / "joint"))
  args, rest = parser.parse_known_args(argv)
  steps = [int(t) for t in args.time_steps.split(",") if t.isdecimal()]
  if not steps or not set(steps) <= set(_RUNS):
    parser.error(f"--time_steps={args.time_steps}: choose from {', '.join(map(str, _RUNS))}")
  output = pathlib.Path(args.output)

  command = " ".join(
    map(
      portable,
      [
        "python benchmarks/joint.py",
        f"--pretrained={args.pretrained}",
        *([f"--config={args.config}"] if args.config != parser.get_default("config") else []),
        *rest,
      ],
    )
  )
  rows = _known_rows(output, command)
  for t in steps:
    if t not in {row["T"] for row in rows}:
      pretrained, runs = args.pretrained, {}
      for variant, fields in _RUNS[t]:
        workdir = pathlib.Path(args.workdir) / f"T{t}-{variant}"
        status = train.main(
          [
            "joint",
            *_arguments(args.config, t, variant, fields),
            f"--config.pretrained={pretrained}",
            f"--workdir={workdir}",
            *rest,
          ]
        )
        if status:
          return status
        runs[variant] = json.loads((workdir / "results.json").read_text())
        pretrained = workdir
      rows.append(_row(t, runs))
      rows.sort(key=lambda row: row["T"])
      found = {"command": command, "machine": machine(), "rows": rows}
      write_results(output, found, _markdown(found))
  print(f"written: {output}.json and .md")
  return 0


def _arguments(config, t, variant, fields):
  fields = {"snn.time_steps": t, "eval.time_steps": t, "tune.instalments": min(t, 8), **fields}
  return [
    f"--config={config}:{variant}",
    *(f"--config.{field}={value}" for field, value in fields.items()),
  ]


def _row(t, runs):
  """Accuracy at this T after each stage of the runs, which come in their order by variant."""
  curves = {}
  for variant, results in runs.items():
    for stage, curve in {**results["earlier_stages"], results["stage"]: results["snn"]}.items():
      if stage != "earlier run":  # the last one of the run before
        curves[f"{stage} ({variant})" if len(runs) > 1 else stage] = curve
  return {
    "T": t,
    "images": results["images"],
    "learned_from": round(results["ann"], 2),
    "stages": {stage: round(curve[str(t)], 2) for stage, curve in curves.items()},
    "accuracy": round(results["snn"][str(t)], 2),
    "spikes_per_neuron": round(results["spikes_per_neuron"][str(t)], 3),
  }


def _known_rows(output, command):
  path = output.with_suffix(".json")
  try:
    known = json.loads(path.read_text()) if path.exists() else {}
    return list(known["rows"]) if known.get("command") == command else []
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    sys.exit(f"joint: {path} cannot be read: {error}; remove it to measure anew")


def _markdown(found):
  rows = found["rows"]
  lines = [
    "# Joint training from a pretrained network",
    "",
    f"In percent of {rows[0]['images']} test images. Binary integrate-and-fire neurons, "
    "every step counted; for each T a network of its own. What it learned from is the ANN "
    "that the run began with, or where weights were trained by labels before the spiking "
    "network, the clipped network that came of it.",
    "",
    "| T | learned from | after each stage, in their order | accuracy | spikes per neuron |",
    "|---|---|---|---|---|",
  ]
  for row in rows:
    stages = ", ".join(f"{stage} {accuracy:.2f}" for stage, accuracy in row["stages"].items())
    lines.append(
      f"| {row['T']} | {row['learned_from']:.2f} | {stages} | {row['accuracy']:.2f} | "
      f"{row['spikes_per_neuron']:.3f} |"
    )
  lines += ["", "```bash", found["command"], "```", "", found["machine"], ""]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
