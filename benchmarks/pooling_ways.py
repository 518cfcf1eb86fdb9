"""One network with maximum pooling, converted in each of the three ways: accuracy against T.

    python benchmarks/pooling_ways.py

Trains the paper's small CNN with maximum pooling on the first 20,000 training images of CIFAR-10
(TFDS, from $TFDS_DATA_DIR). Then, for each way to pool, its thresholds are calibrated and tuned for
T = 8 with the weights frozen, by the answers of the network that was trained; it is converted and
measured on the first 2,000 test images. "average" puts means in place of the maxima.

Writes OUTPUT.json and .md. Started again it goes on from the checkpoints in the workdir; remove
that to measure anew.
"""

import dataclasses
import sys

from ledger import Ledger, parser

from tcljax.conversion.network import convert
from tcljax.distributed import parallel
from tcljax.evaluation.accuracy import accuracy, evaluate
from tcljax.models.pooling import POOLINGS
from tcljax.reporting.progress import say
from tcljax.runs import calibration, config_forms, experiment, stages
from tcljax.runs.presets import cifar_config
from tcljax.runs.workdir import prepare_workdir

_TRAINED = "gate"  # as an ANN the same as "before"
_COMMAND = "python benchmarks/pooling_ways.py"
_STEPS = (4, 8, 16, 32, 64)
_WAYS = {
  "average": "means in place of the maxima",
  "before": "one neuron for each window, driven by the largest of its summed input currents",
  "gate": "as many spikes as the neuron that fired most",
}


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
  return config


@dataclasses.dataclass(frozen=True)
class Repooled(experiment.Experiment):
  """The network that is converted pools in another way than the ANN, from which it learns.

  Attributes:
    pooling: how the network that is converted pools.
  """

  pooling: str = _TRAINED

  @property
  def model(self):
    """The network that is converted."""
    return super().model.clone(pooling=self.pooling)


def measure(config, workdir, steps):
  """Runs what is not done yet.

  Args:
    config: the fields of a config whose network pools by maxima.
    workdir: where its checkpoints are.
    steps: the numbers of steps T to report.

  Returns:
    Rows of `pooling`, `thresholds`, `T`, `accuracy` and `ann_pooled_so`, what the trained weights
    reach as an ANN that pools in this way; and what they share, `images` and `ann` (accuracy in
    percent).
  """
  config = config_forms.parse(config)
  made = experiment.make_experiment(config)
  workdir, mesh = prepare_workdir(workdir, config), parallel.data_mesh()
  variables = stages.train_ann(made, workdir, mesh)
  settings = {"batch_size": config.eval.batch_size, "preprocess": made.preprocess}
  ann = accuracy(made.ann, variables, made.dataset.test, **settings)
  say(f"ANN: {ann:.2f} %")
  rows = []
  for pooling in POOLINGS:
    one = Repooled(**vars(made), pooling=pooling)
    directory = workdir / pooling
    directory.mkdir(exist_ok=True)
    pooled_so = accuracy(one.model, variables, made.dataset.test, **settings)
    calibrated = calibration.calibrate_in_workdir(one, directory, mesh, variables)
    tuned = stages.tune_thresholds(one, directory, mesh, calibrated)
    for thresholds, found in (("calibrated", calibrated), ("tuned", tuned)):
      network = convert(one.model, found, one.input_shape, one.spiking)
      curve = evaluate(
        network.model,
        network.variables,
        made.dataset.test.images,
        made.dataset.test.labels,
        one.reported,
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
  return rows, {"images": len(made.dataset.test.labels), "ann": round(ann, 2)}


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "pooling_ways")
  flags.add_argument("--workdir", default="runs/pooling")
  args = flags.parse_args(argv)
  ledger = Ledger(args.output, _COMMAND, markdown)
  try:
    rows, ledger.shared = measure(get_config(), args.workdir, _STEPS)
  except ValueError as error:
    print(f"pooling_ways: {error}", file=sys.stderr)
    return 2
  ledger.add(rows)
  ledger.write()
  return 0


def markdown(found):
  """The table."""
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
  shown = {pooling for pooling, *_ in curves}
  lines += ["", " ".join(f"`{name}`: {what}." for name, what in _WAYS.items() if name in shown)]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
