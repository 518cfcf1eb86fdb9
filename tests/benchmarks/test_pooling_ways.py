"""The benchmark of the three ways to pool, in small sizes."""

import json

import pytest
from running import load_benchmark

from tcljax.runs.config_forms import base_config


@pytest.fixture
def benchmark():
  return load_benchmark("pooling_ways")


@pytest.mark.slow
def test_a_way_to_pool_is_tuned_converted_and_measured(tmp_path, benchmark, monkeypatch):
  config = base_config()
  config.model.stages, config.model.dense = ((4,),), ()
  config.model.pooling = benchmark.get_config().model.pooling
  config.train.steps = config.tune.steps = 2
  config.tune.images = 64
  config.snn.time_steps, config.tune.instalments, config.eval.time_steps = 2, 2, 4
  config.eval.batch_size = 360
  monkeypatch.setattr(benchmark, "POOLINGS", ("gate",))
  rows, shared = benchmark.measure(config, tmp_path, (2, 4))
  assert [(row["pooling"], row["thresholds"], row["T"]) for row in rows] == [
    ("gate", thresholds, t) for thresholds in ("calibrated", "tuned") for t in (2, 4)
  ]
  assert shared["images"] == 360
  assert all(row["ann_pooled_so"] == shared["ann"] for row in rows)
  assert (tmp_path / "gate" / "tuned").is_dir()


def test_figures_are_written(tmp_path, benchmark, monkeypatch):
  rows = [
    {
      "pooling": "gate",
      "thresholds": thresholds,
      "T": t,
      "accuracy": t + 0.5,
      "ann_pooled_so": 80.0,
    }
    for thresholds in ("calibrated", "tuned")
    for t in (4, 16)
  ]
  monkeypatch.setattr(benchmark, "measure", lambda *args: (rows, {"images": 9, "ann": 80.0}))
  assert benchmark.main([f"--workdir={tmp_path}", f"--output={tmp_path / 'new' / 'pooling'}"]) == 0
  found = json.loads((tmp_path / "new" / "pooling.json").read_text())
  assert found["command"] == "python benchmarks/pooling_ways.py" and found["rows"] == rows
  table = (tmp_path / "new" / "pooling.md").read_text()
  assert "| pooling | ANN pooled so | thresholds | T=4 | T=16 |" in table
  assert "| gate | 80.00 | tuned | 4.50 | 16.50 |" in table


def test_data_that_are_not_there_are_told(tmp_path, benchmark, capsys, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  assert benchmark.main([f"--workdir={tmp_path / 'run'}"]) == 2
  assert "pooling_ways: data set 'cifar10' is not prepared" in capsys.readouterr().err
  assert not (tmp_path / "run").exists()
