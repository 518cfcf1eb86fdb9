"""The example on event digits, in fewer steps than it takes to be good."""

import runpy

import pytest
from running import ROOT


@pytest.mark.full
def test_the_example_runs():
  main = runpy.run_path(str(ROOT / "examples" / "event_digits.py"))["main"]
  ann, spiking = main(steps=100, tuning_steps=20)
  assert ann > 80 and spiking > 40
