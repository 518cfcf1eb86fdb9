"""The run of `train.py`: phase 1, calibration, phase 2, and the reported numbers.

Each phase keeps its checkpoints in a directory of its own below the workdir; a phase whose last
step is there is not run again, and one that was stopped goes on from its newest checkpoint.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh

from tcljax import calibration, fitting, optim, parallel, report
from tcljax.checkpoints import CheckpointError, Checkpoints
from tcljax.data import training_batches
from tcljax.evaluation import Evaluation, accuracy, evaluate
from tcljax.experiment import Experiment, calibration_images
from tcljax.files import write_text
from tcljax.metrics import PhaseLog, say
from tcljax.objectives import Objective, ann_objective, snn_objective

ANN, CALIBRATED, TUNED = "ann", "calibrated", "tuned"  # directories, and names of the phases
_BUDGET = "tuning_steps.json"
_CALIBRATION_BATCH = 128


def train_and_evaluate(
    experiment: Experiment, workdir: pathlib.Path, pretrained: dict[str, Any] | None = None
) -> dict[str, Any]:
  """Runs what is still to be run and reports.

  Args:
    experiment: from `make_experiment`.
    workdir: from `prepare_workdir`.
    pretrained: from `read_pretrained`; variables that take the place of phase 1.

  Returns:
    What was written to results.json.

  Raises:
    CheckpointError: if a checkpoint cannot be read.
    CalibrationError: if the trained network gives no thresholds.
    TrainingDiverged: if the loss stops being finite.
  """
  mesh = parallel.data_mesh()
  variables = pretrained or train_ann(experiment, workdir, mesh)
  _report_validation(experiment, variables)
  calibrated = calibrate_thresholds(experiment, workdir, mesh, variables)
  tuned = tune_thresholds(experiment, workdir, mesh, calibrated)
  results = measure(experiment, calibrated, tuned)
  if parallel.is_main_host():
    report.write_results(workdir, results, f"{experiment.config.name}, T = "
                         f"{experiment.spiking.steps} while tuning")
  say(f"\n{report.threshold_table(results)}\n\n{report.accuracy_table(results)}\n\n"
      f"written to {workdir}: results.json, accuracy.png, metrics.jsonl")
  return results


def train_ann(experiment: Experiment, workdir: pathlib.Path, mesh: Mesh) -> dict[str, Any]:
  """Phase 1; returns `params` and `batch_stats`."""
  config = experiment.config
  objective = ann_objective(experiment.ann, experiment.preprocess, config.train.label_smoothing)
  return _run_phase(
      experiment, workdir, mesh, ANN, config.train.steps, config.train.batch_size, objective,
      ("params",),
      experiment.train_optimizer, experiment.initial_variables)


def _report_validation(experiment, variables):
  validation = experiment.dataset.validation
  if len(validation.labels):
    percent = accuracy(experiment.ann, variables, validation,
                       batch_size=experiment.config.eval.batch_size,
                       preprocess=experiment.preprocess)
    say(f"ANN: {percent:.2f} % of {len(validation.labels)} validation images")


def calibrate_thresholds(
    experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, variables: dict[str, Any]
) -> dict[str, Any]:
  """Adds the collection `clipping`, from real activations on training images."""
  tune = experiment.config.tune
  with Checkpoints(workdir / CALIBRATED) as checkpoints:
    if checkpoints.latest_step() is None:
      variables = calibrate(experiment, variables, tune.calibration, tune.per_channel,
                            tune.v_init, tune.instalments)
      checkpoints.save(0, {"clipping": parallel.replicate(mesh, variables["clipping"])})
    else:
      abstract = parallel.abstract_replicated(mesh, experiment.abstract_clipping())
      variables = {**variables, **checkpoints.restore({"clipping": abstract})}
  return variables


def calibrate(
    experiment: Experiment, variables: dict[str, Any], method: str, per_channel: bool,
    v_init: float, instalments: int = 1,
) -> dict[str, Any]:
  """Thresholds from as many training images as the config says; see `calibration.calibrate`."""
  tune = experiment.config.tune
  images = calibration_images(experiment.dataset, tune.images, experiment.config.seed)
  batches = (experiment.preprocess(images[i:i + _CALIBRATION_BATCH])
             for i in range(0, len(images), _CALIBRATION_BATCH))
  variables = calibration.calibrate(
      experiment.model, variables, batches, method=method, percentile=tune.percentile,
      steps=experiment.spiking.steps, per_channel=per_channel, v_init=v_init,
      instalments=instalments)
  say(f"thresholds calibrated on {len(images)} training images: {method}")
  return variables


def tune_thresholds(
    experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, calibrated: dict[str, Any]
) -> dict[str, Any]:
  """Phase 2; returns all collections, of which only `clipping` has changed."""
  tune = experiment.config.tune
  preprocess = experiment.preprocess
  objective = snn_objective(
      experiment.model, preprocess if tune.augment else lambda images, key: preprocess(images),
      experiment.spiking, mesh, tune.objective, teacher=experiment.ann, at=tune.at)
  stored = workdir / _BUDGET
  if tune.minutes and not stored.exists():
    transformation = optim.train_only(experiment.tune_optimizer.transformation(1), ("clipping",))
    state = parallel.replicate(mesh, fitting.new_state(calibrated, transformation))
    batch = next(training_batches(experiment.dataset.train, tune.batch_size, 0))
    steps = fitting.steps_within(
        tune.minutes, state, fitting.train_step(objective, transformation, ("clipping",)), batch,
        mesh=mesh)
    say(f"{steps} tuning steps fit into {tune.minutes:g} minutes")
    if parallel.is_main_host():
      write_text(stored, json.dumps({"minutes": tune.minutes, "steps": steps}) + "\n")
    parallel.wait_for_hosts("budget")
  return _run_phase(
      experiment, workdir, mesh, TUNED, tuning_steps(experiment, workdir), tune.batch_size,
      objective, ("clipping",), experiment.tune_optimizer, lambda: calibrated)


def tuning_steps(experiment: Experiment, workdir: pathlib.Path) -> int:
  """The length of phase 2: as set, or as chosen when the run began to fit into its time.

  Raises:
    ValueError: if a run with a limit of time has not come to phase 2 yet.
    CheckpointError: if the file that holds the choice is damaged.
  """
  tune, stored = experiment.config.tune, workdir / _BUDGET
  if not tune.minutes:
    return tune.steps
  try:
    return int(json.loads(stored.read_text())["steps"])
  except FileNotFoundError:
    raise ValueError(f"workdir {workdir} is not finished, its tuning has not begun: run train.py "
                     "with it again") from None
  except (KeyError, OSError, TypeError, ValueError) as error:
    raise CheckpointError(f"{stored} cannot be read: {error}; remove it and {workdir / TUNED} to "
                          "tune anew") from error


def _run_phase(
    experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, name: str, steps: int,
    batch_size: int, objective: Objective, trained: tuple[str, ...],
    optimizer: optim.OptimizerConfig, make_variables: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
  """Restores or starts one phase, runs the steps it lacks and returns its variables."""
  config = experiment.config
  transformation = optim.train_only(optimizer.transformation(steps), trained)
  with Checkpoints(workdir / name) as checkpoints:
    state = fitting.restore_or_new(checkpoints, mesh, make_variables, transformation)
    start = int(state.step)
    if start:
      say(f"{name}: {start} of {steps} steps are done already")
    if start == steps:
      return state.variables
    log = PhaseLog(workdir, name, start, steps, config.log_every)
    try:
      state = fitting.fit(
          state, fitting.train_step(objective, transformation, trained),
          training_batches(experiment.dataset.train, batch_size, config.seed, start),
          steps, mesh=mesh, seed=config.seed, on_metrics=log, checkpoints=checkpoints,
          checkpoint_every=config.checkpoint_every)
    finally:
      log.close()
    return state.variables


def restore_tuned(experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any]:
  """The variables at the end of phase 2.

  Raises:
    ValueError: if they are not there, not finished, or cannot be read.
  """
  mesh = parallel.data_mesh()
  steps = tuning_steps(experiment, workdir)
  with Checkpoints(workdir / TUNED) as checkpoints:
    found = checkpoints.latest_step()
    if found != steps:
      raise ValueError(f"workdir {workdir} is not finished, {found or 0} of {steps} tuning steps "
                       "are done: run train.py with it again")
    ann = jax.eval_shape(experiment.initial_variables)
    abstract = {**ann, "clipping": experiment.abstract_clipping()}
    return checkpoints.restore(
        {"variables": parallel.abstract_replicated(mesh, abstract)})["variables"]


def measure(
    experiment: Experiment, calibrated: dict[str, Any], tuned: dict[str, Any]
) -> dict[str, Any]:
  """The reported numbers, the only ones for which the test set is read."""
  say(f"evaluating on {len(experiment.dataset.test.labels)} test images, T up to "
      f"{experiment.evaluation.steps}")
  results = report.summary(evaluate_on_test(experiment, experiment.model, tuned, tuned))
  untuned = report.summary(evaluate_on_test(experiment, experiment.model, calibrated, calibrated))
  return {
      "config": experiment.config.name,
      "tuned_for_steps": experiment.spiking.steps,
      **results,
      "snn_calibrated": untuned["snn"],
      "thresholds": report.threshold_summary(
          calibration.thresholds(calibrated), calibration.thresholds(tuned)),
  }


def evaluate_on_test(
    experiment: Experiment, model: nn.Module, variables: dict[str, Any],
    ann_variables: dict[str, Any],
) -> Evaluation:
  """Evaluates a network on the test set, beside the experiment's ANN with its variables."""
  test, config = experiment.dataset.test, experiment.config
  return evaluate(
      model, variables, test.images, test.labels, experiment.evaluation,
      batch_size=config.eval.batch_size, preprocess=experiment.preprocess,
      reference=(experiment.ann, ann_variables), seed=config.seed)
