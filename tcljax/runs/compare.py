"""Accuracy against T of one network under each method for its thresholds.

Every number is kept in the workdir as soon as it is known, and so are the thresholds that tuning
begins with, and its checkpoints: a comparison that was stopped goes on where it was.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from tcljax.checks import check_choice
from tcljax.data import first_images
from tcljax.distributed import parallel
from tcljax.evaluation.diagnosis import diagnose
from tcljax.files import writing
from tcljax.graph import depth, trace_model
from tcljax.layers.collections import Variables
from tcljax.models.precision import in_float32
from tcljax.reporting import tables, verdicts
from tcljax.reporting.progress import say
from tcljax.runs import calibration, stages
from tcljax.runs.config import ConfigError, RunConfig, named
from tcljax.runs.experiment import Experiment, with_time_steps
from tcljax.runs.shortfall import quantized_accuracy, shortfall
from tcljax.runs.standings import (
  ACCURACY,
  CALIBRATED,
  DELAY,
  FIXED,
  METHODS,
  QUANTIZED_ALL,
  QUANTIZED_EACH,
  THRESHOLD,
  TUNED_ALL,
  TUNED_EACH,
  Ledger,
  curves,
)
from tcljax.training.calibration import DELIVERED

_BOTH = (ACCURACY, THRESHOLD)
_DIAGNOSED = 512  # images


def check(
  config: RunConfig, time_steps: Sequence[str], methods: Sequence[str], validation: bool
) -> tuple[list[int], list[str]]:
  """What a command line asks for, as far as it can be checked without the images.

  Args:
    config: what the methods are compared on.
    time_steps: numbers of steps, as text.
    methods: some of `METHODS`; empty for all.
    validation: whether to measure on the images set aside instead of the test set.

  Returns:
    The steps and the methods.

  Raises:
    ValueError: naming what cannot be done, and the remedy.
  """
  if config.joint.through:
    raise ConfigError(
      f"joint.through={config.joint.through!r} trains the weights, and "
      "methods for the thresholds are compared on the same weights: leave it out, "
      "--config.joint.through="
    )
  try:
    numbers = sorted({int(t) for t in time_steps})
  except ValueError:
    numbers = []
  if not numbers or numbers[0] < 1:
    raise ValueError(f"time_steps={','.join(time_steps)} must be numbers from 1 on, such as 4,8,16")
  for method in methods:
    check_choice("methods", method, METHODS)
  for t in numbers:
    named("snn.", with_time_steps, config, t)
  if validation and not config.data.validation:
    raise ValueError(
      "validation: no images are set aside; set data.validation of the config, for example to 5000"
    )
  return numbers, list(methods) or list(METHODS)


def measured_on(experiment: Experiment, validation: bool, images: int) -> Experiment:
  """The experiment with the images to measure on as its test split.

  Args:
    experiment: from `make_experiment`.
    validation: whether these are the images set aside instead of the test set.
    images: how many of them, the first ones; 0 for all.
  """
  data = experiment.dataset
  split = data.validation if validation else data.test
  chosen = split.take(np.arange(len(split))[: images or None])
  return dataclasses.replace(experiment, dataset=dataclasses.replace(data, test=chosen))


def compare(
  experiment: Experiment,
  workdir: pathlib.Path,
  pretrained: Variables | None,
  time_steps: Sequence[int],
  methods: Sequence[str] = METHODS,
  validation: bool = False,
) -> dict[str, Any]:
  """Measures the methods and reports.

  "tuned" has thresholds of its own for each T. "tuned_all" is the one set that the config
  describes, by `snn.time_steps` and `tune.at`. "quantized" is what the tuned thresholds reach if
  every spike comes in time.

  Args:
    experiment: from `make_experiment`; its test split is what is measured on.
    workdir: from `prepare_workdir`.
    pretrained: from `read_pretrained`; None trains the network first.
    time_steps: the numbers of steps.
    methods: some of `METHODS`.
    validation: whether those images are the ones set aside; their figures have files of their own.

  Returns:
    `images`, `ann` (accuracy in percent), `neurons` (what they can send, by name) and `rows` of
    `method`, `T`, `accuracy`, `delay` and mean `threshold` (see `runs.standings`): what is in
    compare.json of the workdir, beside compare.png and compare-thresholds.png, or in
    validation.json with its own.

  Raises:
    CheckpointError: if a checkpoint or the results so far cannot be read, or these are of another
      number of images.
    CalibrationError: if the network gives no thresholds.
    FileError: if a delay that was found cannot be read or written.
    TrainingDiverged: if the loss stops being finite.
  """
  time_steps, mesh = sorted(set(time_steps)), parallel.data_mesh()
  variables = pretrained or stages.train_ann(experiment, workdir, mesh)
  longest = experiment.with_time_steps(time_steps[-1])
  path = workdir / ("validation.json" if validation else "compare.json")
  ledger = Ledger(path, experiment, variables)
  for method in methods:
    if method in FIXED and (lacking := ledger.lacking(method, time_steps)):
      thresholds = calibration.calibrate_by(
        method, longest, variables, per_channel=False, v_init=0.0
      )
      _measure(ledger, method, longest, thresholds, lacking)
  for method in CALIBRATED:
    for t in ledger.lacking(method, time_steps, _BOTH) if method in methods else ():
      one = experiment.with_time_steps(t)
      # What chooses initial potentials itself says how many instalments it needs.
      instalments = None if method == DELIVERED else 1
      thresholds = calibration.calibrate_by(method, one, variables, True, 0.5, instalments)
      if ledger.lacking(method, [t]):
        # Its layers wait, and say nothing meanwhile.
        read_out = calibration.settled(one, thresholds) if method == DELIVERED else one
        _measure(ledger, method, read_out, thresholds, [t])
      ledger.add_thresholds(method, t, thresholds)
  if {TUNED_EACH, QUANTIZED_EACH} & set(methods):
    for t in time_steps:
      figures = {TUNED_EACH: _BOTH, QUANTIZED_EACH: (ACCURACY,)}
      if not any(ledger.lacking(m, [t], of) for m, of in figures.items() if m in methods):
        continue
      one, tuned = _tuned(experiment.with_time_steps(t), workdir / f"T{t}", mesh, variables)
      if TUNED_EACH in methods and ledger.lacking(TUNED_EACH, [t]):
        found = _measure(ledger, TUNED_EACH, one, tuned, [t])
        if told := shortfall(one, tuned, ledger.results["ann"], found[t]):
          say(told)
      if TUNED_EACH in methods and ledger.lacking(TUNED_EACH, [t], _BOTH):
        ledger.add_thresholds(TUNED_EACH, t, tuned)
      if QUANTIZED_EACH in methods and ledger.lacking(QUANTIZED_EACH, [t]):
        ledger.add(QUANTIZED_EACH, {t: quantized_accuracy(one, tuned, t)})
  if {TUNED_ALL, QUANTIZED_ALL} & set(methods):
    experiment, tuned = _tuned(experiment, workdir / "all", mesh, variables)
    longest = experiment.with_time_steps(time_steps[-1])  # whose delay may be another now
    if TUNED_ALL in methods and (lacking := ledger.lacking(TUNED_ALL, time_steps)):
      _measure(ledger, TUNED_ALL, longest, tuned, lacking)
    if QUANTIZED_ALL in methods and (lacking := ledger.lacking(QUANTIZED_ALL, time_steps)):
      ledger.add(QUANTIZED_ALL, {t: quantized_accuracy(experiment, tuned, t) for t in lacking})
    found = diagnose(
      experiment.model,
      tuned,
      first_images(experiment.dataset.train, _DIAGNOSED),
      experiment.spiking,
      batch_size=experiment.eval.batch_size,
      preprocess=experiment.preprocess,
    )
    say(
      f"\n{TUNED_ALL}, errors at T = {experiment.spiking.time_steps} on training images\n"
      f"{tables.diagnosis_table(found)}"
    )
  _report(experiment, variables, path, ledger.results)
  return ledger.results


def _tuned(
  experiment: Experiment, folder: pathlib.Path, mesh: Mesh, variables: Variables
) -> tuple[Experiment, Variables]:
  """Calibrates and tunes, or finds what of it is in a folder; the experiment has its delay then."""
  with writing(folder):
    folder.mkdir(exist_ok=True)
  start = calibration.calibrate_in_workdir(experiment, folder, mesh, variables)
  experiment = calibration.settled_in_workdir(experiment, folder, start)
  return experiment, stages.tune_thresholds(experiment, folder, mesh, start)


def _measure(
  ledger: Ledger,
  method: str,
  experiment: Experiment,
  variables: Variables,
  time_steps: Sequence[int],
) -> dict[int, float]:
  """The accuracies by T, which the ledger is given."""
  curve = stages.evaluate_on_test(
    experiment, experiment.model, variables, experiment.reference(variables)
  ).snn
  found = {t: float(curve[t - 1]) for t in time_steps}
  ledger.add(method, found, experiment.spiking.delay)
  return found


def _report(
  experiment: Experiment, variables: Variables, path: pathlib.Path, results: dict[str, Any]
) -> None:
  """Draws and prints the figures, and when hardware would have the answers."""
  accuracies, shares = curves(results), curves(results, THRESHOLD)
  picture, second = path.with_suffix(".png"), path.with_name(f"{path.stem}-thresholds.png")
  if parallel.is_main_host():
    tables.plot_curves(picture, accuracies, experiment.name, ann=results["ann"])
    if shares:
      tables.plot_curves(second, shares, experiment.name, tables.MEAN_THRESHOLD)
  written = [str(path), picture.name, *([second.name] if shares else [])]
  late = tables.left_out(curves(results, DELAY))
  below = f"{late}\n\n" if late else ""
  below += f"{tables.MEAN_THRESHOLD}:\n{tables.curve_table(shares)}\n\n" if shares else ""
  graph, _ = trace_model(in_float32(experiment.model), variables, experiment.input_shape)
  say(
    f"\n{tables.curve_table(accuracies)}\n\n{below}ANN {results['ann']:.2f} %, on "
    f"{results['images']} images, {results['neurons']} neurons; written: {', '.join(written)}\n"
    f"{verdicts.latency_in_words(depth(graph))}"
  )
