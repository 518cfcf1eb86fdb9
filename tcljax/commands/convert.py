"""Converts a trained network into a spiking network on disk.

    convert.py --workdir=D --output=S [--nir=F.nir]
    convert.py --network=FILE.py:FUNCTION --config=CONFIG --output=S [--config.FIELD=VALUE ...]

The first takes a finished run of train.py. The second takes a network of your own: FUNCTION, in a
file that is run as Python, gives what tcljax.trace, tcljax.from_torch and the like give. Its
thresholds are calibrated and tuned on the images of the config.

S is a folder or, if its name ends in ".zip", one file, by custom "NAME.tcljax.zip". It then loads
by `tcljax.load(S)`, without config or file; it is verified after writing. With --early_exit=PERCENT
it is also measured as it is where images leave as soon as their answers are settled.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import flags

from tcljax.commands.arguments import Command
from tcljax.files import checked_path


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns the exit status (2: bad input, 1: verification failed)."""
  command = Command("convert", __doc__, argv)
  command.define_config()
  command.define_path("workdir", "A finished workdir of train.py; or else give --network.")
  command.define_path("network", "FILE.py:FUNCTION, which gives a network; takes --config too.")
  command.define_path(
    "output",
    "Directory of the spiking network, or one file if its name ends in .zip; a network that is "
    "there already is replaced.",
  )
  command.define_path("nir", "File to write it to as NIR too, for other simulators and chips.")
  command.define_number(
    "early_exit",
    "Percent of training images that may leave with another answer than after "
    "all steps, a tenth of what test images may. Measures early exit.",
  )
  command.define_switch("report", "Whether the report is written, a page to look at.", True)

  def prepare():
    given = command.parse("output")
    own = _is_own(given)
    # Slow: bad flags are told without it.
    from tcljax.conversion import early_exit

    if given.early_exit is not None:
      early_exit.check_changed("early_exit", given.early_exit)
      if given.multihost:
        raise ValueError("--early_exit is measured on one host: leave out --multihost")
    return _from_file(command, given) if own else _from_workdir(command, given)

  return command.run(prepare)


def _is_own(given: flags.FlagValues) -> bool:
  """Whether the network is one of the user's own; ValueError if it is not said where it is."""
  own = given.network is not None
  if own == (given.workdir is not None):
    raise ValueError(
      "give one of the two: --workdir, a finished run of train.py, or --network, a network of yours"
    )
  if own and given.config is None:
    raise ValueError(
      "--config is required with --network: it has the images, and how thresholds are found"
    )
  if not own and given.config is not None:
    raise ValueError("--config goes with --network: a workdir has the config of its run")
  return own


def _from_workdir(command: Command, given: flags.FlagValues) -> Callable[[], object]:
  from tcljax.runs import config_forms, conversion_run, experiment, resume, workdir

  folder = checked_path("workdir", given.workdir).absolute()
  config = config_forms.from_json(folder / workdir.CONFIG)
  if given.multihost:
    command.join_hosts()
  resume.check_finished(config, folder)
  nir = _nir_path(given)
  output = _held_output(command, given)
  made = workdir.with_kept_delay(experiment.make_experiment(config), folder)
  variables = resume.restore_trained(made, folder)
  if nir is not None:
    conversion_run.check_nir(made, variables)
  return lambda: conversion_run.convert_and_verify(
    made, variables, output, given.early_exit, nir, given.report
  )


def _from_file(command: Command, given: flags.FlagValues) -> Callable[[], object]:
  from tcljax.runs import config_forms, conversion_run, own_network, workdir

  config = config_forms.parse(given.config)
  place = own_network.check(config, given.network)
  nir = _nir_path(given)
  if given.multihost:
    command.join_hosts()
  output = _held_output(command, given)
  if config.tune.runs:
    workdir.check_holds_checkpoints("output", output)
  made, variables = own_network.make_own_experiment(config, place)
  if nir is not None:
    conversion_run.check_nir(made, own_network.trial_thresholds(made, variables))
  return lambda: own_network.convert_own(
    made, variables, config, output, given.early_exit, nir, given.report
  )


def _nir_path(given: flags.FlagValues) -> pathlib.Path | None:
  from tcljax.runs import conversion_run

  return None if given.nir is None else conversion_run.checked_nir_path(given.nir, given.output)


def _held_output(command: Command, given: flags.FlagValues) -> pathlib.Path:
  """Where the network goes, which no other command writes to meanwhile."""
  from tcljax.conversion import destination, step
  from tcljax.runs import conversion_run, workdir

  output = destination.check_output(given.output)
  step.check_can_export()
  conversion_run.folder_of_figures(output)
  command.hold(workdir.locked_output(output))
  return output


if __name__ == "__main__":
  sys.exit(main())
