"""One network with maximum pooling, converted in each of the three ways: accuracy against T.

    python benchmarks/pooling.py

Trains the paper's small CNN with maximum pooling on the first 20,000 training images of CIFAR-10
(TFDS, from $TFDS_DATA_DIR). Then, for each way to pool, its thresholds are calibrated and tuned for
T = 8 with the weights frozen, by the answers of the network that was trained; it is converted and
measured on the first 2,000 test images. "average" puts means in place of the maxima.

Writes OUTPUT.json and .md. Started again it goes on from the checkpoints in the workdir; remove
that to measure anew.
"""

import argparse
import dataclasses
import pathlib
import sys

from record import machine, write_results

from tcljax.conversion.network import convert
from tcljax.distributed import parallel
from tcljax.evaluation.accuracy import accuracy, evaluate
from tcljax.models.pooling import POOLINGS
from tcljax.reporting.progress import say
from tcljax.runs import experiment, stages
from tcljax.runs.presets import cifar_config

ROOT = pathlib.Path(__file__).resolve().parent.parent
_TRAINED = "gate"  # as an ANN the same as "before"
_COMMAND = "python benchmarks/pooling.py"
_STEPS = (4, 8, 16, 32, 64)


def get_config():
  """What is trained, tuned and measured."""
  config = cifar_config("pooling")
  config.data.train_split = "train[:20000]"
  config.data.test_split = "test[:2000]"
  config.model.name = "cnn"
  config.model.pooling = _TRAINED
  config.train.steps = 8 * 20_000 // 128
  config.train.optimizer.warmup_steps = 100
  config.tune.steps = 200
  config.tune.batch_size = 32
  config.eval.time_steps = max(_STEPS)
  config.checkpoint_every = 100
  return config


def measure(config, workdir, steps):
  """Runs what is not done yet.

  Args:
    config: with a network that pools by maxima.
    workdir: where its checkpoints are.
    steps: the numbers of steps T to report.

  Returns:
    `images`, `ann` (accuracy in percent) and `rows` of `pooling`, `thresholds`, `T`, `accuracy` and
    `ann_pooled_so`, what the trained weights reach as an ANN that pools in this way.
  """
  made = experiment.make_experiment(config)
  workdir, mesh = experiment.prepare_workdir(workdir, config), parallel.data_mesh()
  variables = stages.train_ann(made, workdir, mesh)
  settings = {"batch_size": config.eval.batch_size, "preprocess": made.preprocess}
  ann = accuracy(made.ann, variables, made.dataset.test, **settings)
  say(f"ANN: {ann:.2f} %")
  rows = []
  for pooling in POOLINGS:
    one = dataclasses.replace(made, model=made.model.clone(pooling=pooling))
    directory = workdir / pooling
    directory.mkdir(exist_ok=True)
    pooled_so = accuracy(one.model, variables, made.dataset.test, **settings)
    calibrated = stages.calibrate_thresholds(one, directory, mesh, variables)
    tuned = stages.tune_thresholds(one, directory, mesh, calibrated)
    for thresholds, found in (("calibrated", calibrated), ("tuned", tuned)):
      network = convert(one.model, found, one.input_shape, one.spiking)
      curve = evaluate(
        network.model,
        network.variables,
        made.dataset.test.images,
        made.dataset.test.labels,
        one.evaluation,
        reference=(made.ann, variables),
        **settings,
      ).snn
      say(f"{pooling}, {thresholds}: " + ", ".join(f"T={t} {curve[t - 1]:.2f}" for t in steps))
      rows += [
        {
          "pooling": pooling,
          "thresholds": thresholds,
          "T": t,
          "accuracy": round(float(curve[t - 1]), 2),
          "ann_pooled_so": round(pooled_so, 2),
        }
        for t in steps
      ]
  return {"images": len(made.dataset.test.labels), "ann": round(ann, 2), "rows": rows}


def main(argv=None):
  """Runs the benchmark."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
  )
  parser.add_argument("--workdir", default="runs/pooling")
  parser.add_argument("--output", default=str(ROOT / "benchmarks" / "results" / "pooling"))
  args = parser.parse_args(argv)
  try:
    found = measure(get_config(), args.workdir, _STEPS)
  except ValueError as error:
    print(f"pooling: {error}", file=sys.stderr)
    return 2
  write({"command": _COMMAND, "machine": machine(), **found}, pathlib.Path(args.output))
  return 0


def write(found, output):
  """Writes OUTPUT.json and OUTPUT.md."""
  steps = sorted({row["T"] for row in found["rows"]})
  lines = [
    "# Accuracy against T: ways to pool a network trained with maxima",
    "",
    "The paper's small CNN, trained with maximum pooling on 20,000 images of CIFAR-10; in "
    f"percent of {found['images']} test images, its ANN has {found['ann']:.2f}. Weights "
    "untouched, binary integrate-and-fire neurons, every step counted, thresholds tuned for "
    "T = 8 alone.",
    "",
    "| pooling | ANN pooled so | thresholds | " + " | ".join(f"T={t}" for t in steps) + " |",
    "|---|---|---|" + "---|" * len(steps),
  ]
  curves = {}
  for row in found["rows"]:
    key = row["pooling"], f"{row['ann_pooled_so']:.2f}", row["thresholds"]
    curves.setdefault(key, {})[row["T"]] = row["accuracy"]
  lines += [
    f"| {' | '.join(key)} | {' | '.join(f'{curve[t]:.2f}' for t in steps)} |"
    for key, curve in curves.items()
  ]
  lines += [
    "",
    "`average`: means in place of the maxima. `before`: the maximum of the input currents in "
    "each step. `gate`: as many spikes as the neuron that fired most.",
    "",
    "```bash",
    found["command"],
    "```",
    "",
    found["machine"],
    "",
  ]
  write_results(output, found, "\n".join(lines))
  print(f"written: {output}.json and .md")


if __name__ == "__main__":
  sys.exit(main())
