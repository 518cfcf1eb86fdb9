"""Joint training of a pretrained network, weights and thresholds together, for each T.

    python benchmarks/joint_training.py --pretrained=PATH --time_steps=4,8,16

Runs `train.py --config=configs/resnet20.py:VARIANT` for each T, with the variants and fields below;
where there are two, the second goes on from the first. --config.FIELD=VALUE overrides a field.
Writes OUTPUT.json and .md. The whole takes some five hours on two CPU cores and can be had in
parts, by --time_steps: figures that OUTPUT.json holds from the same command are kept. Remove the
file to measure anew.
"""

import json
import pathlib
import sys

from ledger import ROOT, Ledger, parser, portable

from tcljax.commands import train

# The runs for each T: a variant of the config, and fields beside the number of steps. Small batches
# are faster on CPUs: more of their arrays stay in the caches.
_RUNS = {
  4: [
    (
      "joint",
      {
        "tune.steps": 1000,
        "tune.batch_size": 16,
        "joint.steps": 9000,
        "joint.batch_size": 16,
        "joint.optimizer.name": "lamb",
        "joint.optimizer.learning_rate": 1e-3,
        "joint.optimizer.warmup_steps": 100,
        "joint.threshold_optimizer.learning_rate": 1e-3,
        "preprocessing.cutout": 8,
      },
    )
  ],
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
        "joint.optimizer.name": "adamw",
        "joint.optimizer.learning_rate": 3e-4,
        "joint.optimizer.warmup_steps": 0,
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
  flags = parser(__doc__, "joint_training")
  flags.add_argument("--pretrained", required=True, help="checkpoint of the network")
  flags.add_argument("--config", default=str(ROOT / "configs" / "resnet20.py"))
  flags.add_argument("--time_steps", default=",".join(map(str, _RUNS)), help="numbers of steps T")
  flags.add_argument("--workdir", default="runs/joint", help="each T has a directory below it")
  args, rest = flags.parse_known_args(argv)
  steps = [int(t) for t in args.time_steps.split(",") if t.isdecimal()]
  if not steps or not set(steps) <= set(_RUNS):
    flags.error(f"--time_steps={args.time_steps}: choose from {', '.join(map(str, _RUNS))}")
  command = " ".join(
    map(
      portable,
      [
        "python benchmarks/joint_training.py",
        f"--pretrained={args.pretrained}",
        *([f"--config={args.config}"] if args.config != flags.get_default("config") else []),
        *rest,
      ],
    )
  )
  time_steps = lambda row: row["T"]
  ledger = Ledger(args.output, command, markdown, key=time_steps, order=time_steps)
  ledger.take_known()
  for t in steps:
    if t not in {row["T"] for row in ledger.rows}:
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
      ledger.add([_row(t, runs)])
      ledger.write()
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


def markdown(found):
  """The table."""
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
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
