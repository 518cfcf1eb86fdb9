"""Runs that go on from an earlier one, weights and thresholds, by `pretrained` and its workdir."""

import json

import numpy as np
import pytest
from running import DIGITS, TINY, complaint, run_train
from states import bits, ended_with

from tcljax.commands import compare
from tcljax.layers.collections import thresholds_by_path

JOINT = ("--config.joint.steps=4", "--config.joint.batch_size=32")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
  """A run that trained weights through the quantized clip, with labels, and did not tune."""
  path = tmp_path_factory.mktemp("earlier") / "labelled"
  assert run_train(path, *JOINT, "--config.joint.through=quantized", "--config.tune.steps=0") == 0
  return path


@pytest.mark.slow
def test_thresholds_for_another_t_go_on_from_the_tuned_ones(workdir, tmp_path):
  path = tmp_path / "run"
  assert run_train(path, f"--config.pretrained={workdir}", "--config.snn.time_steps=8") == 0
  assert not (path / "ann").exists() and not (path / "calibrated").exists()
  results, earlier = (json.loads((p / "results.json").read_text()) for p in (path, workdir))
  assert results["earlier_stages"] == {"earlier run": earlier["snn"]}
  assert results["ann"] == earlier["ann"]
  before, after = ended_with(workdir), ended_with(path)
  assert bits(after["params"]) == bits(before["params"])
  assert bits(after["clipping"]) != bits(before["clipping"])


@pytest.mark.slow
def test_delivered_thresholds_come_in_instalments_enough_to_wait(tmp_path):
  """For half of 32 steps; what goes on from them for another T keeps them so."""
  path, after = tmp_path / "run", tmp_path / "after"
  of_32 = ("--config.snn.time_steps=32", "--config.eval.time_steps=32", "--config.tune.steps=2")
  by = ("--config.tune.calibration=delivered", "--config.train.steps=2")
  assert run_train(path, *of_32, *by) == 0
  assert run_train(after, "--config.tune.steps=2", f"--config.pretrained={path}") == 0
  for one in (path, after):
    held = thresholds_by_path(ended_with(one))
    assert [len(thresholds.instalments) for thresholds in held.values()] == 3 * [17]


@pytest.mark.slow
def test_joint_training_in_two_stages(labelled, tmp_path, capsys):
  """The second stage learns from what the first has made, clipped at its thresholds."""
  path, before = tmp_path / "run", ended_with(labelled)
  overrides = (
    *JOINT,
    "--config.joint.through=snn",
    "--config.joint.objective=distillation",
    f"--config.pretrained={labelled}",
  )
  assert run_train(path, *overrides) == 0
  results, earlier = (json.loads((p / "results.json").read_text()) for p in (path, labelled))
  assert list(results["earlier_stages"]) == ["earlier run", "tuned"]
  assert results["ann"] == earlier["ann"] == earlier["clipped"]
  after = ended_with(path)
  assert bits(after["teacher"]) == bits({k: before[k] for k in after["teacher"]})
  assert "clipping" in after["teacher"]
  assert bits(after["params"]) != bits(before["params"])
  capsys.readouterr()
  assert run_train(path, *overrides) == 0
  assert "joint: 4 of 4 steps are done already" in capsys.readouterr().out


@pytest.mark.slow
def test_what_comes_of_an_earlier_run_that_does_not_fit(workdir, labelled, tmp_path, capsys):
  run = tmp_path / "run"
  for overrides, message in (
    (["--config.tune.instalments=2"], "8 instalments, and tune.instalments=2: set it to 8"),
    (
      ["--config.snn.readout=rate"],
      "holds another network (snn.readout: 'membrane' -> 'rate'): set",
    ),
  ):
    assert run_train(run, f"--config.pretrained={workdir}", *overrides) == 2
    assert message in complaint(capsys)
  assert run_train(run, f"--config.pretrained={tmp_path}") == 2
  assert "config.json does not exist: is" in complaint(capsys)
  (tmp_path / "begun").mkdir()
  (tmp_path / "begun" / "config.json").write_text((workdir / "config.json").read_text())
  assert run_train(run, f"--config.pretrained={tmp_path / 'begun'}") == 2
  assert "is not finished, its phase 'tuned' has not begun" in complaint(capsys)
  # Methods for thresholds are compared on a network that can do without any.
  status = compare.main(
    [
      "compare",
      DIGITS,
      *TINY,
      f"--workdir={run}",
      "--time_steps=2",
      f"--config.pretrained={labelled}",
    ]
  )
  assert status == 2
  assert "trained its weights together with thresholds" in complaint(capsys)
  assert not run.exists()


@pytest.mark.slow
def test_methods_are_compared_on_the_weights_of_an_earlier_run(workdir, tmp_path):
  assert (
    compare.main(
      [
        "compare",
        DIGITS,
        *TINY,
        f"--workdir={tmp_path / 'run'}",
        "--time_steps=2",
        "--methods=least_squares",
        f"--config.pretrained={workdir}",
      ]
    )
    == 0
  )
  results = json.loads((tmp_path / "run" / "compare.json").read_text())
  ann = json.loads((workdir / "results.json").read_text())["ann"]
  assert results["ann"] == pytest.approx(ann, abs=1e-3)


@pytest.mark.slow
def test_a_checkpoint_takes_the_place_of_phase_1(tmp_path, tiny_state):
  np.savez(tmp_path / "net.npz", **tiny_state)
  workdir = tmp_path / "run"
  assert run_train(workdir, f"--config.pretrained={tmp_path / 'net.npz'}") == 0
  assert not (workdir / "ann").exists()
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  assert {json.loads(line)["phase"] for line in lines} == {"tuned"}
  (tmp_path / "net.npz").unlink()  # the run keeps what it took from it
  kernel = ended_with(workdir)["params"]["head"]["kernel"]
  np.testing.assert_array_equal(kernel, np.float32(tiny_state["classifier.3.weight"].T))


def test_a_checkpoint_that_does_not_fit_leaves_no_trace(tmp_path, tiny_state, capsys):
  path = tmp_path / "net.npz"
  assert run_train(tmp_path / "run", f"--config.pretrained={path}") == 2
  assert f"train: --config.pretrained: {path} does not exist" in complaint(capsys)
  del tiny_state["features.4.weight"], tiny_state["classifier.3.bias"]
  np.savez(path, **tiny_state)
  assert run_train(tmp_path / "run", f"--config.pretrained={path}") == 2
  line = complaint(capsys)
  assert "features.4.weight [8, 4, 3, 3] is missing" in line
  assert "classifier.3.bias [10] is missing" in line
  assert not (tmp_path / "run").exists()
