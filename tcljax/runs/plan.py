"""What a run would take: every phase compiled for its devices, and none of them run."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from tcljax.columns import table
from tcljax.data import Dataset, load_dataset
from tcljax.data.unread import unread
from tcljax.distributed import chips, memory, parallel, topologies
from tcljax.kernels import targets
from tcljax.layers.collections import CLIPPING, Variables
from tcljax.reporting.progress import say
from tcljax.runs.config import RunConfig
from tcljax.runs.experiment import Experiment, make_experiment
from tcljax.runs.joint import joint_phase, with_own_teacher
from tcljax.runs.stages import ann_phase, tuning_phase
from tcljax.runs.workdir import ANN, JOINT, TUNED
from tcljax.training.phase import Phase
from tcljax.training.programs import Program, compiled

_SECTIONS = {ANN: "train", JOINT: "joint", TUNED: "tune"}  # of the config, by the phase's name
_MIB, _GIB = 2**20, 2**30


@dataclasses.dataclass(frozen=True)
class Planned:
  """A run that is to be planned.

  Attributes:
    experiment: what would be run.
    pretrained: whether the weights are there, so that phase 1 is left out.
    devices: to compile for; none for those at hand.
  """

  experiment: Experiment
  pretrained: bool
  devices: Sequence[targets.Device]


def prepare(config: RunConfig, topology: str = "") -> Planned:
  """Checks a config against the devices that it is planned for.

  Images are not read where their sizes are known.

  Args:
    config: of the run.
    topology: a TPU slice or GPUs, such as "v5e:4x4" or "h100:8"; empty for the devices at hand.

  Raises:
    ValueError: naming what cannot be, and the remedy.
  """
  try:
    devices = topologies.devices_of(topology) if topology else ()
  except ValueError as error:
    raise ValueError(f"plan: {error}") from error
  with targets.planned_for(devices):
    experiment = make_experiment(config, _known)
  return Planned(experiment, bool(config.pretrained), devices)


def _known(name: str, **fields: Any) -> Dataset:
  """The data set without its images, where its sizes are published; else as it is read."""
  parts = "[" in fields["train_split"] + fields["test_split"] or fields["image_size"] < 0
  found = None if parts else unread(name, fields["image_size"], fields["validation"])
  return found or load_dataset(name, **fields)


def phases(planned: Planned) -> Iterator[tuple[Phase, Variables]]:
  """The phases of a run in their order, with shapes and types of the variables they begin with."""
  experiment, joint = planned.experiment, planned.experiment.joint
  mesh = parallel.data_mesh()
  variables = dict(jax.eval_shape(experiment.initial_variables))
  if not (joint.from_scratch or planned.pretrained):
    yield ann_phase(experiment), variables
  clipping = jax.eval_shape(lambda: experiment.initial_clipping(1.0))
  variables = {**variables, CLIPPING: clipping}
  if joint.before_tuning:
    phase, variables = joint_phase(experiment, mesh, variables)
    yield phase, variables
    variables = with_own_teacher(joint, variables)
  if experiment.tune.runs:
    yield tuning_phase(experiment, mesh, variables), variables
  if joint.through == "snn":
    yield joint_phase(experiment, mesh, variables)


def tell(planned: Planned) -> None:
  """Compiles the phases and prints what each takes."""
  with targets.planned_for(planned.devices):
    devices, mesh = targets.devices(), parallel.data_mesh()
    chip, limit = chips.of_kind(devices[0].device_kind), memory.of_a_device()
    found = []
    for phase, variables in phases(planned):
      say(f"compiling {phase.name} ...")
      found.append((phase, compiled(phase, variables, planned.experiment.dataset.train, mesh)))
    kind = chip.name if chip else devices[0].device_kind
    title = f"{planned.experiment.name} on {len(devices)} x {kind}"
    say(in_words(title, found, len(devices), chip, limit))
    if planned.experiment.tune.minutes:
      say("how many steps of tuned fit into tune.minutes is found by running them")


def in_words(
  title: str,
  found: Sequence[tuple[Phase, Program]],
  count: int,
  chip: chips.Chip | None,
  limit: int | None,
) -> str:
  """The table of a plan, and what does not fit.

  Args:
    title: of the config and the devices.
    found: the phases and what their programs take.
    count: of devices.
    chip: published figures of one, if they are known.
    limit: bytes that one has, if anybody says.
  """
  programs = [program for _, program in found]
  of = lambda attribute: [getattr(program, attribute) for program in programs]
  columns = [
    ("phase", [phase.name for phase, _ in found], "{}"),
    ("steps", [phase.steps for phase, _ in found], "{}"),
    ("batch", [phase.batch_size for phase, _ in found], "{}"),
    ("weights", [n / _MIB for n in of("weights")], "{:.1f}"),
    ("optimizer", [n / _MIB for n in of("optimizer")], "{:.1f}"),
    ("arrays", [n / _MIB for n in of("arrays")], "{:.0f}"),
    ("Gop", [n / 1e9 for n in of("operations")], "{:.1f}"),
    ("GB", [n / 1e9 for n in of("traffic")], "{:.2f}"),
    ("collectives", [_collectives(program) for program in programs], "{}"),
  ]
  lines = []
  if chip:
    seconds = [modelled_seconds(program, chip, count) for program in programs]
    hours = [phase.steps * s / 3600 for (phase, _), s in zip(found, seconds, strict=True)]
    columns += [("ms", [1e3 * s for s in seconds], "{:.2f}"), ("hours", hours, "{:.2f}")]
    lines.append(
      "ms and hours are a model, not measured: operations at the chip's highest rate or bytes at "
      "its bandwidth, whichever takes longer, and collectives over its links"
    )
  columns.append(("compiling", of("seconds"), "{:.0f}"))
  has = f", {limit / _GIB:.1f} GiB each" if limit else ""
  lines = [f"{title}{has}; a step of one device, memory in MiB:", table(columns), *lines]
  for phase, program in found:
    if limit and program.memory > limit:
      section = _SECTIONS[phase.name]
      lines.append(
        f"{phase.name} does not fit: it takes {program.memory / _GIB:.1f} of {limit / _GIB:.1f} "
        f"GiB; raise {section}.accumulate={phase.accumulate}, lower {section}.batch_size="
        f"{phase.batch_size}, or take more devices"
      )
  return "\n".join(lines)


def modelled_seconds(program: Program, chip: chips.Chip, count: int) -> float:
  """A step by the roofline (Williams et al., 2009) of published figures, then its collectives.

  Of an all-reduce by a ring, each chip sends and is sent twice the array, less one part of it.
  """
  own = max(program.operations / chip.operations, program.traffic / chip.bandwidth)
  sent = sum(
    size * (2 if kind == "all-reduce" else 1) for kind, (_, size) in program.collectives.items()
  )
  return own + sent * (count - 1) / count / chip.links


def _collectives(program: Program) -> str:
  kinds = [f"{number} {kind}" for kind, (number, _) in sorted(program.collectives.items())]
  return ", ".join(kinds) or "none"
