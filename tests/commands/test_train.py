"""The two commands as a user runs them: end to end, killed and resumed, on two hosts."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from running import DIGITS, ROOT, TINY, run_train

import tcljax
from tcljax.commands import convert, train
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.reporting.progress import PhaseLog
from tcljax.runs import config_forms, resume
from tcljax.runs.experiment import make_experiment
from tcljax.runs.workdir import ANN, TUNED, prepare_workdir
from tcljax.training import optimizers
from tcljax.training.step import TrainState, new_state


def final_state(workdir, phase):
  """The state in the newest checkpoint of a phase, weights, thresholds and optimizer."""
  experiment = make_experiment(config_forms.from_json(workdir / "config.json"))
  variables = jax.eval_shape(experiment.initial_variables)
  trained, optimizer = "params", experiment.train.optimizer
  if phase == TUNED:
    variables["clipping"] = experiment.abstract_clipping()
    trained, optimizer = "clipping", experiment.tune.optimizer
  transformation = optimizers.train_only({trained: optimizer.transformation(1)})
  state = jax.eval_shape(lambda variables: new_state(variables, transformation), variables)
  with Checkpoints(workdir / phase) as checkpoints:
    wanted = parallel.abstract_replicated(parallel.data_mesh(), state._asdict())
    return TrainState(**checkpoints.restore(wanted))


def bits(tree):
  return {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


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
    ("ann", 10),
    ("ann", 20),
    ("ann", 30),
    ("ann", 40),
    ("tuned", 6),
  ]
  # Run again: nothing is trained, and the report is the same.
  before = (workdir / "results.json").read_text()
  assert run_train(workdir) == 0
  out = capsys.readouterr().out
  assert "ann: 40 of 40 steps are done already" in out and "40/40" not in out
  assert "SNN, tuned %" in out and "act_dense1" in out
  assert (workdir / "results.json").read_text() == before


def test_weights_are_frozen_in_phase_2(workdir):
  """Bit for bit: what phase 1 left is what phase 2 saved beside its thresholds."""
  ann, tuned = (final_state(workdir, phase) for phase in (ANN, TUNED))
  assert int(ann.step) == 40 and int(tuned.step) == 6
  for collection in ("params", "batch_stats"):
    assert bits(ann.variables[collection]) == bits(tuned.variables[collection])
  size = sum(np.size(a) for a in jax.tree.leaves(tuned.variables["clipping"]))
  moments = [a for a in jax.tree.leaves(tuned.opt_state) if np.ndim(a)]
  assert sum(map(np.size, moments)) == 2 * size


@pytest.mark.slow
@pytest.mark.parametrize("phase", [ANN, TUNED])
def test_killed_and_resumed_ends_with_the_same_bits(workdir, tmp_path, phase):
  stopped, every_step = tmp_path / "stopped", "--config.log_every=1"
  code = (
    "import sys, os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'; "
    "from tcljax.commands.train import main; sys.exit(main())"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code, DIGITS, f"--workdir={stopped}", *TINY, every_step],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    stdout=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 120
  while not list((stopped / phase).glob("*.files.json")) and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
  with Checkpoints(stopped / phase) as checkpoints:
    last = {ANN: 40, TUNED: 6}[phase]
    assert 0 < checkpoints.latest_step() < last
  assert run_train(stopped, every_step) == 0
  assert bits(final_state(stopped, TUNED)) == bits(final_state(workdir, TUNED))
  assert (stopped / "results.json").read_text() == (workdir / "results.json").read_text()
  steps = [
    (r["phase"], r["step"])
    for r in map(json.loads, (stopped / "metrics.jsonl").read_text().splitlines())
  ]
  assert steps == [("ann", n) for n in range(1, 41)] + [("tuned", n) for n in range(1, 7)]


def test_the_log_of_a_stopped_run_is_cut_back_to_its_checkpoint(tmp_path):
  path = tmp_path / "metrics.jsonl"
  lines = [
    {"phase": phase, "step": step, "loss": 0.0}
    for phase, step in [("ann", 1), ("ann", 2), ("tuned", 1), ("tuned", 2), ("tuned", 3)]
  ]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"phase": "tu')
  with contextlib.closing(PhaseLog(tmp_path, "tuned", steps=9, every=1)) as log:
    log.begin(1)
  assert [json.loads(line) for line in path.read_text().splitlines()] == lines[:3]


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
  assert network.spiking.time_steps == 4 and network.metadata["dataset"] == "digits"
  assert network(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)
  # Again into the same place: replaced.
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={output}"]) == 0


@pytest.mark.slow
def test_rate_readout_poisson_input_and_cross_entropy(tmp_path):
  assert (
    run_train(
      tmp_path / "run",
      "--config.snn.readout=rate",
      "--config.snn.encoding=poisson",
      "--config.tune.objective=cross_entropy",
      "--config.tune.calibration=least_squares",
      "--config.tune.per_channel=False",
      "--config.data.validation=100",
      "--config.train.optimizer.name=adamw",
      "--config.train.optimizer.learning_rate=0.01",
    )
    == 0
  )
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert "readout" in results["thresholds"]
  assert (
    convert.main(["convert.py", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'snn'}"])
    == 0
  )
  assert tcljax.load(tmp_path / "snn").graph.nodes[-1].name == "readout"


@pytest.mark.slow
def test_tuning_within_a_limit_of_time(tmp_path, capsys):
  """The number of steps is chosen once and kept: a second run has nothing left to do."""
  workdir, flag = tmp_path / "run", "--config.tune.minutes=0.05"
  assert run_train(workdir, flag) == 0
  steps = json.loads((workdir / "tuning_steps.json").read_text())["steps"]
  assert f"{steps} tuning steps fit into 0.05 minutes" in capsys.readouterr().out
  records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  assert records[-1]["phase"] == "tuned" and records[-1]["step"] == steps
  assert run_train(workdir, flag) == 0
  assert f"tuned: {steps} of {steps} steps are done already" in capsys.readouterr().out
  (workdir / "tuning_steps.json").unlink()
  experiment = make_experiment(config_forms.from_json(workdir / "config.json"))
  with pytest.raises(ValueError, match="is not finished, its phase 'tuned' has not begun"):
    resume.restore_trained(experiment, workdir)
  (workdir / "tuning_steps.json").write_text("{}")
  with pytest.raises(ValueError, match=r"tuning_steps\.json cannot be read: .*; remove it and"):
    resume.restore_trained(experiment, workdir)


@pytest.mark.slow
def test_two_hosts_do_what_one_does(tmp_path):
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]

  def run(command, *arguments):
    processes = [
      subprocess.Popen(
        [sys.executable, ROOT / command, *arguments, "--multihost"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
          **os.environ,
          "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
          "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
          "JAX_NUM_PROCESSES": "2",
          "JAX_PROCESS_ID": str(i),
        },
      )
      for i in (0, 1)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "test images" in outputs[0] and "test images" not in outputs[1]

  short = (*TINY, "--config.train.steps=4", "--config.tune.steps=2", "--config.log_every=1")
  run("train.py", DIGITS, f"--workdir={tmp_path / 'run'}", *short)
  assert train.main(["train.py", DIGITS, f"--workdir={tmp_path / 'alone'}", *short]) == 0
  # The same batches and the same arithmetic, but for the order of sums over devices.
  alone, together = (
    [
      json.loads(line)["loss"]
      for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    ]
    for name in ("alone", "run")
  )
  np.testing.assert_allclose(together, alone, rtol=0.02)
  two = json.loads((tmp_path / "run" / "results.json").read_text())
  run("convert.py", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'snn'}")
  assert json.loads((tmp_path / "snn" / "results.json").read_text())["snn"] == two["snn"]


@pytest.mark.parametrize("look", ["exists", "iterdir"])
def test_another_host_may_write_its_config_meanwhile(tmp_path, monkeypatch, look):
  config = config_forms.parse(config_forms.base_config())
  original = getattr(pathlib.Path, look)

  def look_and_be_overtaken(path):
    found = original(path)
    found = found if isinstance(found, bool) else list(found)
    (tmp_path / "config.json").write_text(config_forms.to_json(config))
    return found

  monkeypatch.setattr(pathlib.Path, look, look_and_be_overtaken)
  assert prepare_workdir(tmp_path, config) == tmp_path
  assert (tmp_path / "config.json").read_text() == config_forms.to_json(config)


def get_config(name, *variants):
  source = (ROOT / "configs" / f"{name}.py").read_text()
  scope = {}
  exec(compile(source, name, "exec"), scope)
  return source, scope["get_config"](*variants)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "configs").glob("*.py"))])
def test_configs_are_whole(name):
  source, config = get_config(name)
  assert config.name == name
  assert f"python train.py --config=configs/{name}.py" in source
  base = config_forms.parse(config_forms.base_config())
  assert config_forms.differences(base, config_forms.parse(config))


@pytest.mark.parametrize("name", ["cnn", "vgg16", "resnet18", "resnet20"])
def test_variants_of_configs(name):
  _, plain = get_config(name)
  _, config = get_config(name, "cifar100,joint")
  assert (config.name, config.data.name) == (f"{name}-cifar100-joint", "cifar100")
  assert config.joint.through == "snn" and config.snn.time_steps == 4 and config.tune.at == ()
  changed = {
    line.partition(":")[0]
    for line in config_forms.differences(*map(config_forms.parse, (plain, config)))
  }
  assert not {field for field in changed if field.startswith(("train.", "model.", "eval."))}
  _, config = get_config(name, "quantized")
  assert config.joint.through == "quantized" and config.snn.time_steps == 8
  _, config = get_config(name, "scratch")
  assert config.joint.start == "scratch" and config.joint.optimizer == config.train.optimizer
  with pytest.raises(ValueError, match="variant of the config='joined' is unknown"):
    get_config(name, "joined")


def test_the_argument_of_a_config_reaches_it(capsys):
  # It names a set that is not prepared, and a field that is given beside it still counts.
  status = train.main(
    [
      "train.py",
      f"--config={ROOT / 'configs/vgg16.py'}:cifar100",
      "--config.data.data_dir=/nowhere",
    ]
  )
  assert status == 2
  assert "data set 'cifar100' is not prepared in /nowhere" in capsys.readouterr().err
  assert train.main(["train.py", f"--config={ROOT / 'configs/vgg16.py'}:imagenet"]) == 2
  assert "'imagenet' is unknown: choose one of cifar100" in capsys.readouterr().err


def run_digits(workdir, seed):
  """The config as it stands, on one device as a user has it; its results."""
  done = subprocess.run(
    [sys.executable, ROOT / "train.py", DIGITS, f"--workdir={workdir}", f"--config.seed={seed}"],
    env={**os.environ, "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return json.loads((workdir / "results.json").read_text())


def check_digits(results):
  assert results["images"] == 360 and results["ann"] >= 98
  assert results["ann"] - results["snn"]["8"] <= 1.0
  assert results["ann"] - results["snn"]["32"] <= 0.3


@pytest.mark.slow
def test_digits_reach_what_the_readme_says(tmp_path):
  results = run_digits(tmp_path / "run", seed=0)
  check_digits(results)
  calibrated = results["earlier_stages"]["calibrated"]["1"]
  assert results["snn"]["1"] > calibrated + 3  # tuning pays at few steps


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_digits_with_other_seeds(tmp_path, seed):
  check_digits(run_digits(tmp_path / "run", seed))
