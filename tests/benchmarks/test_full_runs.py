"""The benchmark of full training: its runs in small sizes, in their order, and what it keeps."""

import json
import pathlib
import re
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
  assert f"| digits-joint-2 | {second['ann']:.2f} | tuned | " in table
  assert f" | {at_2:.2f} | " in table
  with monkeypatch.context() as patch:
    patch.setattr(benchmark, "_run", lambda *_: pytest.fail("measured twice"))
    assert benchmark.main(arguments) == 0


@pytest.mark.slow
def test_it_stops_after_its_minutes_and_goes_on(benchmark, tmp_path, capfd):
  output = tmp_path / "table"
  many = ("--config.train.steps=1000000", "--config.checkpoint_every=1000000")
  arguments = ["digits", f"--workdir={tmp_path}", f"--output={output}", *TINY, *many]
  begun = []
  for _ in range(2):
    assert benchmark.main([*arguments, "--minutes=0.4"]) == 128 + signal.SIGTERM
    captured = capfd.readouterr()
    (step,) = re.findall(r"stopped after step (\d+) of 1000000", captured.err)
    begun.append(int(step))
  assert 0 < begun[0] < begun[1] and f"ann: {begun[0]} of 1000000 steps are done" in captured.out
  assert not output.with_suffix(".json").exists()


def test_no_run_begins_when_the_minutes_are_over(benchmark, monkeypatch, capsys):
  monkeypatch.setattr(benchmark.subprocess, "Popen", lambda *_: pytest.fail("a run began"))
  assert benchmark._run([], benchmark.time.monotonic()) == 128 + signal.SIGTERM
  assert "the minutes are over; the same command goes on" in capsys.readouterr().err


def test_ctrl_c_is_left_to_the_run(benchmark, monkeypatch):
  """The terminal sends it to both; at a second signal a run would end before it has saved."""

  class Process:
    waited = 0

    def wait(self, timeout=None):
      self.waited += 1
      if self.waited == 1:
        raise KeyboardInterrupt
      return 130

    def terminate(self):
      pytest.fail("a second signal")

  monkeypatch.setattr(benchmark.subprocess, "Popen", lambda *_: Process())
  assert benchmark._run([], float("inf")) == 130


def test_a_run_that_goes_on_has_no_time(benchmark, tmp_path, monkeypatch):
  results = {
    "images": 9,
    "ann": 99.5,
    "clipped": 98.5,
    "stage": "tuned",
    "snn": {"4": 97.5},
    "earlier_stages": {"earlier run": {"4": 11.0}},
  }

  def run(arguments, ends):
    (workdir,) = (pathlib.Path(a[10:]) for a in arguments if a.startswith("--workdir="))
    workdir.mkdir(exist_ok=True)
    (workdir / "results.json").write_text(json.dumps(results))
    return 0

  monkeypatch.setattr(benchmark, "_run", run)
  (tmp_path / "digits").mkdir()
  output = tmp_path / "table"
  arguments = [f"--workdir={tmp_path}", f"--output={output}"]
  assert benchmark.main(arguments) == 0
  first, second = json.loads(output.with_suffix(".json").read_text())["rows"]
  assert first["seconds"] is None and second["seconds"] == 0
  line = "| digits | 99.50 | tuned | | | 97.50 | | | | | 98.50 | |"
  assert line in output.with_suffix(".md").read_text()

  # What a run goes on from is made again where its workdir is gone.
  names = ["digits", "digits-joint-2"]
  there = {name: tmp_path / name for name in names}
  gone = {name: tmp_path / "gone" / name for name in names}
  assert benchmark._in_order(names, {"digits"}, there) == ["digits-joint-2"]
  assert benchmark._in_order(names, {"digits"}, gone) == names
  assert benchmark._in_order(names, set(names), gone) == []

  output.with_suffix(".json").write_text(
    json.dumps({"command": "python benchmarks/full_runs.py", "rows": [{"run": "digits"}]})
  )
  with pytest.raises(SystemExit, match="cannot be read"):
    benchmark.main(arguments)


@pytest.mark.parametrize(
  "flags, message",
  [
    (["resnet99"], "resnet99: choose from digits, digits-joint-2"),
    (["--seed=1"], "--seed=1: runs come first, and only --config.FIELD=VALUE may follow"),
    (["--minutes=-1"], "--minutes=-1.0 must be finite and not negative"),
    (["--minutes=nan"], "--minutes=nan must be finite"),
  ],
)
def test_bad_flags(benchmark, tmp_path, capsys, flags, message):
  with pytest.raises(SystemExit):
    benchmark.main([*flags, f"--output={tmp_path / 'table'}"])
  assert message in capsys.readouterr().err


def test_every_run_has_a_config_and_comes_after_what_it_goes_on_from():
  benchmark = load_benchmark("full_runs")
  names = list(benchmark._RUNS)
  workdirs = {name: pathlib.Path("runs") / "none" / name for name in names}
  assert benchmark._in_order(["vgg16-joint-4"], (), workdirs) == ["vgg16", "vgg16-joint-4"]
  assert benchmark._in_order(names, (), workdirs) == names
  for name, run in benchmark._RUNS.items():
    arguments = benchmark._arguments(name, pathlib.Path("runs") / name)
    path, _, _ = arguments[0].removeprefix("--config=").partition(":")
    assert pathlib.Path(path).exists()
    assert bool(run.after) == any(a.startswith("--config.pretrained=") for a in arguments)
