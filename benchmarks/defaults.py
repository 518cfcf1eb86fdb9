"""Accuracy on training images set aside, with one default of calibrate or tune changed at a time.

    python benchmarks/defaults.py --pretrained=PATH

PATH is a checkpoint of the network of configs/resnet20.py; without it the digits alone are
measured. Their network is trained by configs/digits.py, once for each seed. 300 training images of
the digits and 1,000 of CIFAR-10 are set aside and measured on; the test set is not read. Tuning is
short: 1,280 images at T = 4, 1,024 at T = 8 and 384 at T = 32, whatever the size of a batch.

Every figure is written to OUTPUT.json and .md as soon as it is known, and a figure that is there is
not measured again: a run that was stopped goes on where it was. With --minutes no measurement
begins after that time. Remove OUTPUT.json to measure anew.
"""

import dataclasses
import math
import pathlib
import runpy
import statistics
import sys
import time

import numpy as np
from ledger import ROOT, Ledger, parser, portable

import tcljax
from tcljax.distributed import parallel
from tcljax.runs import config_forms, experiment, stages
from tcljax.runs.workdir import prepare_workdir

_ASIDE = {"resnet20": 1000, "digits": 300}  # images
_SEEDS = {"resnet20": (0,), "digits": (0, 1, 2)}
_IMAGES = {4: 1280, 8: 1024, 32: 384}  # that tuning sees, by T
_CALIBRATION_IMAGES = 1024
_BATCH = 100  # images at a time where nothing is trained; it divides those set aside
_NOISE = 2.0  # standard errors of a difference


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One figure to measure.

  Attributes:
    network: "resnet20" or "digits".
    tuned: whether thresholds are tuned after calibration.
    time_steps: T, of calibration, tuning and evaluation.
    seed: of the images calibrated on, of tuning, and of the digits' network.

  The others, with the defaults of the configs, are what the library is called with.
  """

  network: str
  tuned: bool
  time_steps: int
  seed: int
  method: str = "least_squares"
  per_channel: bool = True
  v_init: float = 0.25
  instalments: int = 8
  learning_rate: float = 0.02
  batch_size: int = 32
  objective: str = "distillation"


# By what is decided: each value that is tried, as a change of the defaults; the default is first.
BLOCKS = {
  "Instalments where T is less": {"8": {}, "4": {"instalments": 4}},
  "Instalments of the initial potential": {
    "8": {},
    "1, of 0.5": {"instalments": 1, "v_init": 0.5},
    "1": {"instalments": 1},
  },
  "Learning rate": {"0.02": {}, "0.03": {"learning_rate": 0.03}, "0.01": {"learning_rate": 0.01}},
  "Thresholds": {"one a channel": {}, "one a layer": {"per_channel": False}},
  "Initial potential": {"0.25": {}, "0.5": {"v_init": 0.5}, "0": {"v_init": 0.0}},
  "Objective": {"distillation": {}, "cross-entropy": {"objective": "cross_entropy"}},
  "Method": {
    "least squares": {},
    "percentile 99.9": {"method": "percentile"},
    "maximum": {"method": "maximum"},
  },
  "Batch size": {"32": {}, "128": {"batch_size": 128}},
}
_OF_CALIBRATION = ("method", "per_channel", "v_init", "instalments")
_OF_TUNING = ("learning_rate", "batch_size", "objective")
_ONLY_AT = {"Instalments where T is less": (4,)}


def plan(networks):
  """All measurements on these networks, what tells most in least time first."""
  found = [
    Measurement(network, tuned, t, seed, **change)
    for t in _IMAGES
    for network in networks
    for seed in _SEEDS[network]
    for name, block in BLOCKS.items()
    if t in _ONLY_AT.get(name, _IMAGES)
    for change in block.values()
    for tuned in (False, True)
    if tuned or not set(_OF_TUNING) & set(change)
  ]
  return list(dict.fromkeys(found))


class Network:
  """A trained network and its images.

  Args:
    name: "resnet20", which is read, or "digits", which is trained or found in the workdir.
    seed: of the training.
    pretrained: path of the ResNet-20's weights.
    workdir: of the training.
  """

  def __init__(self, name, seed, pretrained, workdir):
    config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]()
    config.seed, config.data.validation = seed, _ASIDE[name]
    if name == "resnet20":
      config.data.train_split = "train[:10000]"  # more than tuning sees, and soon read
    config = config_forms.parse(config)
    self._made = made = experiment.make_experiment(config)
    self._calibrated = {}
    if name == "resnet20":
      self._trained = tcljax.load_pretrained(pretrained, made.ann, made.input_shape)
    else:
      path = prepare_workdir(workdir / f"{name}-{seed}", config)
      self._trained = stages.train_ann(made, path, parallel.data_mesh())

  def accuracy(self, measured):
    """Accuracy at T on the images set aside, in percent."""
    made, t = self._made, measured.time_steps
    train, aside = made.dataset.train, made.dataset.validation
    spiking = made.spiking.with_time_steps(t)
    values = (getattr(measured, name) for name in _OF_CALIBRATION)
    variables = self._calibrate(measured.seed, spiking, *values)
    if measured.tuned:
      variables = tcljax.tune(
        made.model,
        variables,
        train.images,
        train.labels,
        spiking,
        steps=_IMAGES[t] // measured.batch_size,
        batch_size=measured.batch_size,
        optimizer=tcljax.OptimizerConfig("adamw", learning_rate=measured.learning_rate),
        objective=measured.objective,
        preprocess=lambda images, key: made.preprocess(images),
        seed=measured.seed,
      )
    settings = {"batch_size": _BATCH, "preprocess": made.preprocess}
    found = tcljax.evaluate(made.model, variables, aside.images, aside.labels, spiking, **settings)
    return float(found.snn[-1])

  def _calibrate(self, seed, spiking, *values):
    """The variables with thresholds; kept, as tuning begins with the same."""
    key, made = (seed, spiking, *values), self._made
    if key not in self._calibrated:
      train = made.dataset.train
      drawn = np.random.default_rng(seed).permutation(len(train))[:_CALIBRATION_IMAGES]
      parts = np.split(train.images[drawn], range(_BATCH, len(drawn), _BATCH))
      settings = dict(zip(_OF_CALIBRATION, values))
      batches = map(made.preprocess, parts)
      self._calibrated[key] = tcljax.calibrate(
        made.model, self._trained, batches, spiking, **settings
      )
    return self._calibrated[key]


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "defaults")
  flags.add_argument("--pretrained", help="checkpoint of the ResNet-20")
  flags.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after these")
  flags.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/defaults"))
  args = flags.parse_args(argv)
  end = time.monotonic() + 60 * args.minutes
  command = "python benchmarks/defaults.py"
  command += f" --pretrained={portable(args.pretrained)}" if args.pretrained else ""
  planned = plan(_SEEDS if args.pretrained else ["digits"])
  ledger, networks = Ledger(args.output, command, markdown, key=_measurement), {}
  ledger.take_known()
  known = _accuracies(ledger.rows)
  for measured in [measured for measured in planned if measured not in known]:
    if time.monotonic() >= end:
      break
    key = measured.network, measured.seed
    try:
      if key not in networks:
        networks[key] = Network(*key, args.pretrained, args.workdir)
      accuracy = round(networks[key].accuracy(measured), 2)
    except ValueError as error:
      print(f"defaults: {error}", file=sys.stderr)
      return 2
    print(f"{accuracy:.2f} % {measured}", flush=True)
    ledger.add([{**dataclasses.asdict(measured), "accuracy": accuracy}])
    ledger.write()
  print(f"{len(ledger.rows)} of {len(planned)} are measured")
  return 0


def _measurement(row):
  return Measurement(**{name: value for name, value in row.items() if name != "accuracy"})


def _accuracies(rows):
  """Accuracies by measurement."""
  return {_measurement(row): row["accuracy"] for row in rows}


def compare(accuracies, block):
  """Figures of a block, where the default and another value were measured with all seeds.

  Args:
    accuracies: in percent, by measurement.
    block: one of `BLOCKS`.

  Returns:
    By network, whether tuned, and T a pair: the mean of each value over the seeds, in percent, or
    None where it is not known, and what a difference between two of them has to exceed.
  """
  found = {}
  for key in sorted({(m.network, m.tuned, m.time_steps) for m in accuracies}):
    seeds = _SEEDS[key[0]]
    columns = [
      [accuracies.get(Measurement(*key, seed, **change)) for seed in seeds]
      for change in block.values()
    ]
    means = [None if None in column else statistics.mean(column) for column in columns]
    known = [mean for mean in means if mean is not None]
    if means[0] is not None and len(known) > 1:
      images = _ASIDE[key[0]] * len(seeds)
      share = min(max(known) / 100, 1 - 1 / images)  # of images that are answered right
      found[key] = means, _NOISE * 100 * math.sqrt(2 * share * (1 - share) / images)
  return found


def verdict(compared, values):
  """Where another of a block's values is better or worse than the default beyond noise."""
  better, worse = [], []
  for (network, tuned, t), (means, noise) in compared.items():
    where = f"{network}, {'tuned' if tuned else 'calibrated'}, T = {t}"
    for value, mean in zip(values, means):
      if mean is not None and abs(mean - means[0]) > noise:
        text = f"{value} by {abs(mean - means[0]):.1f} ({where})"
        (better if mean > means[0] else worse).append(text)
  return (
    f"The default is {values[0]}. Better beyond noise: {'; '.join(better) or 'none'}. Worse beyond "
    f"noise: {'; '.join(worse) or 'none'}."
  )


def markdown(found):
  """A table for each block."""
  accuracies = _accuracies(found["rows"])
  size = Measurement.batch_size
  batches = [f"{images // size} batches of {size} at T = {t}" for t, images in _IMAGES.items()]
  lines = [
    "# The defaults of calibrate and tune, each by a measurement",
    "",
    "Accuracy of the spiking network at T, in percent of training images that are set aside: "
    f"{_ASIDE['resnet20']:,} of CIFAR-10 for a published ResNet-20 (seed 0), whose weights have "
    f"seen them, and {_ASIDE['digits']} of the 8x8 digits for the small CNN (mean over seeds 0 to "
    "2, each with a network of its own). No test image is measured on. Weights untouched, binary "
    "integrate-and-fire neurons, every step counted.",
    "",
    "Each block changes one default and leaves the others. Thresholds are calibrated for their T, "
    f"on {_CALIBRATION_IMAGES:,} training images, and either left so or tuned. Tuning is short: "
    f"{', '.join(batches)}; larger batches are fewer, for the same number of images. An empty "
    f"cell or a missing row was not measured: {len(accuracies)} of {len(plan(_SEEDS))} figures are "
    "here.",
    "",
    f"Noise: {_NOISE:g} standard errors of the difference between two values, as if each were "
    "measured on images of its own. They share their images, so that chance is rather less.",
  ]
  for name, block in BLOCKS.items():
    if compared := compare(accuracies, block):
      default, *others = block
      arguments = " and ".join(sorted({f"`{key}`" for change in block.values() for key in change}))
      decides = f"Decides {arguments}. {verdict(compared, list(block))}"
      lines += ["", f"## {name}", "", decides, ""]
      names = ["network", "thresholds", "T", f"{default} (default)", *others, "noise"]
      lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
      for (network, tuned, t), (means, noise) in compared.items():
        cells = [network, "tuned" if tuned else "calibrated", str(t)]
        cells += ["" if mean is None else f"{mean:.2f}" for mean in means]
        lines.append(f"| {' | '.join(cells)} | {noise:.1f} |")
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
