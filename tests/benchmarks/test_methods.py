"""The benchmark of methods beside a rival: what is measured, kept, added and dropped."""

import json
import sys

import numpy as np
import pytest
from running import DIGITS, TINY, load_benchmark


@pytest.fixture
def benchmark():
  return load_benchmark("methods")


RIVAL = """
import json, sys
print("loading ...")
given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
print(json.dumps({"images": int(given["--images"]),
                  "accuracy_at_T": {"1": 10.0, "2": 20.0 + len(given), "4": 30.5}}))
"""


@pytest.mark.slow
def test_it_puts_a_rival_beside_ours(tmp_path, benchmark, tiny_state, monkeypatch):
  monkeypatch.setenv("TCLJAX_WEIGHTS_DIR", str(tmp_path))
  np.savez(tmp_path / "net.npz", **tiny_state)
  (tmp_path / "rival.py").write_text(RIVAL)
  arguments = [
    f"--pretrained={tmp_path / 'net.npz'}",
    "--model=cnn",
    "--time_steps=2,4",
    "--images=48",
    DIGITS,
    f"--workdir={tmp_path / 'run'}",
    *TINY,
    f"--output={tmp_path / 'out' / 'table'}",
    "--methods=least_squares,tuned",
    f"--spikingjelly={sys.executable} {tmp_path / 'rival.py'}",
  ]
  assert benchmark.main(arguments) == 0
  found = json.loads((tmp_path / "out" / "table.json").read_text())
  assert found["command"].startswith(
    "python benchmarks/methods.py --pretrained=$TCLJAX_WEIGHTS_DIR/net.npz --model=cnn"
  )
  assert str(tmp_path) not in found["command"] and "jax" in found["machine"]
  assert all(
    set(row) - {"threshold"} == {"system", "method", "model", "T", "images", "accuracy"}
    and ("threshold" in row) == (row["system"] == "tcljax")
    and row["model"] == "cnn"
    and row["images"] == 48
    for row in found["rows"]
  )
  curves = {}
  for row in found["rows"]:
    curves.setdefault((row["system"], row["method"]), {})[row["T"]] = row["accuracy"]
  assert curves[("SpikingJelly", "max norm")] == {2: 23.0, 4: 30.5}
  assert curves[("SpikingJelly", "local threshold balancing, 50 passes")] == {2: 24.0, 4: 30.5}
  assert len(curves) == 6 and set(curves[("tcljax", "tuned")]) == {2, 4}
  table = (tmp_path / "out" / "table.md").read_text()
  assert "| SpikingJelly | max norm | 23.00 | 30.50 |" in table and "of 48 test images" in table
  assert (tmp_path / "out" / "table.png").exists()
  shares = [row["threshold"] for row in found["rows"] if row["method"] == "tuned"]
  cells = " | ".join(f"{share:.2f}" for share in shares)
  assert f"| tcljax | tuned | {cells} |" in table.partition("## Mean threshold")[2]
  assert (tmp_path / "out" / "table-thresholds.png").exists()
  assert found["command"].endswith(" --spikingjelly=COMMAND")


@pytest.mark.slow
def test_it_can_be_had_in_parts(tmp_path, benchmark, monkeypatch):
  """With a stand-in for the comparison: which figures are asked for, kept, added and dropped."""
  asked, with_thresholds = [], [True]

  def compare(argv):
    given = dict(argument.removeprefix("--").partition("=")[::2] for argument in argv[1:])
    asked.append(given["methods"])
    found = {
      "ann": 90.0,
      "images": int(given["images"]),
      "neurons": f"burst-{given['config.snn.burst']}",
      "rows": [
        {"method": method, "T": int(t), "accuracy": 50.0 + int(t)}
        | ({"delay": 1} if method == "tuned" else {})
        | ({"threshold": 60.0} if method in ("least_squares", "tuned") and with_thresholds else {})
        for method in given["methods"].split(",")
        for t in given["time_steps"].split(",")
      ],
    }
    workdir = tmp_path / given["workdir"]
    workdir.mkdir(exist_ok=True)
    (workdir / "compare.json").write_text(json.dumps(found))
    return 0

  monkeypatch.setattr(benchmark.command, "main", compare)
  (tmp_path / "rival.py").write_text(RIVAL)
  table = tmp_path / "table.json"

  def measure(*arguments, steps="2,4", images=48, methods="least_squares,tuned"):
    asked.clear()
    assert (
      benchmark.main(
        [
          "--pretrained=net.npz",
          f"--time_steps={steps}",
          f"--images={images}",
          f"--methods={methods}",
          f"--workdir={tmp_path / 'run'}",
          f"--output={tmp_path / 'table'}",
          f"--spikingjelly={sys.executable} {tmp_path / 'rival.py'}",
          *arguments,
        ]
      )
      == 0
    )
    return json.loads(table.read_text())

  text, second = tmp_path / "table.md", tmp_path / "table-thresholds.png"

  def rows(found, *, but=()):
    return [row for row in found["rows"] if (row["system"], row["method"]) not in but]

  with_thresholds.clear()
  measure()
  assert "Mean threshold" not in text.read_text() and not second.exists()
  with_thresholds.append(True)
  first = measure()  # where a threshold is lacking, it is asked for
  assert "| tcljax | tuned | 60.00 | 60.00 |" in text.read_text() and second.exists()
  assert asked == ["least_squares,tuned"] and len(first["rows"]) == 2 * 6
  assert "answers leave out, of tuned: 1 at T = 2, 4.\n" in text.read_text()
  # What is known is not run again, what is lacking is added.
  assert measure() == first and asked == []
  more = measure(methods="maximum,tuned")
  assert asked == ["maximum"] and len(more["rows"]) == 2 * 7
  assert rows(more, but=[("tcljax", "maximum")]) == first["rows"]
  longer = measure(steps="1", methods="tuned")
  assert [row["T"] for row in longer["rows"] if row["method"] == "tuned"] == [1, 2, 4]
  assert [row for row in longer["rows"] if row["T"] > 1] == more["rows"]
  assert "--time_steps=1,2,4 " in longer["command"] and "--time_steps=2,4 " in more["command"]
  # Another tuning makes other figures of ours; the rival's stand until there are other images.
  other = measure("--config.tune.steps=2", methods="maximum")
  assert {(row["system"], row["T"]) for row in rows(other, but=[("tcljax", "maximum")])} == {
    ("SpikingJelly", t) for t in (1, 2, 4)
  }
  (tmp_path / "rival.py").rename(tmp_path / "moved.py")
  with pytest.raises(SystemExit, match=r"--spikingjelly=.* failed: .*No such file"):
    measure(images=40)
  assert {row["system"] for row in json.loads(table.read_text())["rows"]} == {"tcljax"}
  table.write_text("[1")
  with pytest.raises(SystemExit, match=r"table.json cannot be read: .*; remove it"):
    measure()
