"""The log of a phase: its records, and what a run that was stopped takes up again."""

import contextlib
import json
import time

import numpy as np
import pytest

from tcljax.reporting.progress import PhaseLog, read_records
from tcljax.training import loop
from tcljax.training.step import TrainState


@pytest.mark.parametrize("steps_a_call", [1, 64])
def test_steps_that_are_known_together_have_taken_equal_times(tmp_path, monkeypatch, steps_a_call):
  """By a clock that stands still but where the metrics of a call are waited for: 10 ms a step."""
  now = 0.0
  monkeypatch.setattr(time, "perf_counter", lambda: now)

  class Loss:
    def __init__(self, count):
      self.count = count

    def __array__(self, dtype=None, copy=None):
      nonlocal now
      now += 0.01 * self.count
      return np.ones(self.count)

  def feed(state, done, count, key):
    ones = np.ones(count)
    norms = {"gradient_norm": ones, "update_norm": ones}
    return state, {"loss": Loss(count), "accuracy": ones, **norms}

  feed.steps_a_call = steps_a_call
  with contextlib.closing(PhaseLog(tmp_path, "ann", steps=300, every=20)) as log:
    log.begin(0)
    hooks = loop.Hooks(on_metrics=log)
    loop.fit(TrainState(np.int32(0), {}, None), feed, 300, seed=0, hooks=hooks)
  records = read_records(tmp_path)
  assert [record["step"] for record in records] == list(range(20, 301, 20))
  np.testing.assert_allclose([record["steps_per_second"] for record in records], 100)


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


def test_what_is_no_record_is_not_shown(tmp_path):
  assert read_records(tmp_path) == []
  good = {"phase": "ann", "step": 3, "loss": 0.5, "accuracy": 50.0}
  lines = [json.dumps(good), "[1, 2]", "{", '{"phase": "ann", "step": "x", "loss": 1}', "null", ""]
  (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
  assert read_records(tmp_path) == [good]
