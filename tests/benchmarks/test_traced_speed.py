"""The benchmark of traced networks: in small, and what its figures must hold."""

import json

import pytest
from running import ROOT, load_benchmark

import tcljax


@pytest.fixture
def benchmark():
  return load_benchmark("traced_speed")


@pytest.mark.full
def test_a_ratio_is_of_the_traced_network_over_the_hand_written(benchmark, monkeypatch):
  monkeypatch.setattr(benchmark, "_BATCH", 2)
  model = tcljax.CNN(num_classes=3, stages=((2,),), dense=())
  seen = []

  def in_turns(runs, rounds):
    seen.extend(rounds for run in runs.values() if run() is not None)
    return {"hand-written": 2.0, "traced": 3.0}

  monkeypatch.setattr(benchmark, "in_turns", in_turns)
  rows = list(benchmark.measure(model, (4, 4, 1), rounds=9))
  assert [row["ratio"] for row in rows] == [1.5] * 5
  assert seen == [2] * 2 + [9] * 4 + [2] * 2 + [9] * 2
  table = benchmark.markdown({"rows": rows})
  assert "| simulate | 2.000 | 3.000 | 1.500 |" in table


def test_rounds_that_cannot_be_are_told(benchmark, capsys):
  with pytest.raises(SystemExit):
    benchmark.main(["--rounds=0"])
  assert "--rounds=0 must be at least 1" in capsys.readouterr().err


def test_the_traced_network_is_as_fast_as_the_hand_written():
  rows = json.loads((ROOT / "benchmarks" / "results" / "traced_speed.json").read_text())["rows"]
  assert len(rows) == 5
  for row in rows:
    assert row["ratio"] <= 1.03, row
