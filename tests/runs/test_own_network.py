"""A network from a user's own file, on the digits of a config, as a user runs `convert.py`."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from running import DIGITS, complaint, get_config

import tcljax
from tcljax.commands import convert
from tcljax.data import Dataset, Split
from tcljax.runs import calibration, config_forms, conversion_run, own_network, user_file

NETWORKS = """
import pathlib
import jax
import jax.numpy as jnp
import numpy as np
import tcljax
import beside

assert pathlib.Path(__file__).with_name("beside.py").is_file()  # as weights may lie there
rng = np.random.default_rng(0)
W = [rng.normal(size=size).astype(np.float32) / 4 for size in ((64, 8), (8, 10))]
KERNEL = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)


def dense(x):
  return jax.nn.softmax(jax.nn.relu(x.reshape(len(x), -1) @ W[0]) @ W[1])


def network():
  return dense


def channels_first():
  layout = ("NCHW", "OIHW", "NCHW")
  conv = lambda x: jax.lax.conv_general_dilated(x, KERNEL, (2, 2), "SAME", dimension_numbers=layout)
  own = lambda x: jax.nn.relu(conv(x)).reshape(len(x), -1) @ W[0] @ W[1]
  return tcljax.trace(own, jnp.ones((1, 1, 8, 8)))


def flat():
  return tcljax.trace(dense, jnp.ones((1, 64)))


def two():
  both = lambda x: jax.nn.relu(x[0] @ W[0]) @ W[1] + x[1] @ W[0] @ W[1]
  return tcljax.trace(both, (jnp.ones((1, 64)), jnp.ones((1, 64))))


def seven():
  return lambda x: jax.nn.relu(x.reshape(len(x), -1) @ W[0]) @ W[1][:, :7]


def other_size():
  return tcljax.trace(lambda x: jax.nn.relu(x @ W[0][:32]) @ W[1], jnp.ones((1, 32)))


def unconvertible():
  return lambda x: jnp.tanh(jax.nn.relu(x.reshape(len(x), -1) @ W[0])) @ W[1]


def fails():
  raise KeyError("weights")


def ends():
  raise SystemExit(3)


def nothing():
  return None
"""
TINY = (
  "--config.tune.steps=2",
  "--config.tune.images=64",
  "--config.snn.time_steps=4",
  "--config.tune.instalments=4",
  "--config.eval.time_steps=4",
  "--config.eval.batch_size=128",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  folder = tmp_path_factory.mktemp("own")
  (folder / "beside.py").write_text("")
  (folder / "own.py").write_text(NETWORKS)
  return folder / "own.py"


def run(network, output, *overrides):
  return convert.main(
    ["convert.py", f"--network={network}", DIGITS, f"--output={output}", *TINY, *overrides]
  )


def test_it_is_calibrated_tuned_converted_and_measured(file, tmp_path, capsys, monkeypatch):
  output = tmp_path / "snn"

  def failing(*_):
    raise conversion_run.ConversionFailed("the disk may be faulty")

  with monkeypatch.context() as context:
    context.setattr(own_network, "convert_and_verify", failing)
    assert run(f"{file}:network", output) == 1
  assert complaint_of_failure(capsys) == "convert: the disk may be faulty\n"
  assert len([*tmp_path.glob(".snn*.tuning-*")]) == 1 and not output.exists()
  assert run(f"{file}:network", output, f"--nir={tmp_path / 'own.nir'}") == 0
  out = capsys.readouterr().out
  assert "own.py:network takes the place of the config's model: pretrained and the sections" in out
  assert re.search(r"own.py:network, as ANN: \S+ % of 64 training images; are the config's", out)
  assert "tuned: 2 of 2 steps are done already" in out  # by the run that failed
  assert re.search(r"dot_general +affine +own.py:16 +.*dense:1", out)
  assert re.search(r"softmax", out) and "verified" in out and "ANN of 8 bits" in out
  assert not [*tmp_path.glob(".snn*")]
  results = json.loads((output / "results.json").read_text())
  assert results["config"] == "own.py:network" and results["images"] == 360
  assert list(results["snn"]) == ["1", "2", "4"] and results["costs"]["images"] == 200
  network = tcljax.load(output)
  assert network.input_shape == (8, 8, 1) and network.metadata["dataset"] == "digits"
  assert network.metadata["name"] == "own.py:network"
  assert tcljax.from_nir(tmp_path / "own.nir").graph.populations() == ["relu"]


@pytest.mark.slow
def test_answers_of_layers_that_wait_are_read_out_late(file, tmp_path, monkeypatch):
  def choose(model, variables, batches, spiking):
    assert sum(map(len, batches)) == 64 and "clipping" in variables
    return dataclasses.replace(spiking, delay=3)

  monkeypatch.setattr(calibration, "choose_delay", choose)
  for calibrated, delay in (("delivered", 3), ("least_squares", 0)):
    output = tmp_path / calibrated
    flags = (f"--config.tune.calibration={calibrated}", "--config.tune.steps=0", "--noreport")
    assert run(f"{file}:network", output, *flags) == 0
    assert tcljax.load(output).spiking.delay == delay


def complaint_of_failure(capsys):
  return capsys.readouterr().err.splitlines(keepends=True)[-1]


@pytest.mark.parametrize("name", ["channels_first", "flat"])
def test_networks_take_images_in_another_order_of_axes(file, name):
  config = config_forms.parse(get_config("digits"))
  place = own_network.check(config, f"{file}:{name}")
  made, variables = own_network.make_own_experiment(config, place)
  images = made.preprocess(made.dataset.test.take(np.arange(2)).images)
  own = user_file.traced_from(place, None)
  assert own.input_shape != (8, 8, 1) and made.model.graph.populations() == ["relu"]
  expected = own.model.apply(own.variables, images.reshape(2, *own.input_shape))
  np.testing.assert_allclose(made.model.apply(variables, images), expected, rtol=1e-5, atol=1e-6)
  assert made.model.graph.nodes[0].op == ("conv" if name == "channels_first" else "reshape")


def test_channels_come_first(rng):
  kernel = rng.normal(size=(4, 2, 3, 3)).astype(np.float32)
  conv = lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME")
  own = tcljax.trace(lambda x: jax.nn.relu(conv(x)).mean(axis=(2, 3)), np.ones((1, 2, 6, 5)))
  x = rng.normal(size=(3, 6, 5, 2)).astype(np.float32)
  nothing = Split(x[:0])
  given = own_network.taking_images(own, Dataset("six", nothing, nothing, Split(x), 4))
  assert given.input_shape == (6, 5, 2) and given.populations == own.populations
  expected = own.model.apply(own.variables, np.moveaxis(x, -1, 1))
  found = given.model.apply(given.variables, x)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match=r"inputs of shape \(2, 6, 5\), and the images of 'six'"):
    own_network.taking_images(own, Dataset("six", nothing, nothing, Split(x.swapaxes(1, 2)), 4))


@pytest.mark.parametrize(
  "name, message",
  [
    ("two", "--network: it takes 2 inputs, and the images of .digits. are one: "),
    ("seven", r"--network: its output for a batch has shape \(batch, 7\), and .digits. has 10 c"),
    ("other_size", r"--network: it takes inputs of shape \(32,\), and the images of .digits. are"),
    ("unconvertible", r"--network=own.py:unconvertible: the model applies `tanh` \(own.py:48\)"),
    ("fails", r"--network=own.py:fails fails \(own.py:52\): KeyError: 'weights'"),
    ("ends", r"--network=own.py:ends fails \(own.py:56\): SystemExit: 3"),
    ("nothing", "--network=own.py:nothing gives None: let it return what tcljax.trace"),
    ("dense", r"--network=own.py:dense takes arguments \(x\): name a function without any"),
    ("W", "--network=own.py:W: the file has no function 'W'; its functions are dense, network,"),
  ],
)
def test_networks_that_cannot_be_are_told_in_one_line(file, tmp_path, capsys, name, message):
  assert run(f"{file}:{name}", tmp_path / "snn") == 2
  assert re.match(f"convert: {message}", complaint(capsys))
  assert not [*tmp_path.iterdir()]


def test_bad_command_lines(file, tmp_path, capsys):
  output = f"--output={tmp_path / 'snn'}"
  network = f"--network={file}:network"
  (tmp_path / "broken.py").write_text("import nothing_there\n")
  for argv, message in (
    ([], "give one of the two: --workdir, a finished run of train.py, or --network"),
    ([network, "--workdir=x", DIGITS], "give one of the two: --workdir, a finished run"),
    ([network], "--config is required with --network: it has the images"),
    ([network, "--config.seed=1"], "--config.seed changes a config: give --config too"),
    (["--workdir=x", DIGITS], "--config goes with --network: a workdir has the config of its run"),
    ([f"--network={file}", DIGITS], f"--network='{file}' names no function: give FILE.py:FUNCTION"),
    (["--network=no.py:f", DIGITS], "--network='no.py:f': .*no.py is no file"),
    ([network, DIGITS, "--config.snn.readout=rate"], "--config.snn.readout='rate' is for the con"),
    ([network, DIGITS, "--config.tune.batch_size=12"], "--config.tune.batch_size=12 cannot be spl"),
    ([network, DIGITS, "--nir=nowhere/own.nir"], "--nir='nowhere/own.nir' is no file in a folder"),
    (
      [f"--network={tmp_path / 'broken.py'}:f", DIGITS],
      r"--network=broken.py:f fails \(broken.py:1\): ModuleNotFoundError: No module named 'nothing",
    ),
  ):
    assert convert.main(["convert.py", output, *argv]) == 2
    assert re.match(f"convert: {message}", complaint(capsys))
  assert run(f"{file}:network", tmp_path / "a[1]") == 2
  assert re.match(r"convert: output .*a\[1\] has a '\['", complaint(capsys))
  assert [path.name for path in tmp_path.iterdir()] == ["broken.py"]
