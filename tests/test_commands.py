"""The two commands as a user runs them: end to end, resumed, and with bad input."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax import config as configs
from tcljax import fitting, optim, parallel, training
from tcljax.checkpoints import Checkpoints
from tcljax.commands import convert, train
from tcljax.experiment import make_experiment

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = f"--config={ROOT / 'configs' / 'digits.py'}"
TINY = ("--config.model.stages=((4,),(8,))", "--config.model.dense=(16,)",
        "--config.train.steps=40", "--config.train.batch_size=64", "--config.tune.steps=6",
        "--config.tune.batch_size=32", "--config.tune.images=128", "--config.snn.steps=4",
        "--config.eval.steps=8", "--config.log_every=10", "--config.checkpoint_every=3")


def run_train(workdir, *overrides):
  return train.main(["train.py", DIGITS, f"--workdir={workdir}", *TINY, *overrides])


def final_state(workdir, phase):
  """The state in the newest checkpoint of a phase, weights, thresholds and optimizer."""
  experiment = make_experiment(configs.from_json(workdir / "config.json"))

  def make():
    if phase == training.ANN:
      return experiment.initial_variables()
    return {**experiment.initial_variables(), "clipping": jax.tree.map(
        lambda a: jnp.zeros(a.shape, a.dtype), experiment.abstract_clipping())}

  trained, optimizer = {training.ANN: ("params", experiment.train_optimizer),
                        training.TUNED: ("clipping", experiment.tune_optimizer)}[phase]
  transformation = optim.train_only(optimizer.transformation(1), [trained])
  with Checkpoints(workdir / phase) as checkpoints:
    return fitting.restore_or_new(checkpoints, parallel.data_mesh(), make, transformation)


def bits(tree):
  return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp("commands") / "run"
  assert run_train(path) == 0
  return path


def test_train_reports(workdir, capsys):
  results = json.loads((workdir / "results.json").read_text())
  assert results["images"] == 360 and list(results["snn"]) == ["1", "2", "4", "8"]
  assert results["ann"] > 30 and 0 < results["clipped"] <= 100
  assert set(results["thresholds"]) == {"act1_1", "act2_1", "act_dense1"}
  assert all(row["tuned"] != row["calibrated"] for row in results["thresholds"].values())
  assert (workdir / "accuracy.png").read_bytes().startswith(b"\x89PNG")
  assert list((workdir / "tensorboard").glob("*/events*"))
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  assert [(r["phase"], r["step"]) for r in records] == [
      ("ann", 10), ("ann", 20), ("ann", 30), ("ann", 40), ("tuned", 6)]
  # Run again: nothing is trained, and the report is the same.
  before = (workdir / "results.json").read_text()
  assert run_train(workdir) == 0
  out = capsys.readouterr().out
  assert "ann: 40 of 40 steps are done already" in out and "40/40" not in out
  assert "SNN, tuned %" in out and "act_dense1" in out
  assert (workdir / "results.json").read_text() == before


def test_weights_are_frozen_in_phase_2(workdir):
  """Bit for bit: what phase 1 left is what phase 2 saved beside its thresholds."""
  ann, tuned = (final_state(workdir, phase) for phase in (training.ANN, training.TUNED))
  assert int(ann.step) == 40 and int(tuned.step) == 6
  for collection in ("params", "batch_stats"):
    assert bits(ann.variables[collection]) == bits(tuned.variables[collection])
  size = sum(np.size(a) for a in jax.tree.leaves(tuned.variables["clipping"]))
  moments = [a for a in jax.tree.leaves(tuned.opt_state) if np.ndim(a)]
  assert sum(map(np.size, moments)) == 2 * size


@pytest.mark.parametrize("phase", [training.ANN, training.TUNED])
def test_killed_and_resumed_ends_with_the_same_bits(workdir, tmp_path, phase):
  stopped = tmp_path / "stopped"
  code = ("import sys, os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'; "
          "from tcljax.commands.train import main; sys.exit(main())")
  process = subprocess.Popen(
      [sys.executable, "-c", code, DIGITS, f"--workdir={stopped}", *TINY], cwd=ROOT,
      env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
  deadline = time.monotonic() + 120
  while not list((stopped / phase).glob("*.files.json")) and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
  with Checkpoints(stopped / phase) as checkpoints:
    last = {training.ANN: 40, training.TUNED: 6}[phase]
    assert 0 < checkpoints.latest_step() < last
  assert run_train(stopped) == 0
  assert bits(final_state(stopped, training.TUNED)) == bits(final_state(workdir, training.TUNED))
  assert (stopped / "results.json").read_text() == (workdir / "results.json").read_text()
  steps = [(r["phase"], r["step"]) for r in map(
      json.loads, (stopped / "metrics.jsonl").read_text().splitlines())]
  assert steps == sorted(set(steps)), "a step stands in the metrics twice"


def test_convert_writes_a_network_that_loads_alone(workdir, tmp_path, capsys):
  output = tmp_path / "snn"
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={output}"]) == 0
  out = capsys.readouterr().out
  assert "verified" in out and "spikes/neuron" in out and "agrees with ANN %" in out
  converted = json.loads((output / "results.json").read_text())
  trained = json.loads((workdir / "results.json").read_text())
  assert converted["images"] == 360 and converted["ann"] == trained["ann"]
  for steps, percent in trained["snn"].items():
    assert abs(converted["snn"][steps] - percent) <= 100 * 2 / 360 + 1e-3
  network = tcljax.load(output)
  assert network.spiking.steps == 4 and network.metadata["dataset"] == "digits"
  assert network(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)
  # Again into the same place: replaced.
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={output}"]) == 0


def test_rate_readout_poisson_input_and_cross_entropy(tmp_path):
  assert run_train(
      tmp_path / "run", "--config.snn.readout=rate", "--config.snn.encoding=poisson",
      "--config.tune.objective=cross_entropy", "--config.tune.calibration=least_squares",
      "--config.tune.per_channel=False", "--config.data.validation=100",
      "--config.train.optimizer.name=adamw", "--config.train.optimizer.learning_rate=0.01") == 0
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert "readout" in results["thresholds"]
  assert convert.main(["convert.py", f"--workdir={tmp_path / 'run'}",
                       f"--output={tmp_path / 'snn'}"]) == 0
  assert tcljax.load(tmp_path / "snn").graph.nodes[-1].name == "readout"


def complaint(capsys, status=2):
  """The one line that a command printed to stderr."""
  captured = capsys.readouterr()
  assert captured.err.count("\n") == 1, captured.err
  assert "Traceback" not in captured.err and "steps/s" not in captured.out
  return captured.err


@pytest.mark.parametrize("override, message", [
    ("--config.data.name=digit", "data set 'digit' is unknown; the nearest is 'digits'"),
    ("--config.data.name=mnist", "not prepared in .*; run: pip install .* tfds build mnist"),
    ("--config.snn.steps=0", "snn.steps=0: a simulation takes at least 1 step"),
    ("--config.snn.chunk=3", "snn.chunk=3 does not divide steps=4"),
    ("--config.eval.steps=0", "eval.steps=0 must be at least 1"),
    ("--config.snn.readout=mean", "snn.readout='mean' is unknown: choose one of membrane, rate"),
    ("--config.snn.rest=soft", "--config has no field 'rest'; did you mean 'reset'"),
    ("--config.snn.rest.deep=1", "--config has no field 'rest'"),
    ("--config.seed=-1", "seed=-1 must be at least 0"),
    ("--config.tune.v_init=nan", "tune.v_init=nan must be finite"),
    ("--config.tune.steps=0", "tune.steps=0 must be at least 1"),
    ("--config.model.stages=(8,)", "model .*stages=.* 'int' object is not iterable"),
    ("--config.model.dense=(-1,)", "model .*dense="),
    ("--config.qwerty=1", "--config has no field 'qwerty'; see tcljax/config.py"),
    ("--config.snn.steps=many", "--config.snn.steps=many: invalid literal for int"),
    ("--confg.snn.steps=4", "Unknown command line flag 'confg.snn.steps'"),
    ("steps=4", "'steps=4' is not a flag"),
    ("--config.tune.percentile=100.0", "tune.percentile=100.0 must lie strictly between 0 and 100"),
    ("--config.tune.percentile=0.0", "tune.percentile=0.0 must lie strictly between 0 and 100"),
    ("--config.tune.calibration=median", "tune.calibration='median' is unknown"),
    ("--config.tune.objective=mse", "tune.objective='mse' is unknown"),
    ("--config.tune.batch_size=12", "tune.batch_size=12 cannot be split over 8 devices"),
    ("--config.train.batch_size=0", "train.batch_size=0 must be at least 1"),
    ("--config.train.label_smoothing=1.0", "train.label_smoothing=1.0 must be in"),
    ("--config.train.optimizer.name=lion", "train.optimizer.name='lion' is unknown"),
    ("--config.model.name=alexnet", "model.name='alexnet' is unknown: choose one of cnn, vgg16"),
    ("--config.model.stages=((4,),(4,))",  # joins the two stages of TINY
     "image size 8x8 is too small for the model's 4 poolings: it takes at least 16x16"),
    ("--config.preprocessing.mean=(0.1,0.2)", "preprocessing.mean=.* has 2 values for 1 channels"),
    ("--config.preprocessing.shift=-1", "preprocessing.shift=-1"),
])
def test_bad_overrides_are_told_in_one_line(tmp_path, capsys, monkeypatch, override, message):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
  assert run_train(tmp_path / "run", override) == 2
  assert re.search(message, complaint(capsys))
  assert not (tmp_path / "run").exists()


def test_bad_command_lines(tmp_path, capsys):
  assert train.main(["train.py"]) == 2
  assert "--config is required" in complaint(capsys)
  assert train.main(["train.py", "--config=configs/nothing.py"]) == 2
  assert "nothing.py" in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={tmp_path}"]) == 2
  assert "--output is required" in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={tmp_path}", f"--output={tmp_path / 's'}"]) == 2
  assert "config.json does not exist" in complaint(capsys)
  broken = tmp_path / "broken.py"
  broken.write_text("def get_config(:\n")
  assert train.main(["train.py", f"--config={broken}"]) == 2
  assert "the config cannot be read: SyntaxError" in complaint(capsys)
  broken.write_text("from tcljax.config import base_config\n\n\ndef get_config():\n"
                    "  config = base_config()\n  config.eval.batchsize = 3\n  return config\n")
  assert train.main(["train.py", f"--config={broken}"]) == 2
  assert "--config has no field 'batchsize'; did you mean 'batch_size'?" in complaint(capsys)
  for command in (train, convert):
    assert command.main(["x", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--workdir" in out and "--multihost" in out


def test_workdir_of_another_config(workdir, capsys):
  before = {f: f.read_bytes() for f in workdir.rglob("*") if f.is_file()}
  assert run_train(workdir, "--config.snn.steps=2", "--config.train.optimizer.momentum=0.5") == 2
  line = complaint(capsys)
  assert "snn.steps: 4 -> 2; train.optimizer.momentum: 0.9 -> 0.5" in line
  assert before == {f: f.read_bytes() for f in workdir.rglob("*") if f.is_file()}


def test_workdir_of_something_else_or_unwritable(tmp_path, capsys):
  (tmp_path / "photos").mkdir()
  (tmp_path / "photos" / "cat.jpg").write_text("precious")
  assert run_train(tmp_path / "photos") == 2
  assert "is not empty and holds no config.json" in complaint(capsys)
  assert run_train(tmp_path / "photos" / "cat.jpg" / "run") == 2
  assert "cannot be written: Not a directory" in complaint(capsys)
  (tmp_path / "old").mkdir()
  (tmp_path / "old" / "config.json").write_text('{"name": "x", "gone": 1}')
  assert run_train(tmp_path / "old") == 2
  assert "does not hold the fields of this version" in complaint(capsys)
  (tmp_path / "old" / "config.json").write_text('{"name": ')
  assert run_train(tmp_path / "old") == 2
  assert "config.json cannot be read" in complaint(capsys)


def test_damaged_checkpoint_is_told_before_anything_runs(workdir, tmp_path, capsys):
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  largest = max((copy / "tuned" / "6").rglob("*"), key=lambda f: f.stat().st_size * f.is_file())
  largest.write_bytes(largest.read_bytes()[:-10])
  assert run_train(copy) == 2
  assert "tuned/6 is damaged" in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={copy}", f"--output={tmp_path / 's'}"]) == 2
  assert "tuned/6 is damaged" in complaint(capsys)
  assert not (tmp_path / "s").exists()


def test_convert_of_an_unfinished_run_and_into_a_foreign_directory(workdir, tmp_path, capsys):
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / "tuned" / "6")
  assert convert.main(["convert.py", f"--workdir={copy}", f"--output={tmp_path / 's'}"]) == 2
  assert "is not finished, 3 of 6 tuning steps are done" in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={copy}"]) == 2
  assert "is not (only) a spiking network" in complaint(capsys)
  assert convert.main(["convert.py", f"--workdir={workdir}", "--output=/dev/null/x"]) == 2
  assert "output /dev/null/x cannot be written" in complaint(capsys)


def test_divergence_stops_the_run(tmp_path, capsys):
  assert run_train(tmp_path / "run", "--config.train.optimizer.learning_rate=1e30",
                   "--config.train.optimizer.warmup_steps=0") == 1
  assert "at step" in complaint(capsys)


def test_two_hosts_do_what_one_does(workdir, tmp_path):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]

  def run(command, *arguments):
    processes = [subprocess.Popen(
        [sys.executable, ROOT / command, *arguments, "--multihost"], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
             "JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2",
             "JAX_PROCESS_ID": str(i)}) for i in (0, 1)]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "test images" in outputs[0] and "test images" not in outputs[1]

  run("train.py", DIGITS, f"--workdir={tmp_path / 'run'}", *TINY)
  one, two = (json.loads((w / "results.json").read_text()) for w in (workdir, tmp_path / "run"))
  # The same batches and the same arithmetic; sums over devices may round differently.
  assert abs(one["ann"] - two["ann"]) < 3
  for name, row in one["thresholds"].items():
    np.testing.assert_allclose(two["thresholds"][name]["tuned"], row["tuned"], rtol=0.02)
  run("convert.py", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'snn'}")
  assert json.loads((tmp_path / "snn" / "results.json").read_text())["snn"] == two["snn"]


def test_the_files_at_the_top_run_the_commands(tmp_path):
  for name in ("train.py", "convert.py"):
    done = subprocess.run([sys.executable, ROOT / name, "--nonsense"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "Unknown command line flag 'nonsense'" in done.stderr


@pytest.mark.parametrize("name", ["digits", "cnn", "vgg16"])
def test_configs_are_whole(name):
  source = (ROOT / "configs" / f"{name}.py").read_text()
  scope = {}
  exec(compile(source, name, "exec"), scope)
  config = scope["get_config"]()
  assert config.name == name
  assert f"python train.py --config=configs/{name}.py" in source
  assert configs.differences(configs.base_config(), config)


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
  example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
  monkeypatch.chdir(tmp_path)
  exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
  spiking, ann = map(float, re.findall(r"\d\.\d+", capsys.readouterr().out))
  assert ann > 0.9 and abs(spiking - ann) < 0.03
