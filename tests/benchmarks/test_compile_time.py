"""The benchmark of compiling: its table, and a part of it in small."""

import json

import pytest
from running import ROOT, load_benchmark

from tcljax.kernels import xla_options


@pytest.fixture
def benchmark(monkeypatch):
  monkeypatch.setattr(xla_options, "_REPEATS", xla_options._REPEATS)  # which a part may change
  return load_benchmark("compile_time")


@pytest.mark.full
@pytest.mark.parametrize("what", ["calibrate", "tune"])
def test_a_part_is_measured_in_processor_seconds(benchmark, monkeypatch, what):
  monkeypatch.setattr(benchmark, "_IMAGES", 8)
  monkeypatch.setattr(benchmark, "_BATCH", 8)
  found = benchmark.measure("cnn", what, "each")
  assert found.keys() == {"seconds", "compiling"}
  assert min(found.values()) > 0
  assert xla_options._REPEATS == float("inf")


def test_the_table_has_both_ways(benchmark):
  each = {"seconds": 60.0, "compiling": 50.0, "peak_mib": 900}
  shared = {"seconds": 20.0, "compiling": 10.0, "peak_mib": 800}
  rows = [{"model": "resnet44", "what": "tune", "each": each, "shared": shared}]
  table = benchmark.markdown({"rows": rows})
  assert "| tune, resnet44 | 60.0 | 50.0 | 900 | 20.0 | 10.0 | 800 |" in table


def test_deep_networks_are_tuned_after_half_the_time_of_compiling():
  """As it was measured on the machine that the table names."""
  found = json.loads((ROOT / "benchmarks" / "results" / "compile_time.json").read_text())
  [row] = [row for row in found["rows"] if (row["model"], row["what"]) == ("resnet44", "tune")]
  for key in ("seconds", "compiling"):
    assert row["shared"][key] <= 0.5 * row["each"][key]
