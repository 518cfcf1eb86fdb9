"""The comparison of methods as a user runs it."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from running import DIGITS, TINY, complaint
from states import experiment_of

import tcljax
from tcljax.commands import compare as command
from tcljax.layers.collections import thresholds_by_path
from tcljax.runs import (
  calibration,
  compare,
  joint,
  resume,
  shortfall,
  stages,
  standings,
)
from tcljax.runs.calibration import calibration_images
from tcljax.runs.sections import SnnConfig


def run(workdir, *arguments):
  return command.main(
    ["compare", DIGITS, f"--workdir={workdir}", *TINY, "--config.tune.at=(2,4)", *arguments]
  )


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
  path = tmp_path_factory.mktemp("compare") / "run"
  assert run(path, "--time_steps=4,2", "--images=64") == 0
  return path


@pytest.mark.slow
def test_every_method_is_measured_at_every_number_of_steps(compared):
  results = json.loads((compared / "compare.json").read_text())
  assert results["images"] == 64 and 0 < results["ann"] <= 100
  curves = standings.curves(results)
  assert list(curves) == list(standings.METHODS)
  for curve in curves.values():
    assert list(curve) == [2, 4] and all(0 <= percent <= 100 for percent in curve.values())
  for name in ("compare.png", "compare-thresholds.png"):
    assert (compared / name).read_bytes().startswith(b"\x89PNG")
  # Each T is tuned in a directory of its own, and the set for all of them too.
  assert all((compared / name / "tuned").is_dir() for name in ("T2", "T4", "all"))


@pytest.mark.slow
def test_figures_are_those_of_the_thresholds_they_are_named_after(compared):
  """Measured once more by other means: the library's own calls."""
  made = experiment_of(compared)
  test = made.dataset.test
  curves = standings.curves(json.loads((compared / "compare.json").read_text()))

  def accuracy(name, tuned, t):
    variables = resume.restore_trained(tuned, compared / name)
    images = made.preprocess(test.images[:64])
    logits = tcljax.simulate(
      made.model, variables, images, tcljax.SpikingConfig(time_steps=t)
    ).logits
    return 100 * float((logits.argmax(-1) == test.labels[:64]).mean())

  assert curves["tuned"][2] == pytest.approx(accuracy("T2", made.with_time_steps(2), 2), abs=1e-3)
  assert curves["tuned"][4] == pytest.approx(accuracy("T4", made.with_time_steps(4), 4), abs=1e-3)
  for t in (2, 4):
    assert curves["tuned_all"][t] == pytest.approx(accuracy("all", made, t), abs=1e-3)


@pytest.mark.slow
def test_mean_thresholds_are_those_of_each_method_and_t(compared):
  """Found once more in other ways: the largest activations, and the mean as a root of a product."""
  made = experiment_of(compared)
  shares = standings.curves(json.loads((compared / "compare.json").read_text()), "threshold")
  assert list(shares) == ["least_squares", "delivered", "tuned"]
  for curve in shares.values():
    assert list(curve) == [2, 4] and all(0 < share < 200 for share in curve.values())
  assert shares["least_squares"][2] < shares["least_squares"][4]  # fewer levels, and the same noise
  calibrated = calibration_images(made.dataset, made.tune.images, made.seed)
  for t in (2, 4):
    tuned = resume.restore_trained(made.with_time_steps(t), compared / f"T{t}")
    _, seen = made.ann.apply(
      tuned,
      made.preprocess(calibrated.images),
      capture_intermediates=lambda module, _: isinstance(module, tcljax.ReLU),
    )
    quotients = []
    for name, tau in tcljax.thresholds(tuned).items():
      [values] = seen["intermediates"][name]["__call__"]
      largest = np.max(values, axis=tuple(range(values.ndim - 1)))
      # A channel that never was active has the threshold of its layer.
      quotients += [*(tau / np.where(largest > 0, largest, largest.max()))]
    root = np.prod(np.float64(quotients)) ** (1 / len(quotients))
    assert shares["tuned"][t] == pytest.approx(100 * root, rel=1e-4)


@pytest.mark.slow
def test_layers_may_wait_for_half_of_the_steps(tmp_path, monkeypatch):
  """Where their potentials are chosen for it; others have one potential, in one part."""
  calibrate, parts = calibration.calibrate_by, {}

  def seen(method, *more, **options):
    found = calibrate(method, *more, **options)
    parts[method] = {np.shape(one.v_init)[:-1] for one in thresholds_by_path(found).values()}
    return found

  monkeypatch.setattr(calibration, "calibrate_by", seen)
  methods = "--methods=least_squares,delivered"
  assert run(tmp_path, "--time_steps=32", "--images=8", methods, "--config.tune.at=()") == 0
  assert parts["least_squares"] == {()} and parts["delivered"] == {(17,)}


@pytest.mark.slow
def test_what_is_known_is_not_measured_again(compared, capsys, monkeypatch):
  monkeypatch.setattr(stages, "evaluate_on_test", None)
  monkeypatch.setattr(calibration, "calibrate", None)
  methods = ",".join(standings.METHODS)  # each can be asked for by its name
  assert run(compared, "--time_steps=2,4", "--images=64", f"--methods={methods}") == 0
  printed = capsys.readouterr().out
  for method in standings.METHODS:
    assert re.search(rf"^ *{re.escape(method)} +\d+\.\d\d +\d+\.\d\d$", printed, re.MULTILINE)
  assert re.search(r"activation +total % +inherited %", printed)
  # Two convolutions and a dense layer have neurons.
  assert printed.endswith("the answer of T steps comes after T + 3.\n")


@pytest.mark.slow
def test_a_file_without_thresholds_is_filled_up(compared, tmp_path, capsys, monkeypatch):
  copy = tmp_path / "run"
  shutil.copytree(compared, copy)
  (copy / "compare-thresholds.png").unlink()
  known = json.loads((copy / "compare.json").read_text())
  old = {**known, "rows": [{**row} for row in known["rows"]]}
  for row in old["rows"]:
    row.pop("threshold", None)
  (copy / "compare.json").write_text(json.dumps(old))
  monkeypatch.setattr(stages, "evaluate_on_test", None)  # accuracies are known
  only = "--methods=maximum,percentile"
  assert run(copy, "--time_steps=2,4", "--images=64", only) == 0  # which have none
  assert "mean threshold" not in capsys.readouterr().out
  assert json.loads((copy / "compare.json").read_text()) == old
  assert not (copy / "compare-thresholds.png").exists()
  only = "--methods=least_squares,delivered,tuned"
  assert run(copy, "--time_steps=2,4", "--images=64", only) == 0
  assert json.loads((copy / "compare.json").read_text()) == known
  assert (copy / "compare-thresholds.png").exists()
  below = capsys.readouterr().out.partition("mean threshold (% of the largest activation):\n")[2]
  assert re.search(r"^ *tuned +\d+\.\d\d +\d+\.\d\d$", below, re.MULTILINE)


@pytest.mark.slow
def test_a_tuned_network_far_from_its_ann_is_told(compared, tmp_path, capsys, monkeypatch):
  copy = tmp_path / "run"
  shutil.copytree(compared, copy)
  results = json.loads((copy / "compare.json").read_text())
  results["rows"] = [row for row in results["rows"] if row["method"] != "tuned"]
  (copy / "compare.json").write_text(json.dumps(results))
  monkeypatch.setattr(compare, "shortfall", lambda one, _, ann, snn: f"told {ann} {snn:.2f}")
  assert run(copy, "--time_steps=2", "--images=64", "--methods=tuned") == 0
  [tuned] = standings.curves(json.loads((copy / "compare.json").read_text()))["tuned"].values()
  assert f"told {results['ann']} {tuned:.2f}\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_file_is_told_and_kept(compared, tmp_path, capsys):
  shutil.copytree(compared, tmp_path / "run")
  for text in ("{", "[1, 2]"):
    (tmp_path / "run" / "compare.json").write_text(text)
    assert run(tmp_path / "run", "--time_steps=2", "--images=64") == 2
    assert "compare.json cannot be read: " in complaint(capsys)
    assert (tmp_path / "run" / "compare.json").read_text() == text


@pytest.mark.slow
def test_figures_of_other_images_are_not_overwritten(compared, capsys):
  before = (compared / "compare.json").read_bytes()
  assert run(compared, "--time_steps=2", "--images=65") == 2
  assert "compare.json holds figures of 64 images, asked are 65: choose" in complaint(capsys)
  assert (compared / "compare.json").read_bytes() == before


@pytest.mark.slow
def test_choices_are_made_on_images_set_aside(tmp_path, capsys):
  only = "--methods=least_squares"
  assert run(tmp_path / "a", "--time_steps=2", only, "--validation") == 2
  assert "--validation: no images are set aside; set data.validation of" in complaint(capsys)
  assert (
    run(tmp_path / "b", "--time_steps=2", only, "--validation", "--config.data.validation=100") == 0
  )
  results = json.loads((tmp_path / "b" / "validation.json").read_text())
  assert results["images"] == 100
  assert not (tmp_path / "b" / "compare.json").exists()  # as many test images are other images
  assert [(row["method"], row["T"]) for row in results["rows"]] == [("least_squares", 2)]


@pytest.mark.parametrize(
  "argument, message",
  [
    ("--time_steps=4,many", "--time_steps=4,many must be numbers from 1 on, such as 4,8,16"),
    ("--time_steps=0", "--time_steps=0 must be numbers from 1 on"),
    ("--time_steps=", "--time_steps= must be numbers"),
    ("--methods=best", "--methods='best' is unknown: choose one of maximum, "),
    ("--images=-1", "images"),
    ("--config.snn.chunk=4", "--config.snn.chunk=4 does not divide time_steps=2"),
    ("--config.snn.phase=4", "--config.tune.at=(2, 4): 2 must be a multiple of phase=4"),
    ("--config.pretrained=nothing.npz", "pretrained: nothing.npz does not exist"),
  ],
)
def test_bad_input_is_told_before_anything_is_written(tmp_path, capsys, argument, message):
  assert run(tmp_path / "run", "--time_steps=2", argument) == 2
  assert message in complaint(capsys)
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_tables_name_what_neurons_can_send(tmp_path, compared, capsys):
  only = ("--time_steps=2", "--methods=least_squares,quantized_all", "--images=64")
  bursts = ("--config.snn.burst=4", "--config.snn.signed=True")
  assert run(compared, *only, *bursts) == 2  # never in a table with others
  assert "holds another config (snn.burst" in complaint(capsys)
  assert run(tmp_path / "bursts", *only, *bursts) == 0
  found = json.loads((tmp_path / "bursts" / "compare.json").read_text())
  assert found["neurons"] == "signed burst-4" and "64 images, signed burst-4 neurons" in (
    capsys.readouterr().out
  )
  binary = standings.curves(json.loads((compared / "compare.json").read_text()))
  assert standings.curves(found)["least_squares"][2] > binary["least_squares"][2]


def test_quantized_networks_have_the_levels_of_the_neurons(monkeypatch):
  made = SimpleNamespace(
    model=tcljax.CNN(num_classes=2),
    ann=tcljax.CNN(num_classes=2),
    snn=SnnConfig(time_steps=4, phase=4),
    joint=SimpleNamespace(through="quantized"),
    dataset=SimpleNamespace(test=None),
    eval=SimpleNamespace(batch_size=1),
    tune=SimpleNamespace(per_channel=True),
    preprocess_for_ann=None,
  )
  monkeypatch.setattr(shortfall, "accuracy", lambda network, *_, **__: network.act.keywords)
  expected = {"time_steps": 4, "burst": 1, "phase": 4}
  assert shortfall.quantized_accuracy(made, {}, 4) == expected
  half = 0.5 * 4 / 15  # of a level
  assert joint.clipped_ann(made).act.keywords == {**expected, "shift": half}
  made.snn = SnnConfig(time_steps=4, burst=3)
  expected = {"time_steps": 4, "burst": 3, "phase": 1}
  assert shortfall.quantized_accuracy(made, {}, 4) == expected
  assert joint.clipped_ann(made).act.keywords == {**expected, "shift": 0.5}
