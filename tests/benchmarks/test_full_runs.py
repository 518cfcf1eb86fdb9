"""The benchmark of full training: its runs in small sizes, in their order, and what it keeps."""

import json
import signal

import pytest
from running import TINY, load_benchmark


@pytest.fixture
def benchmark(monkeypatch):
  """The benchmark with a network of digits and what goes on from it."""
  module = load_benchmark("full_runs")
  runs = {
    "digits": module._Run("digits"),
    "digits-joint-2": module._Run("digits:joint", "digits", 2),
  }
  monkeypatch.setattr(module, "_RUNS", runs)
  return module


@pytest.mark.slow
def test_a_joint_run_goes_on_from_its_network(benchmark, tmp_path, monkeypatch):
  output = tmp_path / "out" / "table"
  arguments = [
    "digits-joint-2",
    f"--workdir={tmp_path / 'run'}",
    f"--output={output}",
    *(flag for flag in TINY if "time_steps" not in flag),
    "--config.eval.time_steps=4",
    "--config.joint.steps=2",
  ]
  assert benchmark.main(arguments) == 0
  found = json.loads(output.with_suffix(".json").read_text())
  first, second = found["rows"]
  assert [first["run"], second["run"]] == ["digits", "digits-joint-2"]
  assert list(first["stages"]) == ["calibrated", "tuned"]
  assert list(second["stages"]) == ["tuned", "trained jointly"]
  assert first["ann"] == second["ann"] and first["seconds"] > 0 and second["seconds"] > 0
  config, results = (
    json.loads((tmp_path / "run" / "digits-joint-2" / f"{name}.json").read_text())
    for name in ("config", "results")
  )
  assert config["snn"]["time_steps"] == 2
  assert config["model"]["dtype"] == "bfloat16"
  assert second["stages"]["trained jointly"] == {
    t: round(results["snn"][t], 2) for t in ("1", "2", "4")
  }
  table = output.with_suffix(".md").read_text()
  at_2 = second["stages"]["trained jointly"]["2"]
  assert "| digits-joint-2 | " in table and f" | {at_2:.2f} | " in table
  monkeypatch.setattr(benchmark.train, "main", lambda argv: pytest.fail("measured twice"))
  assert benchmark.main(arguments) == 0


@pytest.mark.parametrize(
  "flags, message",
  [
    (["resnet99"], "resnet99: choose from digits, digits-joint-2"),
    (["--seed=1"], "--seed=1: only --config.FIELD=VALUE may follow"),
    (["--minutes=-1"], "--minutes=-1.0 must not be negative"),
  ],
)
def test_bad_flags(benchmark, tmp_path, capsys, flags, message):
  with pytest.raises(SystemExit):
    benchmark.main([*flags, f"--output={tmp_path / 'table'}"])
  assert message in capsys.readouterr().err


def test_it_stops_after_its_minutes_and_keeps_what_it_has(benchmark, tmp_path, monkeypatch):
  """The signal is the one by which `train.py` saves and ends; its status is handed on."""
  sent, output = [], tmp_path / "table"
  monkeypatch.setattr(benchmark.os, "kill", lambda process, number: sent.append(number))

  def run(argv):
    while not sent:
      pass
    return 143

  monkeypatch.setattr(benchmark.train, "main", run)
  assert benchmark.main([f"--output={output}", "--minutes=0.001"]) == 143
  assert sent == [signal.SIGTERM] and not output.with_suffix(".json").exists()


def test_every_run_has_a_config_and_comes_after_what_it_goes_on_from():
  benchmark = load_benchmark("full_runs")
  names = list(benchmark._RUNS)
  assert benchmark._in_order(["vgg16-joint-4"]) == ["vgg16", "vgg16-joint-4"]
  assert benchmark._in_order(names) == names
  for name, run in benchmark._RUNS.items():
    arguments = benchmark._arguments(name, benchmark.pathlib.Path("runs") / name)
    path, _, _ = arguments[0].removeprefix("--config=").partition(":")
    assert benchmark.pathlib.Path(path).exists()
    assert bool(run.after) == any(a.startswith("--config.pretrained=") for a in arguments)
