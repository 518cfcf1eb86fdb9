"""The benchmark of speed and memory: how its figures are put together, and its work in small."""

import json
import sys

import jax.numpy as jnp
import pytest
from running import load_benchmark

import tcljax


@pytest.fixture
def benchmark():
  return load_benchmark("speed")


def test_ratios_are_those_of_neighbours(tmp_path, benchmark, monkeypatch):
  ours = iter([10.0, 20.0, 40.0])
  rates = {False: iter([5.0, 20.0, 10.0]), True: iter([10.0, 10.0, 16.0])}

  def run(command):
    if command[0] == sys.executable:
      return {"device": "cpu", "images_per_second": next(ours), "over_ann": 1.5}, 300.0, 1.0
    return {"snn_images_per_second": next(rates["--channels-last" in command])}, 600.0, 1.0

  monkeypatch.setattr(benchmark, "run_process", run)
  output = tmp_path / "new" / "speed"
  assert (
    benchmark.main(
      ["tuning", "--rounds=3", "--spikingjelly_vgg16=rival script.py", f"--output={output}"]
    )
    == 0
  )
  found = json.loads(output.with_suffix(".json").read_text())
  assert found["command"] == "python benchmarks/speed.py --spikingjelly_vgg16=COMMAND"
  (row,) = found["rows"]
  assert row["benchmark"] == "tuning" and row["images_per_second"] == 20 and row["peak_mib"] == 300
  assert row["spikingjelly"]["default"] == {
    "images_per_second": 10,
    "peak_mib": 600,
    "ratio": 2,
  }  # of 2, 1 and 4
  assert row["over_spikingjelly"] == row["spikingjelly"]["channels last"]["ratio"] == 2
  table = output.with_suffix(".md").read_text()
  assert "## Tuning" in table and "SpikingJelly, channels last" in table


def test_the_part_for_a_gpu_compares_with_the_rival_on_one(tmp_path, benchmark, monkeypatch):
  commands = []

  def run(command):
    commands.append(command)
    ours = command[0] == sys.executable
    rate = {"device": "gpu", "images_per_second": 9.0} if ours else {"snn_images_per_second": 3.0}
    return rate, 1.0, 1.0

  monkeypatch.setattr(benchmark, "run_process", run)
  output = tmp_path / "speed"
  assert (
    benchmark.main(["gpu", "--rounds=1", "--spikingjelly_vgg16=rival", f"--output={output}"]) == 0
  )
  assert [command[-1] for command in commands if command[0] == sys.executable] == [
    "--dtype=float32",
    "--dtype=bfloat16",
  ]
  for command in commands:
    assert command[0] == sys.executable or "--device=cuda" in command
    ours = command[0] == sys.executable
    assert ("--time_steps=32" if ours else "--steps=32") in command
  rows = json.loads(output.with_suffix(".json").read_text())["rows"]
  assert [row["over_spikingjelly"] for row in rows] == [3, 3]
  assert "## GPU" in output.with_suffix(".md").read_text()


def test_a_part_measured_anew_leaves_the_others(tmp_path, benchmark, monkeypatch):
  commands = []

  def run(command):
    commands.append(command)
    return {"images_per_second": 7.0}, 1.0, 2.0

  monkeypatch.setattr(benchmark, "run_process", run)
  output = tmp_path / "speed"
  for part in ("start-up", "loading", "start-up"):
    assert benchmark.main([part, "--rounds=1", f"--output={output}"]) == 0
  (loading,) = [command for command in commands if "--what=loading" in command]
  assert "--batch_size=128" in loading  # as its row says
  rows = json.loads(output.with_suffix(".json").read_text())["rows"]
  assert [row["benchmark"] for row in rows] == ["loading"] + 3 * ["start-up"]
  assert rows[0]["images_per_second"] == 7 and rows[1]["over_import_of_jax_flax_optax"] == 1


def test_a_process_is_measured(benchmark):
  large = b"x" * (300 * 2**20)  # memory of the process that measures must not count
  answer, peak, seconds = benchmark.run_process(
    [sys.executable, "-c", "x = bytearray(100 * 2**20); print('first'); print('{\"a\": 1}')"]
  )
  assert answer == {"a": 1} and 100 < peak < 200 and seconds > 0
  del large
  with pytest.raises(SystemExit, match=r"failed: .*no such thing"):
    benchmark.run_process([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.parametrize(
  "argument, message",
  [
    ("speeds", "speeds: choose from simulation, tuning, growth, memory, loading, start-up, gpu"),
    ("--rounds=0", "--rounds=0 must be at least 1"),
  ],
)
def test_bad_input(benchmark, capsys, argument, message):
  with pytest.raises(SystemExit):
    benchmark.main([argument])
  assert message in capsys.readouterr().err


@pytest.mark.slow
def test_work_in_small(capsys, monkeypatch):
  workload = load_benchmark("workload")
  monkeypatch.setattr(workload, "MATRIX", 8)
  monkeypatch.setattr(workload, "_LOADED", 64)
  assert workload.main(["--what=simulation", "--batch_size=1", "--time_steps=2", "--rounds=1"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["images_per_second"] > 0 and found["temporary_mib"] > 0
  assert workload.main(["--what=loading", "--batch_size=8"]) == 0
  assert json.loads(capsys.readouterr().out)["images_per_second"] > 0


def test_operations_are_those_of_the_layers():
  workload = load_benchmark("workload")
  model = tcljax.create_model("vgg16", 10, stages=((4,), (8,)), dense=(), batch_norm=False)
  x = jnp.ones((2, 8, 8, 3))
  variables = {
    "params": {
      "conv1_1": {"kernel": jnp.ones((3, 3, 3, 4)), "bias": jnp.ones(4)},
      "conv2_1": {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)},
      "head": {"kernel": jnp.ones((32, 10)), "bias": jnp.ones(10)},
    }
  }
  expected = 2 * (2 * 64 * 27 * 4 + 2 * 16 * 36 * 8 + 2 * 32 * 10)
  assert workload.operations(model.apply, variables, x) == expected
