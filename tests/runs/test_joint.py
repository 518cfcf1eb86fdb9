"""Weights and thresholds trained together: the losses, the optimizers, and whole runs."""

import functools
import json
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from running import calibrate_plainly, complaint, run_train

import tcljax
from tcljax.commands import convert
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.layers.activations import TCL, Quantized, with_activation
from tcljax.runs import config_forms
from tcljax.runs.experiment import make_experiment
from tcljax.runs.resume import read_pretrained, restore_trained
from tcljax.runs.workdir import JOINT
from tcljax.training import objectives, optimizers, step


@pytest.fixture(scope="module")
def case(vgg, images):
  model, variables = vgg
  return (
    model,
    calibrate_plainly(model, variables, images, percentile=99),
    {"image": images, "label": np.arange(16, dtype=np.int32) % 10},
  )


def as_it_is(images, key):
  return jnp.asarray(images)


def test_threshold_decay_by_hand():
  variables = {
    "clipping": {
      "a": {"raw_threshold": tcljax.raw_from_threshold(2.0), "v_init": jnp.array(9.0)},
      "b": {
        "raw_threshold": tcljax.raw_from_threshold(jnp.array([1.0, 3.0])),
        "v_init": jnp.full(2, 9.0),
      },
    }
  }
  plain = lambda variables, batch, key: (jnp.array(0.5), "aux")
  decayed = objectives.with_threshold_decay(plain, 0.01)
  loss, aux = decayed(variables, None, None)
  np.testing.assert_allclose(loss, 0.5 + 0.01 * (4 + 1 + 9), rtol=1e-6)
  assert aux == "aux"
  # d tau^2 / d raw = 2 tau sigmoid(raw), and sigmoid(raw) = 1 - exp(-tau)
  gradient = jax.grad(lambda v: decayed(v, None, None)[0])(variables)["clipping"]
  np.testing.assert_allclose(gradient["a"]["raw_threshold"], 0.01 * 4 * (1 - np.exp(-2)), rtol=1e-5)
  np.testing.assert_array_equal(gradient["b"]["v_init"], 0)


@pytest.mark.parametrize("act", [TCL, functools.partial(Quantized, time_steps=4, shift=0.5)])
def test_the_loss_is_that_of_the_network_with_its_activation(case, act):
  model, variables, batch = case
  network = with_activation(model, act)
  loss, (_, updated) = objectives.ann_objective(network, as_it_is, 0.1)(
    variables, batch, jax.random.key(0)
  )
  logits, expected = network.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
  targets = 0.9 * np.eye(10)[batch["label"]] + 0.01
  np.testing.assert_allclose(
    loss, -np.mean(np.sum(targets * np.asarray(jax.nn.log_softmax(logits)), -1)), rtol=1e-5
  )
  chex.assert_trees_all_close(updated, expected)
  # Weights and thresholds both have a gradient.
  gradient = jax.grad(
    lambda v: objectives.ann_objective(network, as_it_is)(
      {**variables, **v}, batch, jax.random.key(0)
    )[0]
  )({c: variables[c] for c in ("params", "clipping")})
  assert np.abs(gradient["params"]["conv1_1"]["kernel"]).max() > 0
  assert np.abs(gradient["clipping"]["act1_2"]["raw_threshold"]) > 0


def test_the_teacher_has_variables_of_its_own(case):
  """The same network with the weights of its head tripled: its logits are what is learned."""
  model, variables, batch = case
  head = jax.tree.map(lambda a: 3 * a, variables["params"]["head"])
  teacher = {**variables, "params": {**variables["params"], "head": head}}
  network = with_activation(model, TCL)
  student = {**variables, "teacher": teacher}
  mesh = parallel.data_mesh()
  target = np.asarray(jax.nn.log_softmax(model.apply(teacher, batch["image"])))

  def divergence(logits):
    return np.mean(np.sum(np.exp(target) * (target - np.asarray(jax.nn.log_softmax(logits))), -1))

  loss, _ = objectives.ann_objective(network, as_it_is, kind="distillation", teacher=model)(
    student, batch, jax.random.key(0)
  )
  logits, _ = network.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(loss, divergence(logits), rtol=1e-4)
  spiking = tcljax.SpikingConfig(time_steps=4)
  loss, _ = objectives.snn_objective(model, as_it_is, spiking, mesh, teacher=model)(
    student, batch, jax.random.key(0)
  )
  logits = tcljax.simulate(model, variables, batch["image"], spiking).logits
  np.testing.assert_allclose(loss, divergence(logits), rtol=1e-4)


def test_each_collection_has_its_own_learning_rate(case):
  model, variables, batch = case
  objective = objectives.ann_objective(with_activation(model, TCL), as_it_is)
  transformation = optimizers.train_only({"params": optax.sgd(0.1), "clipping": optax.sgd(0.003)})
  gradient = jax.grad(lambda v: objective({**variables, **v}, batch, jax.random.key(0))[0])(
    {c: variables[c] for c in ("params", "clipping")}
  )
  start = {**variables, "teacher": {"params": variables["params"]}}
  state, _ = step.train_step(objective, transformation, ("params", "clipping"))(
    step.new_state(start, transformation), batch, jax.random.key(0)
  )
  for collection, rate in (("params", 0.1), ("clipping", 0.003)):
    chex.assert_trees_all_close(
      state.variables[collection],
      jax.tree.map(
        lambda a, g, rate=rate: a - rate * g, variables[collection], gradient[collection]
      ),
      rtol=1e-4,
      atol=1e-6,
    )
  chex.assert_trees_all_equal(state.variables["teacher"], start["teacher"])


def bits(tree):
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.slow
@pytest.mark.parametrize(
  "overrides, stages",
  [
    (
      [
        "--config.joint.through=clip",
        "--config.joint.start=scratch",
        "--config.joint.threshold_decay=1e-4",
        "--config.tune.steps=0",
      ],
      ["trained jointly"],
    ),
    (
      ["--config.joint.through=quantized", "--config.joint.start=scratch"],
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

  experiment = make_experiment(config_forms.from_json(workdir / "config.json"))
  variables = restore_trained(experiment, workdir)
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
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={tmp_path / 'snn'}"]) == 0
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
  config = config_forms.from_json(workdir / "config.json")
  experiment = make_experiment(config)
  network = {
    **jax.eval_shape(experiment.initial_variables),
    "clipping": experiment.abstract_clipping(),
  }

  def ended_with(phase, abstract=network):
    with Checkpoints(workdir / phase) as checkpoints:
      return checkpoints.restore(
        {"variables": parallel.abstract_replicated(parallel.data_mesh(), abstract)}
      )["variables"]

  with Checkpoints(workdir / "calibrated") as checkpoints:
    clipping = checkpoints.restore(
      {"clipping": parallel.abstract_replicated(parallel.data_mesh(), network["clipping"])}
    )["clipping"]
  start = {**read_pretrained(config, experiment), "clipping": clipping}
  first, second, result = (ended_with(phase) for phase in ("joint-1", "joint-2", "joint"))
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
      "--config.pretrained=weights.th",
    )
    == 2
  )
  assert "pretrained=weights.th would not be used with joint.start='scratch'" in complaint(capsys)
