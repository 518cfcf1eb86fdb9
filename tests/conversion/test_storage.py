"""Networks on disk: what saving and loading keep and refuse."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from no_paths import no_paths
from running import calibrate_plainly

import tcljax
from tcljax.conversion import places, storage
from tcljax.conversion.description import digest


def test_round_trip_gives_the_same_bits(network, images, tmp_path):
  loaded = tcljax.load(tcljax.save(network, tmp_path / "net"))
  assert loaded.graph == network.graph and loaded.spiking == network.spiking
  assert loaded.input_shape == (8, 8, 3) and loaded.metadata == {"name": "test"}
  np.testing.assert_array_equal(loaded(images), network(images))
  np.testing.assert_array_equal(loaded(images, time_steps=3), network(images, time_steps=3))
  assert sorted(f.name for f in tmp_path.iterdir()) == ["net"]


def test_a_failed_write_leaves_the_old_network(network, images, tmp_path, monkeypatch):
  path = tcljax.save(network, tmp_path / "net")

  def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(storage, "write_arrays", full_disk)
  with pytest.raises(ValueError, match="cannot be written: No space left"):
    tcljax.save(network, path)
  np.testing.assert_array_equal(tcljax.load(path)(images), network(images))


def test_metadata_must_be_json(vgg, images):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images)
  for note in ({1, 2}, np.zeros(3), np.float32(1), float("nan"), {"deep": [object()]}):
    with pytest.raises(ValueError, match=r"^note of the metadata cannot .* as JSON, .*give te"):
      tcljax.convert(model, variables, (8, 8, 3), note=note)


def test_what_is_written_is_on_the_disk_before_it_is_renamed(network, tmp_path, monkeypatch):
  synced, rename = [], pathlib.Path.rename
  for module in (places, storage):
    monkeypatch.setattr(module, "sync", lambda path: synced.append(path.name))
  monkeypatch.setattr(
    pathlib.Path, "rename", lambda path, to: (synced.append("renamed"), rename(path, to))[1]
  )
  tcljax.save(network, tmp_path / "net")
  files = ["weights.safetensors", "README.md", "step.stablehlo", "network.json", "net.partial"]
  assert synced == [*files, "renamed", tmp_path.name]


def test_other_programs_read_the_weights(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  found = safetensors.numpy.load_file(path / "weights.safetensors")
  expected = traverse_util.flatten_dict(network.variables, sep="/")
  assert set(found) == set(expected)
  for name, array in expected.items():
    assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"metadata": {"x": float("nan")}}, "x of the metadata cannot be stored as JSON, Out of range"),
    ({"metadata": {1: "a", "1": "b"}}, "metadata of a network must be JSON .*'1' twice"),
    ({"metadata": {"x": "y" * 2**22}}, "metadata of a network must be JSON of at most 4194304"),
    ({"spiking": tcljax.SpikingConfig(10**6)}, "time_steps=1000000 is above 16384: store fewer"),
    ({"variables": {"params": {}}}, "node 'conv:1': its array 'kernel' is missing"),
  ],
)
def test_what_could_not_be_loaded_is_not_saved(network, tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    tcljax.save(dataclasses.replace(network, **change), tmp_path / "net")
  assert not list(tmp_path.iterdir())


def test_arrays_of_numpys_own_type_are_stored_as_they_are_computed(network, images, tmp_path):
  wide = jax.tree.map(lambda a: np.asarray(a, np.float64), dict(network.variables))
  loaded = tcljax.load(tcljax.save(dataclasses.replace(network, variables=wide), tmp_path / "net"))
  np.testing.assert_array_equal(loaded(images), network(images))
  wide["params"]["dense:1"]["bias"][0] = 1e300  # in float32 it is infinite
  with pytest.raises(ValueError, match="bias of 'dense:1' holds 1 NaN or infinite numbers"):
    tcljax.save(dataclasses.replace(network, variables=wide), tmp_path / "net")


def test_damaged_files_are_told(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  weights, description = path / "weights.safetensors", path / "network.json"
  whole, text = weights.read_bytes(), description.read_text()

  def told(match):
    with pytest.raises(ValueError, match=f"^spiking network {path} .*{match}"):
      tcljax.load(path)

  def changed(**fields):
    tree = json.loads(text) | fields
    description.write_text(json.dumps(tree | {"sha256": digest(tree)}))

  for size in (0, 10, len(whole) // 2, len(whole) - 1):
    weights.write_bytes(whole[:size])
    told(f"weights.safetensors: it has {size} bytes in place of {len(whole)}")
  weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
  told("weights.safetensors: it was changed after it was written: its SHA-256 is another")
  weights.unlink()
  with pytest.raises(ValueError, match=r"is not a spiking network: .*weights\.safetensors is m"):
    tcljax.load(path)
  weights.write_bytes(whole)
  description.write_text(text[:100])
  told("network.json: it is not JSON: ")
  description.write_text(text.replace('"delay": 0', '"delay": 1'))
  told("network.json: it was changed after it was written: its SHA-256 is another")
  for other in (1, 2, 3, 4, 99):
    changed(format=other)
    remedy = "update tcljax" if other > 7 else "convert the network again"
    told(f"it has format {other}, this version reads 5 to 9: {remedy}")
  spiking = json.loads(text)["spiking"]
  changed(spiking=spiking | {"neuron": spiking["neuron"] | {"reset": "slow"}})
  told("cannot be read: network.json: reset='slow' is unknown")
  nodes = json.loads(text)["nodes"]
  changed(nodes=[nodes[0] | {"op": "fourier"}, *nodes[1:]])
  told("cannot be read: node 'conv:1': unknown operation 'fourier'")
  changed(nodes=[nodes[0] | {"settings": {}}, *nodes[1:]])
  told(r"cannot be read: node 'conv:1': its settings are \[\] and must be \['feature_group")
  changed(input_shape=[8, 8, 4])
  told(
    r"cannot be read: node 'conv:1': a kernel \(3, 3, 3, 8\) in 1 groups does not fit 4 channels"
  )
  description.unlink()
  with pytest.raises(ValueError, match=r"is not a spiking network: .*network\.json is missing"):
    tcljax.load(path)


def test_the_program_of_a_step_is_compared_with_its_sum(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  step = path / "step.stablehlo"
  whole = step.read_bytes()
  for raw, message in (
    (whole[:-1] + b"?", "it was changed after it was written: its SHA-256 is another"),
    (whole + b"?", f"it has {len(whole) + 1} bytes in place of {len(whole)}"),
    (bytes(2**24 + 1), "it has 16777217 bytes, and 16777216 are the most"),
  ):
    step.write_bytes(raw)
    with pytest.raises(ValueError, match=rf"cannot be read: step\.stablehlo: {message}"):
      tcljax.load(path)
  step.unlink()
  (path / "README.md").write_text("ours, with a license")
  assert tcljax.load(path).graph == network.graph
  tcljax.save(network, path, step=False)
  step.write_bytes(whole)
  with pytest.raises(ValueError, match=r"step\.stablehlo: the description does not name it"):
    tcljax.load(path)
  with pytest.raises(ValueError, match=r"^step='no' must be True or False"):
    tcljax.save(network, path, step="no")


def test_what_is_no_path_is_told(network, tmp_path):
  for value, message in no_paths(tmp_path):
    before = set(tmp_path.iterdir())
    for door in (
      lambda: tcljax.save(network, value),  # noqa: B023
      lambda: tcljax.load(value),  # noqa: B023
    ):
      with pytest.raises(ValueError, match=f"^directory{message}"):
        door()
    assert set(tmp_path.iterdir()) == before
  with pytest.raises(ValueError, match=r"^path.*(must be a path|link that leads back)"):
    tcljax.load_pretrained(tmp_path / "loop", tcljax.CNN(num_classes=3), (8, 8, 1))
