"""How late answers are read out: what the commands find, keep and go on with."""

import dataclasses
import json
import os

import numpy as np
import pytest
from running import DIGITS, TINY, get_config, run_train
from states import bits, ended_with, experiment_of

import tcljax
from tcljax.commands import compare, convert
from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.files import FileError
from tcljax.runs import calibration, config_forms, resume, stages, standings
from tcljax.runs import compare as comparison
from tcljax.runs.calibration import calibration_images
from tcljax.runs.experiment import make_experiment
from tcljax.runs.workdir import keep_delay, with_kept_delay


def run_compare(workdir, *arguments):
  return compare.main(["compare", DIGITS, f"--workdir={workdir}", *TINY, *arguments])


@pytest.mark.slow
def test_delivered_rows_of_a_comparison_are_read_out_late(tmp_path, monkeypatch):
  """The delay is chosen for `delivered` thresholds, whatever the config says of the others."""
  seen = {}

  def choose(model, variables, batches, spiking):
    seen["held"], seen["images"] = variables, np.concatenate([*batches])
    return dataclasses.replace(spiking, delay=2)

  monkeypatch.setattr(calibration, "choose_delay", choose)
  methods = "--methods=least_squares,delivered"
  steps, delay = ("--time_steps=4", "--images=64"), "--config.snn.delay=0"
  assert run_compare(tmp_path, *steps, methods, delay, "--config.tune.at=()") == 0
  made = experiment_of(tmp_path)
  kept = json.loads((tmp_path / "compare.json").read_text())
  curves = standings.curves(kept)
  assert standings.curves(kept, standings.DELAY) == {"delivered": {4: 2}}
  shown = calibration_images(made.dataset, made.tune.images, made.seed).images
  np.testing.assert_array_equal(seen["images"], made.preprocess(shown))
  images, labels = made.preprocess(made.dataset.test.images[:64]), made.dataset.test.labels[:64]
  right = [
    100 * float((simulated(made.model, seen["held"], images, delay) == labels).mean())
    for delay in (0, 2)
  ]
  assert curves["delivered"][4] == pytest.approx(right[1], abs=1e-3) and right[0] != right[1]


@pytest.mark.slow
def test_tuning_that_begins_at_layers_that_wait_reads_out_late(tmp_path, monkeypatch):
  late = lambda model, variables, batches, spiking: dataclasses.replace(spiking, delay=2)
  monkeypatch.setattr(calibration, "choose_delay", late)
  flags = ("--methods=tuned,tuned_all", "--config.tune.calibration=delivered")
  assert run_compare(tmp_path, "--time_steps=4", *flags, "--config.tune.at=()") == 0
  made = experiment_of(tmp_path)
  kept = json.loads((tmp_path / "compare.json").read_text())
  curves = standings.curves(kept)
  assert standings.curves(kept, standings.DELAY) == {"tuned": {4: 2}, "tuned_all": {4: 2}}
  images, labels = made.preprocess(made.dataset.test.images), made.dataset.test.labels
  for method, folder, tuned in (
    ("tuned", "T4", made.with_time_steps(4)),
    ("tuned_all", "all", made),
  ):
    held = resume.restore_trained(tuned, tmp_path / folder)
    right = 100 * float((simulated(made.model, held, images, 2) == labels).mean())
    assert curves[method][4] == pytest.approx(right, abs=1e-3)
    assert right != 100 * float((simulated(made.model, held, images, 0) == labels).mean())


@pytest.mark.parametrize("said", [8, -1])
def test_thresholds_for_more_steps_are_compared_within_their_delay(tmp_path, monkeypatch, said):
  """Whether it is said or found, answers after so few steps are the mean of all."""
  late = lambda model, variables, batches, spiking: dataclasses.replace(spiking, delay=8)
  monkeypatch.setattr(calibration, "choose_delay", late)
  monkeypatch.setattr(stages, "tune_thresholds", lambda made, workdir, mesh, start: start)
  monkeypatch.setattr(comparison, "diagnose", lambda *given, **settings: {})
  made = digits(delay=said)  # and T is 16
  tune = dataclasses.replace(made.tune, images=32, calibration="delivered")
  made = comparison.measured_on(dataclasses.replace(made, tune=tune), False, images=64)
  weights = made.initial_variables()
  found = comparison.compare(made, tmp_path, weights, [2, 4], ["tuned_all"])
  assert standings.curves(found, standings.DELAY) == {}
  start = calibration.calibrate_as_configured(made, weights)
  images, labels = made.preprocess(made.dataset.test.images), made.dataset.test.labels
  right = 100 * float((simulated(made.model, start, images, 0) == labels).mean())
  assert standings.curves(found)["tuned_all"][4] == pytest.approx(right, abs=1e-3)


def test_a_comparison_taken_up_again_calibrates_nothing_anew(tmp_path, monkeypatch):
  late = lambda model, variables, batches, spiking: dataclasses.replace(spiking, delay=2)
  tunes = lambda made, workdir, mesh, start: start
  monkeypatch.setattr(calibration, "choose_delay", late)
  monkeypatch.setattr(stages, "tune_thresholds", tunes)
  made = digits()
  tune = dataclasses.replace(made.tune, images=32, calibration="delivered")
  made = comparison.measured_on(dataclasses.replace(made, tune=tune), False, images=64)
  asked = (made, tmp_path, made.initial_variables(), [4], ["tuned", "quantized"])
  found = comparison.compare(*asked)
  assert standings.curves(found, standings.DELAY) == {"tuned": {4: 2}}
  monkeypatch.setattr(calibration, "choose_delay", None)
  monkeypatch.setattr(calibration, "calibrate_as_configured", None)
  monkeypatch.setattr(stages, "tune_thresholds", None)
  assert comparison.compare(*asked) == found  # where nothing is lacking
  monkeypatch.setattr(stages, "tune_thresholds", tunes)
  (tmp_path / "compare.json").unlink()
  assert comparison.compare(*asked) == found


def simulated(model, variables, images, delay):
  spiking = tcljax.SpikingConfig(time_steps=4, delay=delay)
  return tcljax.simulate(model, variables, images, spiking).logits.argmax(-1)


@pytest.mark.slow
def test_answers_after_delivered_thresholds_are_read_out_late_from_then_on(tmp_path, monkeypatch):
  """By tuning, the reported numbers, a run that goes on, and what is converted."""
  path, output, seen = tmp_path / "run", tmp_path / "snn", []

  def choose(model, variables, batches, spiking):
    seen.append((bits(variables["clipping"]), np.concatenate([*batches])))
    return dataclasses.replace(spiking, delay=3)

  objective, tuned_for = stages.tuning_objective, []

  def noting(model, preprocess, spiking, *more, **options):
    tuned_for.append(spiking.delay)
    return objective(model, preprocess, spiking, *more, **options)

  monkeypatch.setattr(calibration, "choose_delay", choose)
  monkeypatch.setattr(stages, "tuning_objective", noting)
  flags = ("--config.tune.calibration=delivered", "--config.eval.time_steps=4")
  assert run_train(path, *flags) == 0 and tuned_for == [3]
  made, held = experiment_of(path), ended_with(path)
  with Checkpoints(path / "calibrated") as checkpoints:
    shapes = parallel.abstract_replicated(parallel.data_mesh(), checkpoints.structure())
    [(chosen_for, shown)] = seen
    assert bits(checkpoints.restore(shapes)["clipping"]) == chosen_for != bits(held["clipping"])
  images = calibration_images(made.dataset, made.tune.images, made.seed).images
  np.testing.assert_array_equal(shown, made.preprocess(images))
  spiking, test = tcljax.SpikingConfig(time_steps=4, delay=3), made.dataset.test
  logits = tcljax.simulate(made.model, held, made.preprocess(test.images), spiking).logits
  right = 100 * float((logits.argmax(-1) == test.labels).mean())
  whole = tcljax.simulate(made.model, held, made.preprocess(test.images), made.spiking).logits
  assert right != 100 * float((whole.argmax(-1) == test.labels).mean())
  found = json.loads((path / "results.json").read_text())
  assert found["snn"]["4"] == pytest.approx(right, abs=1e-3) and found["delay"] == 3
  assert run_train(path, *flags) == 0 and len(seen) == 1
  assert json.loads((path / "results.json").read_text())["snn"] == found["snn"]
  to = (f"--workdir={path}", f"--output={output}", "--noreport")
  assert convert.main(["convert.py", *to]) == 0
  assert tcljax.load(output).spiking.delay == 3
  # Thresholds that another run goes on from are read out as late, by the same part of its T.
  after = tmp_path / "after"
  for_more = (f"--config.pretrained={path}", "--config.snn.time_steps=8", "--config.tune.steps=2")
  assert run_train(after, *for_more) == 0 and len(seen) == 1 and tuned_for == [3, 3, 6]
  assert json.loads((after / "delay.json").read_text()) == {"delay": 6}
  made, held = experiment_of(after).with_delay(6), ended_with(after)
  logits = tcljax.simulate(made.model, held, made.preprocess(test.images), made.spiking).logits
  right = 100 * float((logits.argmax(-1) == test.labels).mean())
  found = json.loads((after / "results.json").read_text())
  assert found["snn"]["8"] == pytest.approx(right, abs=1e-3) and found["delay"] == 6


@pytest.mark.slow
@pytest.mark.parametrize(
  "flag", ["--config.snn.delay=1", "--config.snn.delay=0", "--config.tune.calibration=percentile"]
)
def test_a_delay_that_is_said_stays_and_other_thresholds_have_none(tmp_path, monkeypatch, flag):
  monkeypatch.setattr(calibration, "choose_delay", None)
  few = ("--config.train.steps=2", "--config.tune.steps=2")
  assert run_train(tmp_path / "run", "--config.tune.calibration=delivered", *few, flag) == 0
  assert not (tmp_path / "run" / "delay.json").exists()


def digits(**snn):
  config = get_config("digits")
  config.eval.time_steps = 8
  config.model.update({"stages": ((4,),), "dense": ()})
  config.snn.update({"time_steps": 16, **snn})
  return make_experiment(config_forms.parse(config))


@pytest.mark.parametrize("text", ["{}", "[]", '{"delay": true}', '{"delay": -1}', "{", os.mkdir])
def test_the_kept_delay_may_be_anything(tmp_path, text):
  path = tmp_path / "delay.json"
  text(path) if callable(text) else path.write_text(text)
  with pytest.raises(FileError, match=r"delay\.json cannot be read: .*; remove it and"):
    with_kept_delay(digits(), tmp_path)


@pytest.mark.parametrize(
  ("snn", "kept", "taken"),
  [
    ({}, None, 0),
    ({}, 6, 6),
    ({}, 0, 0),
    ({"delay": 3}, 6, 3),  # said by the config
    ({"delay": 0}, 6, 0),
  ],
)
def test_a_delay_is_kept_for_what_goes_on(tmp_path, snn, kept, taken):
  if kept is not None:
    keep_delay(tmp_path, kept)
  made = with_kept_delay(digits(**snn), tmp_path)
  assert made.spiking.delay == made.reported.delay == taken


def test_steps_within_the_delay_are_reported_by_the_mean_of_all():
  made = digits().with_delay(12)  # of 16
  assert made.spiking.delay == 12 and made.reported.delay == 0  # as 8 are reported
