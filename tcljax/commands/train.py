"""Trains a network and the thresholds of its spiking twin.

    tcljax-train --config=digits [--workdir=D] [--config.FIELD=VALUE ...]

In a clone, `python train.py` is the same command.

Started again with the same workdir it goes on where it stopped.
"""

import sys
from collections.abc import Sequence

from tcljax.commands.arguments import Command


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns the exit status (2: bad input, a full disk; 1: training diverged)."""
  command = Command("train", __doc__, argv)
  command.define_config()
  command.define_path("workdir", "Where everything is written; by default runs/<config.name>.")
  command.define_switch("report", "Whether the report is written, a page to look at.", True)
  command.define_word(
    "plan",
    "here",
    "Compile every phase and tell what it takes, without running it: for the devices at hand, for "
    "a TPU slice such as v5e:4x4, or for GPUs such as h100:8.",
  )

  def prepare():
    flags = command.parse("config")
    # Slow: bad flags are told without it.
    from tcljax.runs import config_forms, experiment, resume, stages, workdir

    config = config_forms.parse(flags.config)
    if flags.plan is not None:
      from tcljax.runs import plan

      if flags.multihost:
        raise ValueError("--plan is made by one process, for all hosts: leave out --multihost")
      planned = plan.prepare(config, "" if flags.plan == "here" else flags.plan)
      return lambda: plan.tell(planned)
    if flags.multihost:
      command.join_hosts()
    folder = workdir.check_workdir(flags.workdir or f"runs/{config.name}", config)
    resume.check_pretrained(config)
    made = experiment.make_experiment(config)
    pretrained = resume.read_pretrained(config, made)
    command.hold(workdir.locked(folder))
    workdir.prepare_workdir(folder, config)
    made = resume.with_earlier_delay(config, made, folder)
    return lambda: stages.train_and_evaluate(made, folder, pretrained, flags.report)

  return command.run(prepare)


if __name__ == "__main__":
  sys.exit(main())
