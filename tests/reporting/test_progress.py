"""The log of a phase, which a run that was stopped takes up again."""

import contextlib
import json

from tcljax.reporting.progress import PhaseLog, read_records


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
