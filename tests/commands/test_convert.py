"""`convert.py` as a user runs it."""

import json
import re
import zipfile

import jax.export
import numpy as np
import pytest
from running import complaint

import tcljax
from tcljax.commands import convert


def test_convert_writes_a_network_that_loads_alone(workdir, tmp_path, capsys):
  output = tmp_path / "snn"
  assert convert.main(["convert.py", f"--workdir={workdir}", f"--output={output}"]) == 0
  out = capsys.readouterr().out
  # What became of each operation of the model.
  assert re.search(r"conv_general_dilated +affine +\S+/conv1_1 +.*conv:1", out)
  assert re.search(r"neurons +population +\S+/act1_1 +.*act1_1", out)
  # Of its three populations each takes a step.
  assert "the answer of T steps comes after T + 3, that of 4 after 7.\n" in out
  assert "verified" in out and "spikes/neuron" in out and "agrees with ANN %" in out
  converted = json.loads((output / "results.json").read_text())
  trained = json.loads((workdir / "results.json").read_text())
  assert converted["images"] == 360 and converted["ann"] == trained["ann"]
  for steps, percent in trained["snn"].items():
    assert abs(converted["snn"][steps] - percent) <= 100 * 2 / 360 + 1e-3
  costs = converted["costs"]
  assert costs["images"] == 200 and list(costs["synaptic_operations"]) == list(converted["snn"])
  assert f"{costs['synaptic_operations']['8']:.0f}" in out and "ANN of 8 bits: " in out
  assert f"report: {output / 'report' / 'index.html'}\n" in out
  page = (output / "report" / "index.html").read_text()
  assert f"{converted['snn']['4']:.2f}\u00a0% after 4 steps" in page
  assert "Learning curves: they belong to the report of train.py" in page
  figures = {file.name for file in (output / "report" / "figures").iterdir()}
  assert {"answers.png", "costs.json", "graph.png", "error_by_layer.json"} <= figures
  network = tcljax.load(output)
  assert network.spiking.time_steps == 4 and network.metadata["dataset"] == "digits"
  assert network.metadata["class_names"] == list("0123456789")
  assert network.metadata["input_range"][0] < 0 < network.metadata["input_range"][1]
  accuracy = network.metadata["accuracy"]
  assert accuracy["snn"] == converted["snn"] and accuracy["data"] == "digits, the test images"
  assert f"| 8 | {accuracy['snn']['8']:.2f} |" in (output / "README.md").read_text()
  assert network(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)
  # Again into the same place: replaced with its report, of which there is no new one.
  argv = ["convert.py", f"--workdir={workdir}", f"--output={output}", "--noreport"]
  assert convert.main([*argv, f"--nir={tmp_path / 'network.nir'}"]) == 0
  out = capsys.readouterr().out
  assert "written as NIR: " in out and "report" not in out
  assert not (output / "report").exists()
  read = tcljax.from_nir(tmp_path / "network.nir")
  assert read.graph.populations() == network.graph.populations()
  assert read.metadata == network.metadata and read.spiking == network.spiking


def test_a_file_of_nir_that_cannot_be_is_refused_before_any_work(workdir, tmp_path, capsys):
  argv = ["convert.py", f"--workdir={workdir}", f"--output={tmp_path / 'snn'}"]
  for path in (tmp_path, tmp_path / "nowhere" / "network.nir"):
    assert convert.main([*argv, f"--nir={path}"]) == 2
    assert complaint(capsys).startswith(f"convert: --nir='{path}' is no file in a folder")
  (tmp_path / "mine.py").write_text("import jax")
  assert convert.main([*argv, f"--nir={tmp_path / 'mine.py'}"]) == 2
  assert "is a file of something else than NIR, and would be lost" in complaint(capsys)
  assert (tmp_path / "mine.py").read_text() == "import jax"
  assert not (tmp_path / "snn").exists()


@pytest.mark.parametrize(
  "output, nir",
  [
    ("snn", "snn/network.json"),
    ("snn.zip", "snn.zip"),
    ("snn.zip", "snn/a.nir"),
    ("a.nir/snn", "a.nir"),
    ("a.nir", "a.nir"),
  ],
)
def test_a_file_of_nir_in_the_output_itself_is_refused(workdir, tmp_path, capsys, output, nir):
  (tmp_path / nir).parent.mkdir(exist_ok=True)
  flags = [f"--output={tmp_path / output}", f"--nir={tmp_path / nir}"]
  assert convert.main(["convert.py", f"--workdir={workdir}", *flags]) == 2
  assert f"lies where the output {tmp_path / output} goes" in complaint(capsys)
  assert not (tmp_path / nir).exists()


def test_convert_writes_one_file_too_with_its_figures_beside_it(
  workdir, tmp_path, capsys, exported
):
  output = tmp_path / "snn.tcljax.zip"
  argv = ["convert.py", f"--workdir={workdir}", f"--output={output}"]
  (tmp_path / "snn.tcljax").mkdir()
  (tmp_path / "snn.tcljax" / "thesis.tex").write_text("precious")
  assert convert.main(argv) == 2
  assert "snn.tcljax, which holds thesis.tex: choose another path" in complaint(capsys)
  (tmp_path / "snn.tcljax" / "thesis.tex").unlink()
  assert convert.main(argv) == 0
  assert tcljax.load(output).metadata["name"] == "digits"
  with zipfile.ZipFile(output) as opened:
    program = jax.export.deserialize(bytearray(opened.read("step.stablehlo")))
  assert program.platforms == ("cpu", "cuda", "tpu")
  assert sorted(path.name for path in tmp_path.iterdir()) == ["snn.tcljax", "snn.tcljax.zip"]
  figures = tmp_path / "snn.tcljax"
  names = ["accuracy.png", "report", "results.json"]
  assert sorted(path.name for path in figures.iterdir()) == names
  assert (figures / "report" / "index.html").is_file()
  # Written again without a report, it has none of the network before.
  assert convert.main([*argv, "--noreport"]) == 0
  assert sorted(path.name for path in figures.iterdir()) == ["accuracy.png", "results.json"]
