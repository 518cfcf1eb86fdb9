"""The comparison of costs with those that others count: its figures, and what it does with them."""

import json

import numpy as np
import pytest
from running import ROOT, load_benchmark

RESULTS = ROOT / "benchmarks" / "results" / "costs_of_others.json"


@pytest.fixture
def benchmark():
  return load_benchmark("costs_of_others")


def test_the_figures_of_all_agree(benchmark):
  found = json.loads(RESULTS.read_text())
  rows = found["rows"]
  assert not any(map(benchmark.differ, rows)) and found["largest_logit_error"] < 1e-4
  assert {row["network"] for row in rows} == set(benchmark.NETWORKS)
  figures = {row["figure"] for row in rows if "neurobench" in row}
  assert figures == {
    *("footprint", "connection_sparsity", "activation_sparsity"),
    *("Effective_MACs", "Effective_ACs", "Dense"),
  }
  for name in ("plain", "residual"):
    layers = [row["tcljax"] for row in rows if row["network"] == name and "sinabs" in row]
    (total,) = (
      row["tcljax"] for row in rows if row["network"] == name and row["figure"] == "Effective_ACs"
    )
    assert len(layers) >= 3 and sum(layers) == pytest.approx(total)


@pytest.mark.slow
def test_a_figure_that_differs_ends_it_with_status_1(tmp_path, benchmark, monkeypatch, capsys):
  def counted(python, network, images):
    benchmark.export(network, images, tmp_path)
    described = json.loads((tmp_path / "network.json").read_text())
    arrays = np.load(tmp_path / "arrays.npz")
    assert [node["op"] for node in described["nodes"]][:3] == ["conv", "neurons", "conv"]
    assert arrays["act1/threshold"] > 0 and arrays["conv:1/kernel"].shape == (3, 3, 1, 16)
    figures = {"Footprint": 1, "ConnectionSparsity": 0.0, "ActivationSparsity": 0.5}
    figures["SynapticOperations"] = {"Effective_MACs": 1.0, "Effective_ACs": 2.0, "Dense": 3.0}
    logits = np.asarray(network(images)).tolist()
    return {"neurobench": figures, "sinabs": {"conv:2": 5.0}, "logits": logits}

  monkeypatch.setattr(benchmark, "counted", counted)
  monkeypatch.setattr(benchmark, "environment", lambda folder, steps: folder / "bin" / "python")
  monkeypatch.setattr(benchmark, "NETWORKS", {"plain": benchmark.NETWORKS["plain"]})
  assert benchmark.main([f"--output={tmp_path / 'table'}"]) == 1
  assert "figures differ:\n{'network': 'plain', 'figure': 'footprint'" in capsys.readouterr().err
  found = json.loads((tmp_path / "table.json").read_text())
  assert found["rows"][-1]["sinabs"] == 5.0 and found["largest_logit_error"] < 1e-5
  assert "| plain | connection_sparsity | 0 | 0 |  |" in (tmp_path / "table.md").read_text()
