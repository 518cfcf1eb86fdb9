"""The examples of other frameworks, in fewer steps than it takes to be good."""

import runpy

import jax
import numpy as np
import pytest
from running import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
  "name, steps, populations",
  [
    ("nnx", 60, ("relu", "relu_2")),
    ("equinox", 60, ("relu", "relu_2")),
    ("keras", 3, ("stem.relu", "joined.relu")),
    ("pytorch", 60, ("relu", "relu_2", "relu_3")),
  ],
)
def test_the_example_runs(name, steps, populations, capsys):
  main = runpy.run_path(str(ROOT / "examples" / f"{name}_classifier.py"))["main"]
  with jax.numpy_rank_promotion("allow"):  # frameworks add arrays of unlike ranks
    found, network = main(steps, tune_steps=5)
  assert found.ann > 80 and min(found.snn[7], found.snn[15]) > found.ann - 10
  assert tuple(network.graph.populations()) == populations
  lines = capsys.readouterr().out.splitlines()
  assert [line.split(":")[0] for line in lines if line.startswith("SNN")] == [
    "SNN at T = 8",
    "SNN at T = 16",
  ]
  assert lines[-1].startswith("converted, at T = 8:")
  np.testing.assert_allclose(float(lines[-1].split()[-2]), found.snn[7], atol=1)
