"""Converts a network trained by train.py into a spiking network on disk.

    convert.py --workdir=D --output=S [--nir=F.nir]

S then loads by `tcljax.load(S)`, without the config; it is verified after writing. With
--early_exit=PERCENT it is also measured as it is where images leave as soon as their answers are
settled.
"""

import sys
from collections.abc import Sequence

from tcljax.commands.arguments import Command
from tcljax.files import checked_path


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns the exit status (2: bad input, 1: verification failed)."""
  command = Command("convert", __doc__, argv)
  command.define_path("workdir", "A finished workdir of train.py.")
  command.define_path("output", "Directory of the spiking network; one there already is replaced.")
  command.define_path("nir", "File to write it to as NIR too, for other simulators and chips.")
  command.define_number(
    "early_exit",
    "Percent of training images that may leave with another answer than after "
    "all steps, a tenth of what test images may. Measures early exit.",
  )

  def prepare():
    flags = command.parse("workdir", "output")
    from tcljax.conversion import early_exit, storage
    from tcljax.runs import config_forms, conversion_run, experiment, resume, workdir

    if flags.early_exit is not None:
      early_exit.check_changed("early_exit", flags.early_exit)
      if flags.multihost:
        raise ValueError("--early_exit is measured on one host: leave out --multihost")
    folder = checked_path("workdir", flags.workdir).absolute()
    config = config_forms.from_json(folder / workdir.CONFIG)
    if flags.multihost:
      command.join_hosts()
    resume.check_finished(config, folder)
    output = storage.check_output(flags.output)
    made = experiment.make_experiment(config)
    command.hold(workdir.locked_output(output))
    variables = resume.restore_trained(made, folder)
    nir = None if flags.nir is None else checked_path("nir", flags.nir)
    if nir is not None:
      conversion_run.check_nir(made, variables, nir)
    return lambda: conversion_run.convert_and_verify(made, variables, output, flags.early_exit, nir)

  return command.run(prepare)


if __name__ == "__main__":
  sys.exit(main())
