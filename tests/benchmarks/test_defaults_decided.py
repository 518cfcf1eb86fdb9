"""The benchmark of the defaults: its plan, its comparison and its table, and its work in small."""

import collections
import json

import numpy as np
import pytest
from running import load_benchmark

from tcljax.runs.config_forms import base_config
from tcljax.training.calibration import usual_instalments


@pytest.fixture
def benchmark():
  return load_benchmark("defaults")


def test_the_defaults_are_those_of_the_configs(benchmark):
  tune, default = base_config().tune, benchmark.Measurement
  assert default.method == tune.calibration
  assert default.learning_rate == tune.optimizer.learning_rate
  for name in ("per_channel", "v_init", "batch_size", "objective"):
    assert getattr(default, name) == tune[name]
  assert default.instalments == usual_instalments(default.method, time_steps=8)
  assert (tune.percentile, tune.images) == (99.9, benchmark._CALIBRATION_IMAGES)


def test_the_plan_holds_every_value_once_and_tuning_where_there_is_some(benchmark):
  planned = benchmark.plan(["resnet20", "digits"])
  assert len(planned) == len(set(planned))
  assert {(m.network, m.tuned, m.time_steps) for m in planned} == {
    (network, tuned, t)
    for network in ("resnet20", "digits")
    for tuned in (False, True)
    for t in (4, 8, 32)
  }
  counts = collections.Counter((m.tuned, m.time_steps) for m in planned if m.network == "resnet20")
  # The default, two other methods, one a layer, two potentials and two of one instalment; at T = 4
  # one of four; and of tuning two rates, a batch size and an objective.
  assert counts == {
    **{(False, t): 8 + (t == 4) for t in (4, 8, 32)},
    **{(True, t): 12 + (t == 4) for t in (4, 8, 32)},
  }
  assert {m.seed for m in planned if m.network == "digits"} == {0, 1, 2}
  assert {m.network for m in benchmark.plan(["digits"])} == {"digits"}
  for m in planned:  # the same number of images for every size of a batch
    assert benchmark._IMAGES[m.time_steps] % m.batch_size == 0


def of_block(benchmark, network, accuracies, name="Initial potential", **key):
  """Accuracies of a block's values, one list for each seed."""
  return {
    benchmark.Measurement(network, **key, seed=seed, **change): accuracy
    for seed, row in enumerate(accuracies)
    for change, accuracy in zip(benchmark.BLOCKS[name].values(), row)
  }


def test_values_are_compared_where_all_seeds_were_measured(benchmark):
  block, key = benchmark.BLOCKS["Initial potential"], {"tuned": True, "time_steps": 8}
  digits = of_block(benchmark, "digits", [[90, 96, 80], [91, 95, 80], [92, 97, 80]], **key)
  compared = benchmark.compare(digits, block)
  means, noise = compared["digits", True, 8]
  assert means == [91, 96, 80]
  # Two standard errors of a difference between shares of 0.96, each of 3 * 300 images.
  np.testing.assert_allclose(noise, 200 * np.sqrt(2 * 0.96 * 0.04 / 900))
  text = benchmark.verdict(compared, list(block))
  assert text == (
    "The default is 0.25. Better beyond noise: 0.5 by 5.0 (digits, tuned, T = 8). Worse beyond "
    "noise: 0 by 11.0 (digits, tuned, T = 8)."
  )
  digits.popitem()  # a seed of the last value
  means, _ = benchmark.compare(digits, block)["digits", True, 8]
  assert means == [91, 96, None]
  text = benchmark.verdict(benchmark.compare(digits, block), list(block))
  assert text.endswith("Worse beyond noise: none.")
  digits = {m: accuracy for m, accuracy in digits.items() if m.v_init != 0.5}
  assert benchmark.compare(digits, block) == {}  # nothing to compare the default with


def test_an_image_more_is_within_noise_where_all_are_right(benchmark):
  block, key = benchmark.BLOCKS["Initial potential"], {"tuned": False, "time_steps": 4}
  found = of_block(benchmark, "resnet20", [[100, 99.9, 99.7]], **key)
  compared = benchmark.compare(found, block)
  assert 0.1 < compared["resnet20", False, 4][1] < 0.3
  assert "Better beyond noise: none. Worse beyond noise: 0 by 0.3" in benchmark.verdict(
    compared, list(block)
  )


def run(benchmark, path, *arguments):
  return benchmark.main([f"--workdir={path / 'run'}", f"--output={path / 'defaults'}", *arguments])


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(tmp_path, benchmark, monkeypatch):
  done = []

  class Counted:
    def __init__(self, name, seed, pretrained, workdir):
      assert pretrained == "weights" and workdir == tmp_path / "run"

    def accuracy(self, measured):
      if len(done) == 3:
        raise KeyboardInterrupt
      done.append(measured)
      return 50 + len(done) / 3

  monkeypatch.setattr(benchmark, "Network", Counted)
  with pytest.raises(KeyboardInterrupt):
    run(benchmark, tmp_path, "--pretrained=weights")
  planned = benchmark.plan(["resnet20", "digits"])
  rows = json.loads((tmp_path / "defaults.json").read_text())["rows"]
  assert [row["accuracy"] for row in rows] == [50.33, 50.67, 51]
  assert run(benchmark, tmp_path, "--pretrained=weights", "--minutes=0") == 0
  assert done == planned[:3]
  monkeypatch.setattr(Counted, "accuracy", lambda self, measured: done.append(measured) or 9)
  assert run(benchmark, tmp_path, "--pretrained=weights") == 0
  assert done == planned
  found = json.loads((tmp_path / "defaults.json").read_text())
  assert found["command"] == "python benchmarks/defaults.py --pretrained=weights"
  assert [row["accuracy"] for row in found["rows"]] == [50.33, 50.67, 51] + [9] * (len(planned) - 3)
  text = (tmp_path / "defaults.md").read_text()
  assert "| network | thresholds | T | 0.25 (default) | 0.5 | 0 | noise |" in text
  assert "| resnet20 | tuned | 32 | 9.00 | 9.00 | 9.00 | 2.6 |" in text
  assert text.count("\n## ") == len(benchmark.BLOCKS)
  assert f"{len(planned)} of {len(planned)} figures are here" in text
  assert "Decides `instalments` and `v_init`. The default is 8." in text


def test_figures_that_cannot_be_read_are_told(tmp_path, benchmark):
  (tmp_path / "defaults.json").write_text('{"command": "python benchmarks/defaults.py"}')
  with pytest.raises(SystemExit, match=r"defaults.json cannot be read: KeyError.*remove it"):
    run(benchmark, tmp_path)


def test_weights_that_are_not_there_are_told(tmp_path, benchmark, capsys, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  assert run(benchmark, tmp_path, f"--pretrained={tmp_path / 'none.th'}") == 2
  assert "defaults: data: data set 'cifar10' is not prepared" in capsys.readouterr().err


@pytest.mark.slow
def test_work_in_small(tmp_path, benchmark, monkeypatch):
  """A network is trained; its accuracy is that of images set aside, before and after tuning."""
  digits = benchmark.runpy.run_path(benchmark.ROOT / "configs" / "digits.py")["get_config"]()
  digits.model.stages, digits.model.dense = ((4,),), ()
  digits.train.steps = 2
  monkeypatch.setattr(benchmark.runpy, "run_path", lambda path: {"get_config": lambda: digits})
  monkeypatch.setattr(benchmark, "_IMAGES", {4: 64})
  monkeypatch.setattr(benchmark, "_ASIDE", {"digits": 40})
  monkeypatch.setattr(benchmark, "_CALIBRATION_IMAGES", 64)
  network = benchmark.Network("digits", 0, None, tmp_path)
  assert len(network._made.dataset.validation) == 40 and digits.seed == 0
  calls = []
  for name in ("calibrate", "tune", "evaluate"):
    function = getattr(benchmark.tcljax, name)

    def recorded(*args, name=name, function=function, **settings):
      calls.append((name, args, settings))
      return function(*args, **settings)

    monkeypatch.setattr(benchmark.tcljax, name, recorded)
  for tuned in (False, True):
    measured = benchmark.Measurement("digits", tuned, 4, 0, instalments=2, learning_rate=0.5)
    correct = network.accuracy(measured) * 40 / 100
    assert correct == pytest.approx(round(correct))
  assert [name for name, *_ in calls] == ["calibrate", "evaluate", "tune", "evaluate"]
  by_name = {name: (args, settings) for name, args, settings in calls}
  assert by_name["calibrate"][0][3].time_steps == 4
  assert by_name["calibrate"][1] == {
    "method": "least_squares",
    "per_channel": True,
    "v_init": 0.25,
    "instalments": 2,
  }
  settings = by_name["tune"][1]
  assert settings["steps"] == 2 and settings["optimizer"].learning_rate == 0.5
  aside = network._made.dataset.validation
  np.testing.assert_array_equal(by_name["evaluate"][0][2], aside.images)
