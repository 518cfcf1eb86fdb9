"""Weights and thresholds trained together: whole runs, and bad sections."""

import functools
import json
import re
from types import SimpleNamespace

import chex
import jax
import numpy as np
import pytest
from running import complaint, run_train
from states import bits, ended_with, experiment_of, restored

from tcljax.commands import convert
from tcljax.layers.activations import Quantized, with_activation
from tcljax.runs import config_forms, joint
from tcljax.runs.resume import read_pretrained
from tcljax.runs.training_sections import JointConfig
from tcljax.runs.workdir import JOINT
from tcljax.training.phase import Phase


@pytest.mark.slow
@pytest.mark.parametrize(
  "overrides, stages",
  [
    (
      [
        "--config.joint.through=clip",
        "--config.joint.start=scratch",
        "--config.joint.optimizer.name=sgd",
        "--config.joint.threshold_decay=1e-4",
        "--config.tune.steps=0",
      ],
      ["trained jointly"],
    ),
    (
      [
        "--config.joint.through=quantized",
        "--config.joint.start=scratch",
        "--config.joint.optimizer.name=sgd",
      ],
      ["trained jointly", "tuned"],
    ),
    (
      ["--config.joint.through=quantized", "--config.joint.objective=distillation"],
      ["calibrated", "trained jointly", "tuned"],
    ),
    (
      ["--config.joint.through=snn", "--config.joint.label_smoothing=0.1"],
      ["calibrated", "tuned", "trained jointly"],
    ),
  ],
  ids=["clip", "quantized, scratch", "quantized", "snn"],
)
def test_whole_runs(tmp_path, capsys, overrides, stages):
  workdir = tmp_path / "run"
  joint = ["--config.joint.steps=8", "--config.joint.batch_size=32", *overrides]
  assert run_train(workdir, *joint) == 0
  results = json.loads((workdir / "results.json").read_text())
  assert [*results["earlier_stages"], results["stage"]] == stages
  assert list(results["thresholds"]["act1_1"]) == stages
  assert len(set(results["thresholds"]["act1_1"].values())) == len(stages)  # all of them moved
  scratch = "calibrated" not in stages
  assert (workdir / "ann").exists() != scratch

  variables = ended_with(workdir)
  # What learned from labels before tuning is its own teacher, with the thresholds that it had then.
  weights_moved = bits(variables["params"]) != bits(variables["teacher"]["params"])
  assert weights_moved != scratch and ("clipping" in variables["teacher"]) == scratch
  assert (results["ann"] == results["clipped"]) or stages != ["trained jointly"]
  # A second run finds everything done, and what it has made converts.
  before = (workdir / "results.json").read_text()
  capsys.readouterr()
  assert run_train(workdir, *joint) == 0
  assert f"{JOINT}: 8 of 8 steps are done already" in capsys.readouterr().out
  assert (workdir / "results.json").read_text() == before
  flags = (f"--workdir={workdir}", f"--output={tmp_path / 'snn'}", "--noreport")
  assert convert.main(["convert.py", *flags]) == 0
  converted = json.loads((tmp_path / "snn" / "results.json").read_text())
  assert converted["ann"] == results["ann"]


@pytest.mark.slow
def test_the_mean_over_cycles(tmp_path, tiny_state, capsys):
  np.savez(tmp_path / "net.npz", **tiny_state)
  workdir, arguments = (
    tmp_path / "run",
    (
      f"--config.pretrained={tmp_path / 'net.npz'}",
      "--config.joint.through=quantized",
      "--config.joint.steps=9",
      "--config.joint.cycles=2",
      "--config.joint.batch_size=48",
      "--config.tune.steps=0",
    ),
  )
  assert run_train(workdir, *arguments) == 0
  experiment = experiment_of(workdir)
  network = {
    **jax.eval_shape(experiment.initial_variables),
    "clipping": jax.eval_shape(lambda: experiment.initial_clipping(1.0)),
  }
  calibrated = restored(workdir / "calibrated", {"clipping": network["clipping"]})
  config = config_forms.from_json(workdir / "config.json")
  start = {**read_pretrained(config, experiment), **calibrated}
  first, second, result = (
    restored(workdir / phase, {"variables": network})["variables"]
    for phase in ("joint-1", "joint-2", "joint")
  )
  for name in ("params", "clipping"):
    assert bits(first[name]) != bits(second[name])
    chex.assert_trees_all_close(
      result[name],
      jax.tree.map(lambda *points: sum(points) / 3, start[name], first[name], second[name]),
      rtol=1e-6,
    )
  # Statistics of the mean's own, not the mean of statistics, nor those of the last cycle.
  x = experiment.preprocess(experiment.dataset.train.images)
  _, updated = with_activation(
    experiment.ann, functools.partial(Quantized, time_steps=4, shift=0.5)
  ).apply(result, x, train=True, mutable=["batch_stats"])
  moved = lambda before: max(
    np.abs(a - b).max()
    for a, b in zip(jax.tree.leaves(updated["batch_stats"]), jax.tree.leaves(before))
  )
  assert moved(result["batch_stats"]) < 0.1 * moved(second["batch_stats"])

  capsys.readouterr()
  assert run_train(workdir, *arguments) == 0
  said = capsys.readouterr().out
  for line in ("joint-1: 4 of 4 steps", "joint-2: 4 of 4 steps", "joint: 100 of 100 steps"):
    assert f"{line} are done already" in said


@pytest.mark.parametrize(
  ("count", "batch_size", "taken"),
  [
    (107, 100, 100),
    (200, 100, 200),
    (107, 8, 104),
    (107, 40, 80),
    (1000, 48, 144),
    (1000, 200, 200),
  ],
)
def test_statistics_of_a_mean_take_no_larger_batches_than_there_are_images(
  monkeypatch, count, batch_size, taken
):
  """128 of them, in multiples of what was trained with."""
  ran = []
  phase = Phase("joint", 2, batch_size, objective=None, optimizers={"params": None}, seed=0)
  section = JointConfig(through="clip", objective="distillation", cycles=1, batch_size=batch_size)
  monkeypatch.setattr(joint, "joint_phase", lambda made, mesh, variables: (phase, variables))
  monkeypatch.setattr(
    joint, "run_in_workdir", lambda phase, start, *_: (ran.append(phase), start())[1]
  )
  made = SimpleNamespace(joint=section, dataset=SimpleNamespace(train=range(count)))
  joint.train_jointly(made, None, None, {"params": np.ones(1)})
  assert [phase.batch_size for phase in ran] == [batch_size, taken]


@pytest.mark.parametrize(
  "overrides, message",
  [
    (["through=ann"], "joint.through='ann' is unknown: choose one of clip, quantized, snn"),
    (["through=clip", "start=random"], "joint.start='random' is unknown: choose one of ann, scrat"),
    (
      ["through=clip", "optimizer.learning_rate=0.0"],
      "joint.optimizer.learning_rate=0.0 freezes the weights, .*: set it above 0",
    ),
    (
      ["through=clip", "threshold_optimizer.learning_rate=0.0"],
      "joint.threshold_optimizer.learning_rate=0.0 freezes the thresholds",
    ),
    (
      ["through=clip", "threshold_optimizer.name=lamb"],
      "joint.threshold_optimizer.name='lamb' is for trained weights: .*; choose one of sgd, adamw$",
    ),
    (
      ["through=clip", "start=scratch"],
      "joint.optimizer.name='lamb' is for trained weights: arrays that begin at zero, as biases do",
    ),
    (["through=clip", "threshold_decay=-1.0"], "joint.threshold_decay=-1.0 must be at least 0"),
    (["through=clip", "threshold=0.0"], "joint.threshold=0.0 must be above 0"),
    (["through=clip", "steps=0"], "joint.steps=0 must be at least 1"),
    (["through=clip", "batch_size=12"], "joint.batch_size=12 cannot be split over 8 devices"),
    (["through=clip", "label_smoothing=1.0"], "joint.label_smoothing=1.0 must be in"),
    (["through=clip", "objective=mse"], "joint.objective='mse' is unknown"),
    (["through=clip", "start=scratch", "objective=distillation"], "has no ANN to learn from"),
    (["through=clip", "cycles=-1"], "joint.cycles=-1 must be at least 0"),
    (["through=clip", "steps=2", "cycles=3"], "joint.cycles=3 is more than joint.steps=2"),
    (["through=clip", "start=scratch", "cycles=1"], "which joint.start='scratch' has not: set cyc"),
    (["through=snn", "cycles=1"], "which joint.through='snn' has not: set cycles to 0"),
    (["through=snn", "start=scratch"], "joint.through='snn' runs BatchNorm on running statistics"),
  ],
)
def test_bad_input(tmp_path, capsys, overrides, message):
  assert run_train(tmp_path / "run", *(f"--config.joint.{o}" for o in overrides)) == 2
  assert re.search(message, complaint(capsys))
  assert not (tmp_path / "run").exists()


def test_a_pretrained_network_is_not_left_unused(tmp_path, capsys):
  assert (
    run_train(
      tmp_path / "run",
      "--config.joint.through=clip",
      "--config.joint.start=scratch",
      "--config.joint.optimizer.name=sgd",
      "--config.pretrained=weights.th",
    )
    == 2
  )
  assert "pretrained=weights.th would not be used with joint.start='scratch'" in complaint(capsys)
