"""`train.py` as a user runs it: end to end, killed and resumed, on two hosts."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from browsing import CHROMIUM, check_page
from running import DIGITS, ROOT, TINY, run_train
from states import bits, experiment_of, restored

import tcljax
from tcljax.commands import convert, train
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.runs import resume, stages
from tcljax.runs.workdir import ANN, TUNED
from tcljax.training import optimizers
from tcljax.training.step import TrainState, new_state


def final_state(workdir, phase):
  """The state in the newest checkpoint of a phase, weights, thresholds and optimizer."""
  experiment = experiment_of(workdir)
  variables = jax.eval_shape(experiment.initial_variables)
  trained, optimizer = "params", experiment.train.optimizer
  if phase == TUNED:
    variables["clipping"] = jax.eval_shape(lambda: experiment.initial_clipping(1.0))
    trained, optimizer = "clipping", experiment.tune.optimizer
  transformation = optimizers.train_only({trained: optimizer.transformation(1)})
  state = jax.eval_shape(lambda variables: new_state(variables, transformation), variables)
  return TrainState(**restored(workdir / phase, state._asdict()))


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
  # Run again: nothing is trained, and the results are the same.
  before = (workdir / "results.json").read_text()
  assert run_train(workdir, "--report") == 0
  out = capsys.readouterr().out
  assert "ann: 40 of 40 steps are done already" in out and "40/40" not in out
  page = (workdir / "report" / "index.html").read_text()
  assert "digits: training" in page and "report/index.html" in out
  assert "Left out" not in page
  learned = json.loads((workdir / "report" / "figures" / "learning.json").read_text())
  assert [record["step"] for record in learned["ann"]] == [10, 20, 30, 40]
  assert "tune.steps</th><td>6<" in page  # the config
  assert "SNN, tuned %" in out and "act_dense1" in out
  assert (workdir / "results.json").read_text() == before


def test_without_a_report_the_network_is_not_looked_at(workdir, monkeypatch, capsys):
  monkeypatch.setattr(stages, "report_training", None)
  assert run_train(workdir) == 0
  out = capsys.readouterr().out
  assert "report" not in out and "written to" in out


@pytest.mark.slow
def test_the_page_of_a_run_is_that_of_its_network_with_its_learning_curves(workdir, tmp_path):
  """What `convert.py` shows of the network that it writes, `train.py` shows of the same."""
  run, output = tmp_path / "run", tmp_path / "snn"
  shutil.copytree(workdir, run)
  assert run_train(run, "--report") == 0
  assert convert.main(["convert.py", f"--workdir={run}", f"--output={output}"]) == 0
  pages = [(of / "report" / "index.html").read_text() for of in (run, output)]
  trained, converted = (re.findall(r"<h2[^>]*>([^<]+)", page) for page in pages)
  assert trained[0] == "Learning curves" and converted[-1] == "Left out"
  assert trained[1:] == converted[:-1]
  for title in ("Where the error comes from", "Costs by layer", "Answers over time"):
    assert title in trained
  assert {"Graph of the network", "Operations", "How it was made"} <= {*trained}
  pres = [re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL) for page in pages]
  assert pres[0] == pres[1] and "conv_general_dilated" in pres[0][0]
  figures = [of / "report" / "figures" for of in (run, output)]
  names = [{file.name for file in folder.glob("*.json")} for folder in figures]
  assert names[0] - names[1] == {"learning.json"} and names[1] < names[0]
  for name in ("costs", "error_by_layer", "answers", "graph", "rates", "distributions"):
    numbers = [json.loads((folder / f"{name}.json").read_text()) for folder in figures]
    assert numbers[0] == numbers[1], name
  assert pages[0].count("data:image/png;base64,") == pages[1].count("data:image/png;base64,") > 5
  if CHROMIUM:
    check_page(run / "report" / "index.html", tmp_path)


def test_weights_are_frozen_in_phase_2(workdir):
  """Bit for bit: what phase 1 left is what phase 2 saved beside its thresholds."""
  ann, tuned = (final_state(workdir, phase) for phase in (ANN, TUNED))
  assert int(ann.step) == 40 and int(tuned.step) == 6
  for collection in ("params", "batch_stats"):
    assert bits(ann.variables[collection]) == bits(tuned.variables[collection])
  size = sum(np.size(a) for a in jax.tree.leaves(tuned.variables["clipping"]))
  moments = [a for a in jax.tree.leaves(tuned.opt_state) if np.ndim(a)]
  assert sum(map(np.size, moments)) == 2 * size


@pytest.mark.bits
@pytest.mark.slow
@pytest.mark.parametrize("phase", [ANN, TUNED])
def test_killed_and_resumed_ends_with_the_same_bits(workdir, tmp_path, phase):
  stopped = tmp_path / "stopped"
  every_step = ("--config.log_every=1", "--config.checkpoint_every=3")
  code = (
    "import sys, os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'; "
    "from tcljax.commands.train import main; sys.exit(main())"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code, DIGITS, f"--workdir={stopped}", *TINY, *every_step],
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
  assert run_train(stopped, *every_step) == 0
  assert bits(final_state(stopped, TUNED)) == bits(final_state(workdir, TUNED))
  assert (stopped / "results.json").read_text() == (workdir / "results.json").read_text()
  steps = [
    (r["phase"], r["step"])
    for r in map(json.loads, (stopped / "metrics.jsonl").read_text().splitlines())
  ]
  assert steps == [("ann", n) for n in range(1, 41)] + [("tuned", n) for n in range(1, 7)]


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
  flags = (f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'snn'}", "--noreport")
  assert convert.main(["convert.py", *flags]) == 0
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
  experiment = experiment_of(workdir)
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
  short += ("--config.tune.calibration=delivered", "--config.snn.time_steps=8")
  run("train.py", DIGITS, f"--workdir={tmp_path / 'run'}", *short)
  flags = (f"--workdir={tmp_path / 'alone'}", "--noreport")
  assert train.main(["train.py", DIGITS, *flags, *short]) == 0
  # The same batches and the same arithmetic, but for the order of sums over devices.
  alone, together = (
    [
      json.loads(line)["loss"]
      for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    ]
    for name in ("alone", "run")
  )
  np.testing.assert_allclose(together, alone, rtol=1e-4)
  delays = [(tmp_path / name / "delay.json").read_text() for name in ("alone", "run")]
  assert delays[0] == delays[1]
  two = json.loads((tmp_path / "run" / "results.json").read_text())
  assert (tmp_path / "run" / "report" / "figures" / "costs.json").is_file()
  run("convert.py", f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'snn'}")
  assert json.loads((tmp_path / "snn" / "results.json").read_text())["snn"] == two["snn"]


def run_digits(workdir, seed):
  """The config as it stands, on one device as a user has it; its results."""
  done = subprocess.run(
    [
      *(sys.executable, ROOT / "train.py", DIGITS, "--noreport"),
      *(f"--workdir={workdir}", f"--config.seed={seed}"),
    ],
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
  calibrated = results["earlier_stages"]["calibrated"]["2"]
  assert results["snn"]["2"] > calibrated + 50  # tuning pays at few steps


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_digits_with_other_seeds(tmp_path, seed):
  check_digits(run_digits(tmp_path / "run", seed))
