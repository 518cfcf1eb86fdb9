"""What a finished run ended with, and what a run begins with in place of phase 1."""

import dataclasses
import json
import pathlib
from typing import Any

import jax

from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import CheckpointError, Checkpoints
from tcljax.models.torch_weights import load_pretrained
from tcljax.runs import config as configs
from tcljax.runs.experiment import Experiment
from tcljax.runs.joint import final_steps
from tcljax.runs.phases import JOINT, TUNED

BUDGET = "tuning_steps.json"
# What must be the same for weights and thresholds to mean the same in a later run.
_OF_NETWORK = (
  "data.name",
  "data.image_size",
  "preprocessing.mean",
  "preprocessing.std",
  "model.",
  "snn.readout",
  "tune.per_channel",
  "tune.instalments",
)
_NOT_OF_NETWORK = ("model.dtype",)


def restore_trained(experiment: Experiment, workdir: pathlib.Path) -> dict[str, Any]:
  """The variables at the end of the last phase.

  Raises:
    ValueError: if they are not there, not finished, or cannot be read.
  """
  mesh, config = parallel.data_mesh(), experiment.config
  tuned = experiment.tunes and config.joint.through != "snn"
  phase, steps = (
    (TUNED, tuning_steps(experiment, workdir)) if tuned else (JOINT, final_steps(config))
  )
  with Checkpoints(workdir / phase) as checkpoints:
    found = checkpoints.latest_step()
    if found != steps:
      raise ValueError(
        f"workdir {workdir} is not finished, {found or 0} of {steps} steps of phase "
        f"{phase!r} are done: run train.py with it again"
      )
    abstract = {
      **jax.eval_shape(experiment.initial_variables),
      "clipping": experiment.abstract_clipping(),
    }
    if teacher := checkpoints.structure().get("variables", {}).get("teacher"):
      abstract["teacher"] = {name: abstract[name] for name in teacher}
    variables = checkpoints.restore({"variables": parallel.abstract_replicated(mesh, abstract)})[
      "variables"
    ]
  return experiment.with_own_teacher(variables)


def read_pretrained(experiment: Experiment, thresholds: bool = True) -> dict[str, Any] | None:
  """What the config's `pretrained` names; None where it names nothing.

  Args:
    experiment: from `make_experiment`.
    thresholds: whether those of an earlier run are wanted too, and what it learned from.

  Returns:
    `params` and `batch_stats` of a checkpoint; from the workdir of an earlier run all of its
    variables.

  Raises:
    ValueError: if it cannot be read, does not fit the model, or if weights alone are wanted of a
      run that trained them together with thresholds.
  """
  path = experiment.config.pretrained
  if not path:
    return None
  try:
    if not pathlib.Path(path).is_dir():
      return load_pretrained(path, experiment.ann, experiment.input_shape)
    variables = _of_earlier_run(experiment, pathlib.Path(path).absolute())
    if thresholds:
      return variables
    if "teacher" in variables:
      raise ValueError(
        f"{path} has trained its weights together with thresholds, they are no ANN "
        "without them: choose a run without joint training, or a checkpoint"
      )
    return {name: tree for name, tree in variables.items() if name != "clipping"}
  except ValueError as error:
    raise ValueError(f"pretrained: {error}") from None


def _of_earlier_run(experiment, workdir):
  stored = configs.from_json(workdir / "config.json")
  different = [
    line
    for line in configs.differences(stored, experiment.config)
    if line.startswith(_OF_NETWORK) and not line.startswith(_NOT_OF_NETWORK)
  ]
  if different:
    raise ValueError(
      f"workdir {workdir} holds another network ({'; '.join(different)}): set these "
      "fields as they are there"
    )
  return restore_trained(dataclasses.replace(experiment, config=stored), workdir)


def tuning_steps(experiment: Experiment, workdir: pathlib.Path) -> int:
  """The length of phase 2: as set, or as chosen when the run began to fit into its time.

  Raises:
    ValueError: if a run with a limit of time has not come to phase 2 yet.
    CheckpointError: if the file that holds the choice is damaged.
  """
  tune, stored = experiment.config.tune, workdir / BUDGET
  if not tune.minutes:
    return tune.steps
  try:
    return int(json.loads(stored.read_text())["steps"])
  except FileNotFoundError:
    raise ValueError(
      f"workdir {workdir} is not finished, its tuning has not begun: run train.py with it again"
    ) from None
  except (KeyError, OSError, TypeError, ValueError) as error:
    raise CheckpointError(
      f"{stored} cannot be read: {error}; remove it and {workdir / TUNED} to tune anew"
    ) from error
