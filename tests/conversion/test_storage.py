"""Networks on disk: what saving and loading keep, replace and refuse."""

import json

import numpy as np
import pytest
from running import calibrate_plainly

import tcljax
from tcljax.conversion import storage


def test_round_trip_gives_the_same_bits(network, images, tmp_path):
  loaded = tcljax.load(tcljax.save(network, tmp_path / "net"))
  assert loaded.graph == network.graph and loaded.spiking == network.spiking
  assert loaded.input_shape == (8, 8, 3) and loaded.metadata == {"name": "test"}
  np.testing.assert_array_equal(loaded(images), network(images))
  np.testing.assert_array_equal(loaded(images, time_steps=3), network(images, time_steps=3))
  assert sorted(f.name for f in tmp_path.iterdir()) == ["net"]


def test_overwrites_a_network_and_nothing_else(network, tmp_path):
  tcljax.save(network, tmp_path / "net")
  tcljax.save(network, tmp_path / "net")
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "thesis.tex").write_text("precious")
  (tmp_path / "file").write_text("precious")
  for name in ("other", "file"):
    with pytest.raises(ValueError, match=r"holds thesis\.tex and is not|cannot be written"):
      tcljax.save(network, tmp_path / name)
  assert (tmp_path / "other" / "thesis.tex").read_text() == "precious"
  assert (tmp_path / "file").read_text() == "precious"


def test_a_failed_write_leaves_the_old_network(network, images, tmp_path, monkeypatch):
  path = tcljax.save(network, tmp_path / "net")

  def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(storage.np, "savez", full_disk)
  with pytest.raises(ValueError, match="cannot be written: No space left"):
    tcljax.save(network, path)
  np.testing.assert_array_equal(tcljax.load(path)(images), network(images))


def test_files_of_the_user_inside_a_network_are_not_deleted(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  (path / "notes.txt").write_text("precious")
  with pytest.raises(ValueError, match=r"holds notes\.txt and is not \(only\) a spiking network"):
    tcljax.save(network, path)
  assert (path / "notes.txt").read_text() == "precious"


def test_a_save_that_was_killed_between_its_renames_loses_nothing(network, images, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  path.rename(tmp_path / "net.replaced")  # as such a save leaves it
  assert storage.check_output(path) == path
  np.testing.assert_array_equal(tcljax.load(path)(images), network(images))


def test_a_link_stays_a_link(network, images, tmp_path):
  (tmp_path / "disk").mkdir()
  (tmp_path / "net").symlink_to(tmp_path / "disk", target_is_directory=True)
  for _ in range(2):
    tcljax.save(network, tmp_path / "net")
  assert (tmp_path / "net").is_symlink()
  np.testing.assert_array_equal(tcljax.load(tmp_path / "net")(images), network(images))


def test_metadata_must_be_json(vgg, images, tmp_path):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images)
  network = tcljax.convert(model, variables, (8, 8, 3), note={1, 2})
  with pytest.raises(ValueError, match="metadata of a network must be JSON"):
    tcljax.save(network, tmp_path / "net")
  assert not list(tmp_path.iterdir())


def test_damaged_files_are_told(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  arrays, description = path / "arrays.npz", path / "network.json"
  whole, text = arrays.read_bytes(), description.read_text()

  def told(match):
    with pytest.raises(ValueError, match=match):
      tcljax.load(path)

  for size in (0, 10, len(whole) // 2, len(whole) - 1):
    arrays.write_bytes(whole[:size])
    told("cannot be read")
  arrays.unlink()
  told("arrays.npz is missing")
  arrays.write_bytes(whole)
  description.write_text(text[:100])
  told("cannot be read")
  for other in (1, 2, 99):
    description.write_text(json.dumps(json.loads(text) | {"format": other}))
    told(f"it has format {other}, this version reads 3: convert the network again")
  parts = json.loads(text)
  parts["spiking"]["neuron"]["reset"] = "slow"
  description.write_text(json.dumps(parts))
  told("cannot be read: reset='slow' is unknown")
  parts = json.loads(text)
  parts["nodes"][0]["op"] = "fourier"
  description.write_text(json.dumps(parts))
  told("cannot be read: unknown operation 'fourier'")
  description.unlink()
  told("is not a spiking network: .*network.json is missing")
