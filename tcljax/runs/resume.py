"""What a finished run ended with, and what a run begins with in place of phase 1."""

import pathlib

import jax

from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.layers.collections import (
  CLIPPING,
  TEACHER,
  Variables,
  teacher_of,
  thresholds_by_path,
  without,
)
from tcljax.models.torch_weights import load_pretrained, read_state_dict
from tcljax.runs.config import ConfigError, RunConfig
from tcljax.runs.config_forms import differences, from_json
from tcljax.runs.experiment import Experiment
from tcljax.runs.joint import final_steps, with_own_teacher
from tcljax.runs.workdir import CONFIG, JOINT, TUNED, keep_delay, tuning_steps, with_kept_delay

# What must be the same for weights and thresholds to mean the same in a later run.
_OF_NETWORK = (
  "data.name",
  "data.image_size",
  "preprocessing.mean",
  "preprocessing.std",
  "model.",
  "snn.readout",
  "tune.per_channel",
)
_NOT_OF_NETWORK = ("model.dtype",)


def check_finished(described: Experiment | RunConfig, workdir: pathlib.Path) -> tuple[str, int]:
  """Checks, without a device, that the last phase has begun; gives its name and its steps.

  Raises:
    ValueError: if it has not.
  """
  joint, tune = described.joint, described.tune
  phase, steps = JOINT, final_steps(joint)
  if tune.runs and joint.through != "snn":
    phase, steps = TUNED, tuning_steps(tune, workdir)
  if steps is None or not (workdir / phase).is_dir():  # where there is none, it would be made
    raise ValueError(
      f"workdir {workdir} is not finished, its phase {phase!r} has not begun: run train.py with it "
      "again"
    )
  return phase, steps


def restore_trained(experiment: Experiment, workdir: pathlib.Path) -> Variables:
  """The variables at the end of the last phase.

  Raises:
    ValueError: if they are not there, not finished, or cannot be read.
  """
  joint = experiment.joint
  phase, steps = check_finished(experiment, workdir)
  with Checkpoints(workdir / phase) as checkpoints:
    found = checkpoints.latest_step()
    if found != steps:
      damage = checkpoints.damage()
      state = f"has damage: {damage}" if damage else "is not finished"
      raise ValueError(
        f"workdir {workdir} {state}, {found or 0} of {steps} steps of phase "
        f"{phase!r} are done: run train.py with it again"
      )
    held = checkpoints.structure().get("variables", {})
    # Thresholds alone say in how many instalments they are, as they may be those of another run.
    abstract = {
      **jax.eval_shape(experiment.initial_variables),
      **{name: held[name] for name in (CLIPPING, TEACHER) if name in held},
    }
    wanted = {"variables": parallel.abstract_replicated(parallel.data_mesh(), abstract)}
    variables = checkpoints.restore(wanted)["variables"]
  return with_own_teacher(joint, variables)


def check_pretrained(config: RunConfig) -> None:
  """Checks what the config's `pretrained` names, as far as that takes neither images nor devices.

  Raises:
    ConfigError: if it cannot be read.
  """
  if not config.pretrained:
    return
  try:
    if pathlib.Path(config.pretrained).is_dir():
      workdir = pathlib.Path(config.pretrained).absolute()
      check_finished(_earlier_config(config, workdir), workdir)
    else:
      read_state_dict(config.pretrained)
  except ValueError as error:
    raise ConfigError(f"pretrained: {error}") from None


def read_pretrained(
  config: RunConfig, experiment: Experiment, thresholds: bool = True
) -> Variables | None:
  """What the config's `pretrained` names; None where it names nothing.

  Args:
    config: names a checkpoint or a workdir.
    experiment: from `make_experiment` of this config.
    thresholds: whether those of an earlier run are wanted too, and what it learned from.

  Returns:
    `params` and `batch_stats` of a checkpoint; from the workdir of an earlier run all of its
    variables.

  Raises:
    ConfigError: if it cannot be read, does not fit the model, or if weights alone are wanted of a
      run that trained them together with thresholds.
  """
  path = config.pretrained
  if not path:
    return None
  try:
    if not pathlib.Path(path).is_dir():
      return load_pretrained(path, experiment.ann, experiment.input_shape)
    workdir = pathlib.Path(path).absolute()
    stored = _earlier_config(config, workdir)
    variables = restore_trained(experiment.described_by(stored), workdir)
    if thresholds:
      _check_instalments(config, variables, workdir)
      return variables
    if teacher_of(variables):
      raise ValueError(
        f"{path} has trained its weights together with thresholds, they are no ANN "
        "without them: choose a run without joint training, or a checkpoint"
      )
    return without(variables, CLIPPING)
  except ValueError as error:
    raise ConfigError(f"pretrained: {error}") from None


def with_earlier_delay(
  config: RunConfig, experiment: Experiment, workdir: pathlib.Path
) -> Experiment:
  """The experiment with the delay of the run whose thresholds it goes on from, if it has none.

  Of another T it is the same part. It is kept in the workdir, as that of the run itself.
  """
  earlier = pathlib.Path(config.pretrained or "").absolute()
  if config.pretrained and earlier.is_dir() and experiment.leaves_delay_open:
    stored = from_json(earlier / CONFIG)
    spiking = with_kept_delay(experiment.described_by(stored), earlier).spiking
    period = experiment.snn.phase
    delay = spiking.delay * experiment.snn.time_steps // (spiking.time_steps * period) * period
    experiment = experiment.with_delay(delay)
    keep_delay(workdir, delay)
  return experiment


def _check_instalments(config: RunConfig, variables: Variables, workdir: pathlib.Path) -> None:
  """Raises ValueError if thresholds have not as many instalments as the config asks for."""
  wanted = config.tune.instalments
  for held in thresholds_by_path(variables).values():
    if wanted not in (None, found := len(held.instalments)):
      raise ValueError(
        f"workdir {workdir} holds initial potentials in {found} instalments, and "
        f"tune.instalments={wanted}: set it to {found}"
      )


def _earlier_config(config: RunConfig, workdir: pathlib.Path) -> RunConfig:
  """The config of an earlier run, whose network is that of this one."""
  stored = from_json(workdir / CONFIG)
  different = [
    line
    for line in differences(stored, config)
    if line.startswith(_OF_NETWORK) and not line.startswith(_NOT_OF_NETWORK)
  ]
  if different:
    raise ValueError(
      f"workdir {workdir} holds another network ({'; '.join(different)}): set these "
      "fields as they are there"
    )
  return stored
