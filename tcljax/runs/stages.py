"""The run of `train.py`: phase 1, calibration, joint training, phase 2, and the reported numbers.

Joint training is left out unless the config asks for it; it may stand in for phase 1 too.
"""

import dataclasses
import pathlib
from typing import Any

import flax.linen as nn
from jax.sharding import Mesh

from tcljax.distributed import parallel
from tcljax.evaluation.accuracy import Evaluation, accuracy, evaluate_split
from tcljax.evaluation.scores import is_measured
from tcljax.layers.collections import CLIPPING, PARAMS, Variables, has_clipping, teacher_of
from tcljax.reporting import tables
from tcljax.reporting.progress import say
from tcljax.runs.best import BestAnn
from tcljax.runs.calibration import calibrate_in_workdir, settled_in_workdir
from tcljax.runs.experiment import Experiment
from tcljax.runs.joint import train_jointly
from tcljax.runs.reports import report_training
from tcljax.runs.shortfall import shortfall
from tcljax.runs.workdir import (
  ANN,
  BEST_ANN,
  TUNED,
  keep_tuning_steps,
  run_in_workdir,
  tuning_steps,
)
from tcljax.training.calibration import thresholds
from tcljax.training.objectives import ann_objective, tuning_objective
from tcljax.training.phase import Phase, fitting_steps, within


def train_and_evaluate(
  experiment: Experiment,
  workdir: pathlib.Path,
  pretrained: Variables | None = None,
  report: bool = False,
) -> dict[str, Any]:
  """Runs what is still to be run and reports.

  Args:
    experiment: from `make_experiment`.
    workdir: from `prepare_workdir`.
    pretrained: from `read_pretrained`; variables that take the place of phase 1, and with
      thresholds among them that of calibration too.
    report: whether to write the report.

  Returns:
    What was written to results.json.

  Raises:
    CheckpointError: if a checkpoint cannot be read.
    CalibrationError: if the trained network gives no thresholds.
    TrainingDiverged: if the loss stops being finite.
  """
  mesh, joint = parallel.data_mesh(), experiment.joint
  if joint.from_scratch:
    stages = {}
    clipping = experiment.initial_clipping(joint.threshold)
    variables = {**experiment.initial_variables(), CLIPPING: clipping}
  else:
    variables = pretrained or train_ann(experiment, workdir, mesh)
    _report_validation(experiment, variables)
    if has_clipping(variables):
      stages = {"earlier run": variables}
    else:
      variables = calibrate_in_workdir(experiment, workdir, mesh, variables)
      stages = {"calibrated": variables}
      experiment = settled_in_workdir(experiment, workdir, variables)
  if joint.before_tuning:
    variables = stages["trained jointly"] = train_jointly(experiment, workdir, mesh, variables)
  if experiment.tune.runs:
    variables = stages["tuned"] = tune_thresholds(experiment, workdir, mesh, variables)
  if joint.through == "snn":  # begins with thresholds for spikes, and with the best there are
    variables = stages["trained jointly"] = train_jointly(experiment, workdir, mesh, variables)
  evaluations = evaluate_stages(experiment, stages)
  results = results_of(experiment, stages, evaluations)
  if parallel.is_main_host():
    title = f"{experiment.name}, T = {experiment.spiking.time_steps} while tuning"
    tables.write_results(workdir, results, title)
  if report:
    say("looking at the network, for the report")
    report_training(experiment, workdir, stages[results["stage"]], evaluations)
  say(
    f"\n{tables.threshold_table(results)}\n\n{tables.accuracy_table(results)}\n\n"
    f"written to {workdir}: results.json, accuracy.png, metrics.jsonl"
    f"{', report/index.html' * report}"
  )
  last, found = stages[results["stage"]], evaluations[results["stage"]]
  at = min(experiment.spiking.time_steps, len(found.snn))
  if is_measured(found.ann) and (
    told := shortfall(experiment, last, found.ann, float(found.snn[at - 1]), look=report)
  ):
    say(f"\n{told}")
  return results


def train_ann(experiment: Experiment, workdir: pathlib.Path, mesh: Mesh) -> Variables:
  """Phase 1; returns `params` and `batch_stats`."""
  phase, start = ann_phase(experiment), experiment.initial_variables
  if not experiment.train.best:
    return run_in_workdir(phase, start, experiment, workdir, mesh)
  with BestAnn(experiment, workdir / BEST_ANN, mesh) as best:
    run_in_workdir(phase, start, experiment, workdir, mesh, best)
    return best.variables()


def ann_phase(experiment: Experiment) -> Phase:
  """Phase 1, from `experiment.initial_variables` on."""
  train = experiment.train
  return Phase(
    name=ANN,
    steps=train.steps,
    batch_size=train.batch_size,
    accumulate=train.accumulate,
    fsdp=train.fsdp,
    objective=ann_objective(experiment.ann, experiment.preprocess_for_ann, train.label_smoothing),
    optimizers={PARAMS: train.optimizer},
    seed=experiment.seed,
  )


def _report_validation(experiment: Experiment, variables: Variables) -> None:
  validation = experiment.dataset.validation
  if len(validation):
    percent = accuracy(
      *experiment.reference(variables),
      validation,
      batch_size=experiment.eval.batch_size,
      preprocess=experiment.preprocess_for_ann,
    )
    say(f"ANN: {percent:.2f} % of {len(validation)} validation images")


def tune_thresholds(
  experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, calibrated: Variables
) -> Variables:
  """Phase 2; returns all collections, of which only `clipping` has changed.

  Args:
    experiment: from `make_experiment`.
    workdir: from `prepare_workdir`.
    mesh: from `parallel.data_mesh`.
    calibrated: all collections to start with.
  """
  tune = experiment.tune
  phase, steps = tuning_phase(experiment, mesh, calibrated), tuning_steps(tune, workdir)
  if steps is None:
    phase = within(phase, tune.minutes, calibrated, experiment.dataset.train, mesh)
    say(fitting_steps(phase.steps, tune.minutes))
    keep_tuning_steps(workdir, tune.minutes, phase.steps)
  else:
    phase = dataclasses.replace(phase, steps=steps)
  return run_in_workdir(phase, lambda: calibrated, experiment, workdir, mesh)


def tuning_phase(experiment: Experiment, mesh: Mesh, calibrated: Variables) -> Phase:
  """Phase 2 with `tune.steps` steps; of the collections to start with, only their names matter."""
  tune, preprocess = experiment.tune, experiment.preprocess
  # A network that learns from itself with ReLU runs once for its answers and activations.
  alone = experiment.model is experiment.ann and teacher_of(calibrated) is None
  return Phase(
    name=TUNED,
    steps=tune.steps,
    batch_size=tune.batch_size,
    accumulate=tune.accumulate,
    objective=tuning_objective(
      experiment.model,
      preprocess if tune.augment else lambda images, key: preprocess(images),
      experiment.spiking,
      mesh,
      tune.objective,
      teacher=None if alone else experiment.reference(calibrated)[0],
      at=tune.at,
    ),
    optimizers={CLIPPING: tune.optimizer},
    seed=experiment.seed,
  )


def evaluate_stages(experiment: Experiment, stages: dict[str, Variables]) -> dict[str, Evaluation]:
  """Evaluates the network of each stage on the test set.

  Args:
    experiment: from `make_experiment`.
    stages: the variables after each stage, by its name.
  """
  say(
    f"evaluating on {len(experiment.dataset.test)} test images, T up to "
    f"{experiment.reported.time_steps}"
  )
  return {
    name: evaluate_on_test(experiment, experiment.model, variables, experiment.reference(variables))
    for name, variables in stages.items()
  }


def results_of(
  experiment: Experiment, stages: dict[str, Variables], evaluations: dict[str, Evaluation]
) -> dict[str, Any]:
  """The reported numbers; the last stage is the network that is reported."""
  found = {name: tables.summary(evaluation) for name, evaluation in evaluations.items()}
  found_thresholds = {name: thresholds(variables) for name, variables in stages.items()}
  *earlier, last = stages
  return {
    "config": experiment.name,
    "tuned_for_time_steps": experiment.spiking.time_steps,
    "delay": experiment.reported.delay,
    **found[last],
    "stage": last,
    "earlier_stages": {name: found[name]["snn"] for name in earlier},
    "thresholds": tables.threshold_summary(found_thresholds),
  }


def evaluate_on_test(
  experiment: Experiment,
  model: nn.Module,
  variables: Variables,
  reference: tuple[nn.Module, Variables],
) -> Evaluation:
  """Evaluates a network on the test set, beside the ANN that `experiment.reference` gives."""
  return evaluate_split(
    model,
    variables,
    experiment.dataset.test,
    experiment.reported,
    batch_size=experiment.eval.batch_size,
    preprocess=experiment.preprocess,
    reference=reference,
    seed=experiment.seed,
  )
