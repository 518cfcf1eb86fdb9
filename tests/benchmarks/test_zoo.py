"""The zoo of networks: what is measured of one, and the figures that are kept."""

import json
import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import ROOT, load_benchmark

import tcljax

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
WEIGHTS = [
  np.random.default_rng(i).normal(size=shape).astype(np.float32)
  for i, shape in enumerate(((3, 5), (5, 4), (4, 2)))
]


def function(x):
  y = jax.nn.relu(x @ WEIGHTS[0] + 0.1)
  return jax.nn.relu(y @ WEIGHTS[1] - 0.2) @ WEIGHTS[2]


def network(function):
  return types.SimpleNamespace(
    answer=function, trace=lambda: tcljax.trace(function, X), shape=X.shape[1:]
  )


def entry(function, refused=""):
  made = dict(name="two", framework="linen", source="", trained=False, refused=refused)
  return types.SimpleNamespace(make=lambda: network(function), **made)


@pytest.fixture
def zoo(monkeypatch):
  benchmark = load_benchmark("zoo")
  monkeypatch.setattr(benchmark, "_TIME_STEPS", 16)
  return benchmark


def test_bounds_are_those_of_every_layer_passed_on_by_absolute_weights(zoo):
  traced = tcljax.trace(function, X)
  variables = tcljax.calibrate(
    traced.model, traced.variables, [X], method="maximum", v_init=0.5, instalments=1
  )
  first, second = tcljax.thresholds(variables).values()
  first, second = first / 32, second / 32
  expected = (first @ abs(WEIGHTS[1]) + second) @ abs(WEIGHTS[2])
  found = zoo.bounds_of(traced.model, variables, X)
  np.testing.assert_allclose(found, expected[None], rtol=1e-5)


def test_a_network_is_measured_against_its_framework_and_its_clipped_self(zoo):
  row = zoo.measure(entry(function))
  assert row["populations"] == 2 and row["difference"] < 1e-6
  assert 0 < row["error"] < 0.2 and 0 < row["bounds"] <= 1
  wrong = entry(function)
  wrong.make = lambda: types.SimpleNamespace(
    **{**vars(network(function)), "answer": lambda x: 1.01 * function(x)}
  )
  assert zoo.measure(wrong)["difference"] == pytest.approx(0.01 / 1.01, rel=1e-3)


def test_a_softmax_that_was_left_out_is_put_back_to_compare(zoo):
  row = zoo.measure(entry(lambda x: nn.softmax(function(x))))
  assert row["difference"] < 1e-6


def test_what_is_converted_or_refused_unlike_its_entry_ends_the_run(zoo):
  gated = lambda x: jnp.tanh(function(x)) @ jnp.ones((2, 2))
  assert "tanh" in zoo.measure(entry(gated, refused="`tanh`"))["refused"]
  with pytest.raises(AssertionError, match=r"two is refused: .*tanh"):
    zoo.measure(entry(gated))
  with pytest.raises(AssertionError, match=r"two is refused: .*tanh"):
    zoo.measure(entry(gated, refused="`erf`"))
  with pytest.raises(AssertionError, match="two is converted"):
    zoo.measure(entry(function, refused="`tanh`"))


def test_a_run_goes_on_from_the_rows_that_are_there(zoo, tmp_path, monkeypatch):
  monkeypatch.setattr(zoo, "entries", lambda: [entry(function)])
  calls = []

  def measure(one):
    calls.append(one.name)
    row = {"network": one.name, "framework": one.framework, "source": "", "trained": False}
    return {**row, "populations": 2, "difference": 0.0, "error": 0.123456, "bounds": 0.5}

  monkeypatch.setattr(zoo, "measure", measure)
  for _ in range(2):
    assert zoo.main([f"--output={tmp_path / 'zoo'}"]) == 0
  assert calls == ["two"]
  text = (tmp_path / "zoo.md").read_text()
  assert "| Flax Linen | two |  | random | 2 | 0.0e+00 | 1.2e-01 | 5.0e-01 |" in text


def test_what_the_figures_must_hold():
  rows = json.loads((ROOT / "benchmarks" / "results" / "zoo.json").read_text())["rows"]
  accepted = [row for row in rows if "refused" not in row]
  assert len(rows) >= 45 and len(accepted) >= 38
  assert len({(row["framework"], row["network"]) for row in rows}) == len(rows)
  frameworks = {row["framework"] for row in accepted}
  assert frameworks == {"linen", "nnx", "equinox", "keras", "torch"}
  assert {row["framework"] for row in accepted if row["trained"]} == frameworks
  assert sum(row["source"] != "" for row in rows) >= 15
  for row in accepted:
    assert row["difference"] <= 1e-5 and row["bounds"] <= 1, row
  for row in rows:
    assert "refused" not in row or re.search(r"applies `\w+` (in|\()", row["refused"]), row
  named = {(row["framework"], row["network"]) for row in accepted}
  for network in ("VGG-11", "ResNet-18", "SqueezeNet", "MobileNetV2", "U-Net"):
    assert ("torch", network) in named
  for network in ("MobileNet", "ResNet50", "SqueezeNet"):
    assert ("keras", network) in named
