"""Compares recipes for the thresholds of one network: accuracy against the number of steps T.

    tcljax-latency --config=configs/resnet20.py --steps=4,8,16 [--config.pretrained=PATH]

Prints a table and writes latency.json and .png, or with --validation validation.json and .png, to
the workdir. Started again with the same workdir it goes on where it stopped.
"""

from collections.abc import Sequence

from tcljax.commands.arguments import Command


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns the exit status (2: bad input, 1: training diverged)."""
  command = Command("latency", __doc__, argv)
  command.define_config()
  command.define_path("workdir", "Where all is written; by default runs/<config.name>-latency.")
  command.define_list("steps", "4,8,16,32,64", "Numbers of steps T.")
  command.define_list("recipes", "", "Some of the recipes; by default all.")
  command.define_count("images", "How many of the images to measure on; 0 for all.")
  command.define_switch("validation", "Measure on the images that config.data.validation sets "
                        "aside, not on the test set: for choices.")

  def prepare():
    flags = command.parse("config")
    from tcljax.distributed import parallel
    from tcljax.runs import compare, experiment, resume

    if flags.multihost:
      parallel.initialize_hosts()
    made, steps, recipes = compare.check(
        experiment.make_experiment(flags.config), flags.steps, flags.recipes, flags.validation,
        flags.images)
    pretrained = resume.read_pretrained(made, thresholds=False)
    workdir = experiment.prepare_workdir(
        flags.workdir or f"runs/{flags.config.name}-latency", flags.config)
    return lambda: compare.compare(made, workdir, pretrained, steps, recipes, flags.validation)

  return command.run(prepare)
