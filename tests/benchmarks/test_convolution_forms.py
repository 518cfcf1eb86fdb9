"""The benchmark of convolutions in small sizes."""

import json

import pytest
from running import load_benchmark


@pytest.mark.slow
def test_it_writes_its_table(tmp_path):
  output = tmp_path / "new" / "convolution_forms"
  assert (
    load_benchmark("convolution_forms").main(
      ["--batch_size=1", "--channels=2", "--rounds=1", f"--output={output}"]
    )
    == 0
  )
  found = json.loads(output.with_suffix(".json").read_text())
  assert {(row["pixels"], row["stride"], row["what"]) for row in found["rows"]} >= {
    (2, 1, "forward"),
    (4, 2, "gradient to the image"),
    (8, 1, "gradient to the kernel, in a loop"),
  }
  assert all(row["lax"] > 0 < row["tcljax"] for row in found["rows"])
  assert "| 2x2 | 1 | forward |" in output.with_suffix(".md").read_text()
