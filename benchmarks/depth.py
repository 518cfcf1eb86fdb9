"""Why a deep network converts badly at few steps: errors, gradients and losses by depth.

    python benchmarks/depth.py --pretrained=PATH --workdir=runs/compare-resnet44

PATH is a checkpoint of --model, and the workdir that of benchmarks/methods.py, which holds the
tuned thresholds; where it does not, they are tuned first. --config.FIELD=VALUE overrides a field of
configs/resnet20.py, and a workdir of another config is refused. Training images alone are looked
at.

Activations are taken in four parts, in their order in the network. Of each part and method:

- the error of firing rates, in percent of the activations, and how much of it comes with the
  currents from the layers before (`tcljax.diagnose`);
- how well the gradients of different batches to the logarithms of thresholds agree, for the loss in
  the answers and for the error of the rates: the mean cosine between two batches, 1 where all say
  the same and 0 where they are noise.

And for each T, the loss in the answers and the error of the rates while tuning. Writes OUTPUT.json
and .md.
"""

import argparse
import contextlib
import itertools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from ledger import ROOT, Ledger, command_of, parser, portable

import tcljax
from tcljax.commands.arguments import Command
from tcljax.data import training_batches
from tcljax.distributed import parallel
from tcljax.kernels import xla_options
from tcljax.layers.collections import thresholds_by_path, with_thresholds
from tcljax.runs import calibration, config_forms, experiment, stages, workdir
from tcljax.training import objectives
from tcljax.training.calibration import DELIVERED

_METHODS = ("least_squares", DELIVERED, "tuned")
_PARTS = 4  # of the activations
_DIAGNOSED = 128  # images
_BATCHES, _BATCH = 8, 32
_TOLD = (50, 100, 200, 500, 1000, 2000, 4000)  # steps of tuning
_LOSSES = ("answer_loss", "rate_error")


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "depth")
  flags.add_argument("--pretrained", required=True, help="checkpoint of the network")
  flags.add_argument("--model", default="resnet44", help="its name in tcljax.models")
  flags.add_argument("--time_steps", default="4,8", help="numbers of steps T")
  flags.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/compare-resnet44"))
  args, rest = flags.parse_known_args(argv)
  try:
    config = _config(args, rest)
    workdir.check_workdir(args.workdir, config)
  except ValueError as error:
    flags.error(str(error))
  made = experiment.make_experiment(config)
  weights = tcljax.load_pretrained(args.pretrained, made.ann, made.input_shape)
  anywhere = argparse.Namespace(**{**vars(args), "workdir": flags.get_default("workdir")})
  command = " ".join(map(portable, [command_of("depth", flags, anywhere), *rest]))
  ledger = Ledger(args.output, command, markdown, key=_key, order=_order)
  ledger.shared = {"model": args.model}
  workdir.prepare_workdir(args.workdir, config)
  for t in map(int, args.time_steps.split(",")):
    one, folder = made.with_time_steps(t), args.workdir / f"T{t}"
    for method in _METHODS:
      variables = _calibrated(one, weights, one.tune.calibration if method == "tuned" else method)
      if method == "tuned":
        folder.mkdir(parents=True, exist_ok=True)
        variables = stages.tune_thresholds(one, folder, parallel.data_mesh(), variables)
      read_out = calibration.settled(one, variables) if method == DELIVERED else one
      row = {"T": t, "method": method, "parts": _by_part(read_out, variables)}
      if method == "tuned":
        row["losses"] = _losses(folder)
      ledger.add([row])
      ledger.write()
  return 0


def _config(args, overrides):
  """The config that benchmarks/methods.py has for the same network."""
  given = Command(
    "depth",
    __doc__,
    [
      "depth",
      f"--config={ROOT / 'configs' / 'resnet20.py'}",
      f"--config.pretrained={args.pretrained}",
      f"--config.model.name={args.model}",
      *overrides,
    ],
  )
  given.define_config()
  return config_forms.parse(given.parse("config").config)


def _key(row):
  return row["T"], row["method"]


def _order(row):
  return row["T"], _METHODS.index(row["method"])


def _calibrated(made, weights, method):
  """Thresholds as `made` asks for them, by another method."""
  tune = made.tune
  return calibration.calibrate_by(
    method, made, weights, tune.per_channel, tune.v_init, tune.instalments
  )


def _by_part(made, variables):
  """Of each part of the activations its errors in percent, and how gradients agree."""
  found = tcljax.diagnose(
    made.model,
    variables,
    made.dataset.train.images[:_DIAGNOSED],
    made.spiking,
    preprocess=made.preprocess,
  )
  answers, rates = (_gradients(made, variables, loss) for loss in _LOSSES)
  parts = []
  for names in np.array_split(np.array(list(found)), _PARTS):
    row = {"activations": f"{names[0]} to {names[-1]}"}
    for error in ("total", "inherited"):
      row[error] = round(100 * float(np.mean([getattr(found[name], error) for name in names])), 1)
    for loss, gradients in zip(_LOSSES, (answers, rates), strict=True):
      joined = [np.concatenate([of_batch[name] for name in names]) for of_batch in gradients]
      row[loss] = round(_agreement(joined), 3)
    parts.append(row)
  return parts


def _gradients(made, variables, name):
  """Of some batches the gradient of a loss to log(tau) of each activation, by its path."""
  as_it_is = lambda images, key: made.preprocess(images)
  objective = objectives.tuning_objective(
    made.model, as_it_is, made.spiking, parallel.data_mesh(), made.tune.objective
  )
  held = thresholds_by_path(variables)

  @xla_options.Jitted
  @jax.grad
  def gradient(logarithms, variables, batch):
    raw = {path: tcljax.raw_from_threshold(jnp.exp(a)) for path, a in logarithms.items()}
    moved = {path: one._replace(raw_threshold=raw[path]) for path, one in held.items()}
    moved = with_thresholds(variables, moved)
    return objective(moved, batch, jax.random.key(0))[1][0][name]

  at = {path: jnp.log(one.tau) for path, one in held.items()}
  with contextlib.closing(training_batches(made.dataset.train, _BATCH, made.seed)) as batches:
    found = [gradient(at, variables, batch) for batch in itertools.islice(batches, _BATCHES)]
  return [{"/".join(path): np.ravel(a) for path, a in of_batch.items()} for of_batch in found]


def _agreement(gradients):
  """The mean cosine between two of these vectors; 0 where one of them is zero."""
  pairs = itertools.combinations(gradients, 2)
  lengths = lambda a, b: max(np.linalg.norm(a) * np.linalg.norm(b), np.finfo(float).tiny)
  return float(np.mean([np.dot(a, b) / lengths(a, b) for a, b in pairs]))


def _losses(folder):
  """The losses told while tuning, by step."""
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  records = {record["step"]: record for record in map(json.loads, lines)}
  return [
    {"step": step, **{name: round(records[step][name], 3) for name in _LOSSES}}
    for step in _TOLD
    if step in records
  ]


def markdown(found):
  """The tables."""
  lines = [f"# Why depth costs accuracy: {found['model']}"]
  for t in sorted({row["T"] for row in found["rows"]}):
    rows = [row for row in found["rows"] if row["T"] == t]
    lines += [
      "",
      f"## T = {t}",
      "",
      "| method | activations | error of rates % | inherited % | agreement, answers | rates |",
      "|---|---|---|---|---|---|",
    ]
    lines += [
      f"| {row['method']} | {part['activations']} | {part['total']} | {part['inherited']} "
      f"| {part['answer_loss']} | {part['rate_error']} |"
      for row in rows
      for part in row["parts"]
    ]
    lines += ["", "| step of tuning | loss in the answers | error of rates |", "|---|---|---|"]
    lines += [
      f"| {told['step']} | {told['answer_loss']} | {told['rate_error']} |"
      for row in rows
      for told in row.get("losses", ())
    ]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
