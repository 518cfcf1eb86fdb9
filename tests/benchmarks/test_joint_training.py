"""The benchmark of joint training: its runs in small sizes, and figures that it knows."""

import json

import numpy as np
import pytest
from running import DIGITS, TINY, load_benchmark


@pytest.mark.slow
def test_it_keeps_what_it_measured(tmp_path, tiny_state, monkeypatch, capsys):
  monkeypatch.setenv("TCLJAX_WEIGHTS_DIR", str(tmp_path))
  np.savez(tmp_path / "net.npz", **tiny_state)
  benchmark, output = load_benchmark("joint_training"), tmp_path / "out" / "table"
  arguments = [
    f"--pretrained={tmp_path / 'net.npz'}",
    DIGITS,
    f"--workdir={tmp_path / 'run'}",
    f"--output={output}",
    *TINY,
    "--config.joint.steps=2",
    "--config.joint.batch_size=16",
  ]
  assert benchmark.main([*arguments, "--time_steps=8"]) == 0
  found = json.loads(output.with_suffix(".json").read_text())
  assert found["command"].startswith(
    "python benchmarks/joint_training.py --pretrained=$TCLJAX_WEIGHTS_DIR/net.npz --config="
  )
  (row,) = found["rows"]
  first, second = (
    json.loads((tmp_path / "run" / f"T8-{name}" / "results.json").read_text())
    for name in ("quantized", "joint")
  )
  assert row["T"] == 8 and row["accuracy"] == round(second["snn"]["8"], 2)
  assert row["learned_from"] == round(second["ann"], 2) == round(first["ann"], 2)
  assert list(row["stages"]) == [
    "calibrated (quantized)",
    "trained jointly (quantized)",
    "tuned (quantized)",
    "tuned (joint)",
    "trained jointly (joint)",
  ]
  assert row["stages"]["tuned (joint)"] == round(second["earlier_stages"]["tuned"]["8"], 2)
  line = f"trained jointly (joint) {row['accuracy']:.2f} | {row['accuracy']:.2f} |"
  assert line in output.with_suffix(".md").read_text()
  monkeypatch.setattr(benchmark.train, "main", lambda argv: pytest.fail("measured twice"))
  assert benchmark.main([*arguments, "--time_steps=8"]) == 0
  with pytest.raises(SystemExit):
    benchmark.main([*arguments, "--time_steps=5"])
  assert "--time_steps=5: choose from 4, 8, 16" in capsys.readouterr().err
