"""`convert.py` as a user runs it."""

import json
import re

import numpy as np
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
  assert "verified" in out and "spikes/neuron" in out and "agrees with ANN %" in out
  converted = json.loads((output / "results.json").read_text())
  trained = json.loads((workdir / "results.json").read_text())
  assert converted["images"] == 360 and converted["ann"] == trained["ann"]
  for steps, percent in trained["snn"].items():
    assert abs(converted["snn"][steps] - percent) <= 100 * 2 / 360 + 1e-3
  costs = converted["costs"]
  assert costs["images"] == 200 and list(costs["synaptic_operations"]) == list(converted["snn"])
  assert f"{costs['synaptic_operations']['8']:.0f}" in out and "ANN of 8 bits: " in out
  network = tcljax.load(output)
  assert network.spiking.time_steps == 4 and network.metadata["dataset"] == "digits"
  assert network(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 10)
  # Again into the same place: replaced.
  argv = ["convert.py", f"--workdir={workdir}", f"--output={output}"]
  assert convert.main([*argv, f"--nir={tmp_path / 'network.nir'}"]) == 0
  assert "written as NIR: " in capsys.readouterr().out
  read = tcljax.from_nir(tmp_path / "network.nir")
  assert read.graph.populations() == network.graph.populations()
  assert read.metadata == network.metadata and read.spiking == network.spiking


def test_a_file_of_nir_that_cannot_be_is_refused_before_any_work(workdir, tmp_path, capsys):
  argv = ["convert.py", f"--workdir={workdir}", f"--output={tmp_path / 'snn'}"]
  for path in (tmp_path, tmp_path / "nowhere" / "network.nir"):
    assert convert.main([*argv, f"--nir={path}"]) == 2
    assert complaint(capsys).startswith(f"convert: --nir='{path}' is no file in a folder")
  assert not (tmp_path / "snn").exists()
