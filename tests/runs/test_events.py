"""Runs on sequences: what a config of events must say, and whole runs in small sizes."""

import functools
import json

import numpy as np
import pytest
from running import ROOT, complaint, get_config

import tcljax
from tcljax.commands import compare, convert, train
from tcljax.data import Dataset, Split, load_dataset
from tcljax.evaluation.compiling import compiled
from tcljax.runs import config_forms, experiment
from tcljax.runs.experiment import make_experiment

EVENTS = f"--config={ROOT / 'configs' / 'event_digits.py'}"
NO_JOINT = "--config.joint.through="
SMALL = (
  "--config.model.stages=((4,),(8,))",
  "--config.model.dense=(16,)",
  "--config.data.name=event_digits/4",
  "--config.snn.time_steps=4",
  "--config.snn.delay=1",
  "--config.eval.time_steps=4",
  "--config.tune.instalments=4",
  "--config.tune.steps=6",
  "--config.tune.batch_size=32",
  "--config.tune.images=128",
  "--config.joint.steps=2",
  "--config.joint.batch_size=32",
  "--config.train.steps=40",
  "--config.log_every=10",
)


@pytest.mark.parametrize(
  ("flags", "told"),
  [
    (
      ["--config.snn.encoding=constant"],
      "snn.encoding='constant': an example of 'event_digits' is",
    ),
    (
      ["--config.data.name=digits"],
      "snn.encoding='frames': an example of 'digits' is one image, choose constant or poisson",
    ),
    (
      ["--config.snn.time_steps=32"],
      "snn.time_steps=32 must be the number of frames of 'event_digits', 16",
    ),
    (["--config.eval.time_steps=64"], "eval.time_steps=64 must be the number of frames of 'event"),
    (["--config.data.name=event_digits/8"], "of frames of 'event_digits/8', 8: set both to it"),
    (["--config.preprocessing.randaugment=2"], "preprocessing.randaugment=2 is for images of"),
  ],
)
def test_what_does_not_go_with_frames_is_told(tmp_path, capsys, monkeypatch, flags, told):
  def load(name, **fields):
    if name == "digits":
      return load_dataset(name, **fields)
    frames = int(name.partition("/")[2] or 16)
    empty = Split(np.zeros((9, frames, 20, 20, 2), np.uint8), np.zeros(9, int))
    return Dataset(name, empty, empty, empty, 10)  # as recording them takes a second

  monkeypatch.setattr(experiment, "load_dataset", load)
  assert train.main(["train.py", EVENTS, f"--workdir={tmp_path}", *flags]) == 2
  assert told in complaint(capsys)


def test_methods_are_compared_at_the_number_of_frames_alone(tmp_path, capsys):
  argv = ["tcljax-compare", EVENTS, f"--workdir={tmp_path}", "--time_steps=8,16", NO_JOINT]
  assert compare.main(argv) == 2
  assert "time_steps=8: with snn.encoding='frames' there are as many as frames" in complaint(capsys)


def test_anns_of_a_run_see_the_mean_frame():
  made = make_experiment(config_forms.parse(get_config("event_digits")))
  assert made.input_shape == (20, 20, 2)
  images = load_dataset("event_digits").test.images[:3]
  np.testing.assert_allclose(
    made.preprocess_for_ann(images), made.preprocess(images).mean(axis=1), rtol=1e-5
  )
  make = functools.lru_cache(lambda preprocess: object())  # once for all that are equal
  assert compiled(make, made.preprocess_for_ann) is compiled(make, made.preprocess_for_ann)
  still = make_experiment(config_forms.parse(get_config("digits")))
  assert still.preprocess_for_ann is still.preprocess


@pytest.mark.slow
def test_a_run_on_events_ends_in_a_network_of_its_own(tmp_path):
  workdir, output = tmp_path / "run", tmp_path / "snn"
  assert train.main(["train.py", EVENTS, f"--workdir={workdir}", "--noreport", *SMALL]) == 0
  results = json.loads((workdir / "results.json").read_text())
  assert list(results["snn"]) == ["1", "2", "4"] and results["ann"] > 50
  argv = ["convert.py", f"--workdir={workdir}", f"--output={output}", "--early_exit=1"]
  assert convert.main(argv) == 0
  network = tcljax.load(output)
  assert (network.spiking.encoding, network.input_shape) == ("frames", (20, 20, 2))
  assert json.loads((output / "results.json").read_text())["early_exit"]["time_steps"] == 4
  methods = "--methods=maximum,tuned_all"
  argv = [
    "compare",
    EVENTS,
    f"--workdir={tmp_path / 'all'}",
    "--time_steps=4",
    methods,
    *SMALL,
    NO_JOINT,
  ]
  assert compare.main(argv) == 0
