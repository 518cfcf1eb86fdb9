"""What several tests run: the commands in small sizes, benchmarks, and a model with a fault."""

import importlib
import pathlib
import runpy
import sys

import flax.linen as nn

import tcljax
from tcljax.commands import train
from tcljax.layers.activations import ReLU

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = f"--config={ROOT / 'configs' / 'digits.py'}"
TINY = (
  "--config.model.stages=((4,),(8,))",
  "--config.model.dense=(16,)",
  "--config.train.steps=40",
  "--config.train.batch_size=64",
  "--config.tune.steps=6",
  "--config.tune.batch_size=32",
  "--config.tune.images=128",
  "--config.snn.time_steps=4",
  "--config.eval.time_steps=8",
  "--config.log_every=10",
  "--config.checkpoint_every=5",
)


def run_train(workdir, *overrides):
  """A short run of train.py on the digits; without its report, which takes as long as the rest."""
  return train.main(["train.py", DIGITS, f"--workdir={workdir}", "--noreport", *TINY, *overrides])


def calibrate_plainly(model, variables, images, **options):
  """By percentile, one threshold a layer, the initial potential of one half in one part."""
  plain = {"method": "percentile", "per_channel": False, "v_init": 0.5, "instalments": 1}
  return tcljax.calibrate(model, variables, [images], **{**plain, **options})


def get_config(name, *variants):
  """What configs/NAME.py gives."""
  return runpy.run_path(ROOT / "configs" / f"{name}.py")["get_config"](*variants)


def load_benchmark(name):
  """The module benchmarks/NAME.py, found as its own siblings find it: by the path of scripts."""
  sys.path.insert(0, str(ROOT / "benchmarks"))
  try:
    return importlib.import_module(name)
  finally:
    sys.path.pop(0)


def complaint(capsys):
  """The one line that a command printed to stderr."""
  captured = capsys.readouterr()
  assert captured.err.count("\n") == 1, captured.err
  assert "Traceback" not in captured.err and "steps/s" not in captured.out
  return captured.err


class UsedTwice(nn.Module):
  """One activation in two places: which threshold would be its own?"""

  act: object = ReLU

  def setup(self):
    self.neurons = self.act()

  def __call__(self, x):
    return self.neurons(0.5 * self.neurons(x))
