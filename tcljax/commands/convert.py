"""Converts a network trained by train.py into a spiking network on disk.

    convert.py --workdir=D --output=S

S then loads by `tcljax.load(S)`, without the config; it is verified after writing.
"""

import pathlib
from collections.abc import Sequence

from tcljax.commands.arguments import Command


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns the exit status (2: bad input, 1: verification failed)."""
  command = Command("convert", __doc__, argv)
  command.define_path("workdir", "A finished workdir of train.py.")
  command.define_path("output", "Directory of the spiking network; one there already is replaced.")

  def prepare():
    flags = command.parse("workdir", "output")
    from tcljax import config, conversion, conversion_run, experiment, parallel, trained

    if flags.multihost:
      parallel.initialize_hosts()
    workdir = pathlib.Path(flags.workdir).absolute()
    output = conversion.check_output(flags.output)
    made = experiment.make_experiment(config.from_json(workdir / "config.json"))
    variables = trained.restore_trained(made, workdir)
    return lambda: conversion_run.convert_and_verify(made, variables, output)

  return command.run(prepare)
