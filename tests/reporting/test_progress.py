"""The log of a phase, which a run that was stopped takes up again."""

import contextlib
import json

from tcljax.reporting.progress import PhaseLog


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
