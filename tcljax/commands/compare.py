"""Compares methods for the thresholds of one network: accuracy against the number of steps T.

    tcljax-compare --config=resnet20 --time_steps=4,8,16 [--config.pretrained=PATH]

Prints a table and writes compare.json and .png, or with --validation validation.json and .png, to
the workdir. Started again with the same workdir it goes on where it stopped.
"""

import sys
from collections.abc import Sequence

from tcljax.commands.arguments import Command


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns the exit status (2: bad input, 1: training diverged)."""
  command = Command("compare", __doc__, argv)
  command.define_config()
  command.define_path("workdir", "Where all is written; by default runs/<config.name>-compare.")
  command.define_list("time_steps", "4,8,16,32,64", "Numbers of steps T.")
  command.define_list("methods", "", "Some of the methods; by default all.")
  command.define_count("images", "How many of the images to measure on; 0 for all.")
  command.define_switch(
    "validation",
    "Measure on the images that config.data.validation sets "
    "aside, not on the test set: for choices.",
  )

  def prepare():
    flags = command.parse("config")
    from tcljax.runs import compare, config_forms, experiment, resume, workdir

    config = config_forms.parse(flags.config)
    if flags.multihost:
      command.join_hosts()
    folder = workdir.check_workdir(flags.workdir or f"runs/{config.name}-compare", config)
    resume.check_pretrained(config)
    time_steps, methods = compare.check(config, flags.time_steps, flags.methods, flags.validation)
    made = compare.measured_on(experiment.make_experiment(config), flags.validation, flags.images)
    pretrained = resume.read_pretrained(config, made, thresholds=False)
    command.hold(workdir.locked(folder))
    workdir.prepare_workdir(folder, config)
    return lambda: compare.compare(made, folder, pretrained, time_steps, methods, flags.validation)

  return command.run(prepare)


if __name__ == "__main__":
  sys.exit(main())
