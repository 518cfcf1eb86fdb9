"""The run of `train.py`: phase 1, calibration, joint training, phase 2, and the reported numbers.

Joint training is left out unless the config asks for it; it may stand in for phase 1 too.
"""

import contextlib
import json
import pathlib
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh

from tcljax.data import training_batches
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.evaluation.accuracy import Evaluation, accuracy, evaluate_split
from tcljax.files import write_text
from tcljax.reporting import tables
from tcljax.reporting.progress import say
from tcljax.runs.experiment import Experiment, calibration_images
from tcljax.runs.joint import train_jointly
from tcljax.runs.phases import ANN, CALIBRATED, TUNED, run_phase
from tcljax.runs.resume import BUDGET, tuning_steps
from tcljax.training import calibration, loop, optimizers
from tcljax.training.objectives import ann_objective, snn_objective

_CALIBRATION_BATCH = 128


def train_and_evaluate(
  experiment: Experiment, workdir: pathlib.Path, pretrained: dict[str, Any] | None = None
) -> dict[str, Any]:
  """Runs what is still to be run and reports.

  Args:
    experiment: from `make_experiment`.
    workdir: from `prepare_workdir`.
    pretrained: from `read_pretrained`; variables that take the place of phase 1, and with
      thresholds among them that of calibration too.

  Returns:
    What was written to results.json.

  Raises:
    CheckpointError: if a checkpoint cannot be read.
    CalibrationError: if the trained network gives no thresholds.
    TrainingDiverged: if the loss stops being finite.
  """
  mesh, joint = parallel.data_mesh(), experiment.config.joint
  if experiment.from_scratch:
    stages = {}
    variables = {**experiment.initial_variables(), "clipping": experiment.initial_clipping()}
  else:
    variables = pretrained or train_ann(experiment, workdir, mesh)
    _report_validation(experiment, variables)
    if "clipping" in variables:
      stages = {"earlier run": variables}
    else:
      variables = calibrate_thresholds(experiment, workdir, mesh, variables)
      stages = {"calibrated": variables}
  if joint.through in ("clip", "quantized"):
    variables = stages["trained jointly"] = train_jointly(experiment, workdir, mesh, variables)
  if experiment.tunes:
    variables = stages["tuned"] = tune_thresholds(experiment, workdir, mesh, variables)
  if joint.through == "snn":  # begins with thresholds for spikes, and with the best there are
    variables = stages["trained jointly"] = train_jointly(experiment, workdir, mesh, variables)
  results = measure(experiment, stages)
  if parallel.is_main_host():
    tables.write_results(
      workdir,
      results,
      f"{experiment.config.name}, T = {experiment.spiking.time_steps} while tuning",
    )
  say(
    f"\n{tables.threshold_table(results)}\n\n{tables.accuracy_table(results)}\n\n"
    f"written to {workdir}: results.json, accuracy.png, metrics.jsonl"
  )
  return results


def train_ann(experiment: Experiment, workdir: pathlib.Path, mesh: Mesh) -> dict[str, Any]:
  """Phase 1; returns `params` and `batch_stats`."""
  config = experiment.config
  objective = ann_objective(experiment.ann, experiment.preprocess, config.train.label_smoothing)
  return run_phase(
    experiment,
    workdir,
    mesh,
    ANN,
    config.train.steps,
    config.train.batch_size,
    objective,
    {"params": experiment.train_optimizer},
    experiment.initial_variables,
  )


def _report_validation(experiment, variables):
  validation = experiment.dataset.validation
  if len(validation):
    percent = accuracy(
      *experiment.reference(variables),
      validation,
      batch_size=experiment.config.eval.batch_size,
      preprocess=experiment.preprocess,
    )
    say(f"ANN: {percent:.2f} % of {len(validation)} validation images")


def calibrate_thresholds(
  experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, variables: dict[str, Any]
) -> dict[str, Any]:
  """Adds the collection `clipping`, from real activations on training images."""
  tune = experiment.config.tune
  with Checkpoints(workdir / CALIBRATED) as checkpoints:
    if checkpoints.latest_step() is None:
      variables = calibrate(
        experiment, variables, tune.calibration, tune.per_channel, tune.v_init, tune.instalments
      )
      checkpoints.save(0, {"clipping": parallel.replicate(mesh, variables["clipping"])})
    else:
      abstract = parallel.abstract_replicated(mesh, experiment.abstract_clipping())
      variables = {**variables, **checkpoints.restore({"clipping": abstract})}
  return variables


def calibrate(
  experiment: Experiment,
  variables: dict[str, Any],
  method: str,
  per_channel: bool,
  v_init: float,
  instalments: int = 1,
) -> dict[str, Any]:
  """Thresholds from as many training images as the config says; see `calibration.calibrate`."""
  tune = experiment.config.tune
  images = calibration_images(experiment.dataset, tune.images, experiment.config.seed)
  parts = np.split(
    np.arange(len(images)), range(_CALIBRATION_BATCH, len(images), _CALIBRATION_BATCH)
  )
  batches = (experiment.preprocess(batch["image"]) for batch in images.evaluation(parts))
  variables = calibration.calibrate(
    experiment.model,
    variables,
    batches,
    method=method,
    percentile=tune.percentile,
    time_steps=experiment.spiking.time_steps,
    per_channel=per_channel,
    v_init=v_init,
    instalments=instalments,
  )
  say(f"thresholds calibrated on {len(images)} training images: {method}")
  return variables


def tune_thresholds(
  experiment: Experiment, workdir: pathlib.Path, mesh: Mesh, calibrated: dict[str, Any]
) -> dict[str, Any]:
  """Phase 2; returns all collections, of which only `clipping` has changed.

  Args:
    experiment: from `make_experiment`.
    workdir: from `prepare_workdir`.
    mesh: from `parallel.data_mesh`.
    calibrated: all collections to start with.
  """
  tune = experiment.config.tune
  preprocess = experiment.preprocess
  objective = snn_objective(
    experiment.model,
    preprocess if tune.augment else lambda images, key: preprocess(images),
    experiment.spiking,
    mesh,
    tune.objective,
    teacher=experiment.reference(calibrated)[0],
    at=tune.at,
  )
  stored = workdir / BUDGET
  if tune.minutes and not stored.exists():
    transformation = optimizers.train_only(
      {"clipping": experiment.tune_optimizer.transformation(1)}
    )
    state = parallel.replicate(mesh, loop.new_state(calibrated, transformation))
    with contextlib.closing(
      training_batches(experiment.dataset.train, tune.batch_size, 0)
    ) as batches:
      batch = next(batches)
    steps = loop.steps_within(
      tune.minutes,
      state,
      loop.train_step(objective, transformation, ("clipping",)),
      batch,
      mesh=mesh,
    )
    say(f"{steps} tuning steps fit into {tune.minutes:g} minutes")
    if parallel.is_main_host():
      write_text(stored, json.dumps({"minutes": tune.minutes, "steps": steps}) + "\n")
    parallel.wait_for_hosts("budget")
  return run_phase(
    experiment,
    workdir,
    mesh,
    TUNED,
    tuning_steps(experiment, workdir),
    tune.batch_size,
    objective,
    {"clipping": experiment.tune_optimizer},
    lambda: calibrated,
  )


def measure(experiment: Experiment, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """The reported numbers, the only ones for which the test set is read.

  Args:
    experiment: from `make_experiment`.
    stages: the variables after each stage, by its name; the last is the network that is reported.
  """
  say(
    f"evaluating on {len(experiment.dataset.test)} test images, T up to "
    f"{experiment.evaluation.time_steps}"
  )
  found = {
    name: tables.summary(
      evaluate_on_test(experiment, experiment.model, variables, experiment.reference(variables))
    )
    for name, variables in stages.items()
  }
  thresholds = {name: calibration.thresholds(variables) for name, variables in stages.items()}
  *earlier, last = stages
  return {
    "config": experiment.config.name,
    "tuned_for_time_steps": experiment.spiking.time_steps,
    **found[last],
    "stage": last,
    "earlier_stages": {name: found[name]["snn"] for name in earlier},
    "thresholds": tables.threshold_summary(thresholds),
  }


def evaluate_on_test(
  experiment: Experiment,
  model: nn.Module,
  variables: dict[str, Any],
  reference: tuple[nn.Module, dict[str, Any]],
) -> Evaluation:
  """Evaluates a network on the test set, beside the ANN that `experiment.reference` gives."""
  test, config = experiment.dataset.test, experiment.config
  return evaluate_split(
    model,
    variables,
    test,
    experiment.evaluation,
    batch_size=config.eval.batch_size,
    preprocess=experiment.preprocess,
    reference=reference,
    seed=config.seed,
  )
