"""The comparison of methods as a user runs it."""

import dataclasses
import json
import re
import shutil
import sys

import numpy as np
import pytest
from running import DIGITS, TINY, complaint, load_benchmark

import tcljax
from tcljax.commands import compare as command
from tcljax.runs import compare, config_forms, resume, stages
from tcljax.runs.experiment import make_experiment


def run(workdir, *arguments):
  return command.main(
    ["compare", DIGITS, f"--workdir={workdir}", *TINY, "--config.tune.at=(2,4)", *arguments]
  )


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
  path = tmp_path_factory.mktemp("compare") / "run"
  assert run(path, "--time_steps=4,2", "--images=64") == 0
  return path


def test_every_method_is_measured_at_every_number_of_steps(compared):
  results = json.loads((compared / "compare.json").read_text())
  assert results["images"] == 64 and 0 < results["ann"] <= 100
  curves = compare.curves(results)
  assert list(curves) == list(compare.METHODS)
  for curve in curves.values():
    assert list(curve) == [2, 4] and all(0 <= percent <= 100 for percent in curve.values())
  assert (compared / "compare.png").read_bytes().startswith(b"\x89PNG")
  # Each T is tuned in a directory of its own, and the set for all of them too.
  assert all((compared / name / "tuned").is_dir() for name in ("T2", "T4", "all"))


def test_figures_are_those_of_the_thresholds_they_are_named_after(compared):
  """Measured once more by other means: the library's own calls."""
  made = make_experiment(config_forms.from_json(compared / "config.json"))
  test = made.dataset.test
  curves = compare.curves(json.loads((compared / "compare.json").read_text()))

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


def test_tuning_takes_as_many_steps_of_simulation_for_each_t(compared):
  made = make_experiment(config_forms.from_json(compared / "config.json"))
  assert len(made.tune.at) == 2  # one set for both has the training of two
  total = made.tune.steps * made.snn.time_steps // 2
  for t in (1, 2, 4):
    assert made.with_time_steps(t).tune.steps * t == total
  assert made.with_time_steps(1000).tune.steps == 1
  one = dataclasses.replace(made, tune=dataclasses.replace(made.tune, at=()))
  assert one.with_time_steps(1).tune.steps == made.tune.steps * 4


def test_few_steps_leave_one_to_read_out_and_take_as_many_instalments(compared):
  config = config_forms.from_json(compared / "config.json")
  snn = dataclasses.replace(config.snn, delay=2)
  tune = dataclasses.replace(config.tune, instalments=3)
  made = make_experiment(dataclasses.replace(config, snn=snn, tune=tune))
  for t, delay, instalments in ((1, 0, 1), (2, 1, 2), (3, 2, 3), (8, 2, 3)):
    one = made.with_time_steps(t)
    assert one.spiking.delay == one.reported.delay == one.snn.delay == delay
    assert one.tune.instalments == instalments and one.spiking.time_steps == t


def test_what_is_known_is_not_measured_again(compared, capsys, monkeypatch):
  monkeypatch.setattr(stages, "evaluate_on_test", None)
  methods = ",".join(compare.METHODS)  # each can be asked for by its name
  assert run(compared, "--time_steps=2,4", "--images=64", f"--methods={methods}") == 0
  printed = capsys.readouterr().out
  for method in compare.METHODS:
    assert re.search(rf"^ *{re.escape(method)} +\d+\.\d\d +\d+\.\d\d$", printed, re.MULTILINE)
  assert re.search(r"activation +total % +inherited %", printed)


def test_a_damaged_file_is_told_and_kept(compared, tmp_path, capsys):
  shutil.copytree(compared, tmp_path / "run")
  (tmp_path / "run" / "compare.json").write_text("{")
  assert run(tmp_path / "run", "--time_steps=2", "--images=64") == 2
  assert "compare.json cannot be read: " in complaint(capsys)
  assert (tmp_path / "run" / "compare.json").read_text() == "{"


def test_figures_of_other_images_are_not_overwritten(compared, capsys):
  before = (compared / "compare.json").read_bytes()
  assert run(compared, "--time_steps=2", "--images=65") == 2
  assert "compare.json holds figures of 64 images, asked are 65: choose" in complaint(capsys)
  assert (compared / "compare.json").read_bytes() == before


def test_choices_are_made_on_images_set_aside(tmp_path, capsys):
  only = "--methods=least_squares"
  assert run(tmp_path / "a", "--time_steps=2", only, "--validation") == 2
  assert "no images are set aside; set config.data.validation" in complaint(capsys)
  assert (
    run(tmp_path / "b", "--time_steps=2", only, "--validation", "--config.data.validation=100") == 0
  )
  results = json.loads((tmp_path / "b" / "validation.json").read_text())
  assert results["images"] == 100
  assert not (tmp_path / "b" / "compare.json").exists()  # as many test images are other images
  assert [(row["method"], row["T"]) for row in results["rows"]] == [("least_squares", 2)]


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


def test_the_benchmark_puts_a_rival_beside_ours(tmp_path, benchmark, tiny_state, monkeypatch):
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
    set(row) == {"system", "method", "model", "T", "images", "accuracy"}
    and row["model"] == "cnn"
    and row["images"] == 48
    for row in found["rows"]
  )
  curves = {}
  for row in found["rows"]:
    curves.setdefault((row["system"], row["method"]), {})[row["T"]] = row["accuracy"]
  assert curves[("SpikingJelly", "maximum")] == {2: 23.0, 4: 30.5}
  assert curves[("SpikingJelly", "local threshold balancing, 50 passes")] == {2: 24.0, 4: 30.5}
  assert len(curves) == 6 and set(curves[("tcljax", "tuned")]) == {2, 4}
  table = (tmp_path / "out" / "table.md").read_text()
  assert "| SpikingJelly | maximum | 23.00 | 30.50 |" in table and "of 48 test images" in table
  assert (tmp_path / "out" / "table.png").exists()
  assert found["command"].endswith(" --spikingjelly=COMMAND")


def test_the_benchmark_can_be_had_in_parts(tmp_path, benchmark, monkeypatch):
  """With a stand-in for the comparison: which figures are asked for, kept, added and dropped."""
  asked = []

  def compare(argv):
    given = dict(argument.removeprefix("--").partition("=")[::2] for argument in argv[1:])
    asked.append(given["methods"])
    found = {
      "ann": 90.0,
      "images": int(given["images"]),
      "rows": [
        {"method": method, "T": int(t), "accuracy": 50.0 + int(t)}
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

  def rows(found, *, but=()):
    return [row for row in found["rows"] if (row["system"], row["method"]) not in but]

  first = measure()
  assert asked == ["least_squares,tuned"] and len(first["rows"]) == 2 * 6
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


@pytest.mark.parametrize(
  "argument, message",
  [
    ("--time_steps=4,many", "steps=4,many must be numbers from 1 on, such as 4,8,16"),
    ("--time_steps=0", "steps=0 must be numbers from 1 on"),
    ("--time_steps=", "steps= must be numbers"),
    ("--methods=best", "methods='best' is unknown: choose one of maximum, "),
    ("--images=-1", "images"),
    ("--config.snn.chunk=4", "chunk=4 does not divide time_steps=2"),
    ("--config.pretrained=nothing.npz", "pretrained: nothing.npz does not exist"),
  ],
)
def test_bad_input_is_told_before_anything_is_written(tmp_path, capsys, argument, message):
  assert run(tmp_path / "run", "--time_steps=2", argument) == 2
  assert message in complaint(capsys)
  assert not (tmp_path / "run").exists()
