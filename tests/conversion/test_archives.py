"""A network in one file: written whole, read where it stands, and refused where it is another."""

import io
import os
import pathlib
import zipfile

import numpy as np
import pytest

import tcljax

NAMES = ["README.md", "network.json", "step.stablehlo", "weights.safetensors"]


@pytest.fixture(scope="module")
def archive(network, tmp_path_factory):
  return tcljax.save(network, tmp_path_factory.mktemp("archive") / "net.tcljax.zip")


def packed(path, entries, **settings):
  """An archive of these entries, by name."""
  with zipfile.ZipFile(path, "w", **settings) as opened:
    for name, content in entries:
      opened.writestr(name, content)
  return path


def entries_of(archive):
  with zipfile.ZipFile(archive) as opened:
    return [(name, opened.read(name)) for name in opened.namelist()]


def test_an_archive_gives_the_same_bits_and_bytes_as_a_folder(network, images, archive, tmp_path):
  loaded = tcljax.load(archive)
  assert (loaded.graph, loaded.spiking) == (network.graph, network.spiking)
  assert loaded.metadata == network.metadata
  np.testing.assert_array_equal(loaded(images), network(images))
  folder = tcljax.save(network, tmp_path / "net")
  held = dict(entries_of(archive))
  assert sorted(held) == sorted(file.name for file in folder.iterdir()) == NAMES
  assert all(content == (folder / name).read_bytes() for name, content in held.items())
  again = tcljax.save(network, tmp_path / "again.zip")
  assert again.read_bytes() == archive.read_bytes()
  assert sorted(file.name for file in tmp_path.iterdir()) == ["again.zip", "net"]


def test_what_another_program_has_packed_loads_and_is_replaced(network, archive, tmp_path):
  path = packed(tmp_path / "net.zip", reversed(entries_of(archive)))
  assert tcljax.load(path).graph == network.graph
  assert tcljax.load(tcljax.save(network, path)).graph == network.graph
  # By whatever name it goes.
  assert tcljax.load(path.rename(tmp_path / "net")).graph == network.graph


def test_nothing_else_is_replaced_by_an_archive(network, tmp_path):
  file, folder = tmp_path / "thesis.zip", tmp_path / "net.zip"
  packed(file, [("thesis.tex", "precious")])
  before = file.read_bytes()
  with pytest.raises(ValueError, match=r"thesis\.zip is there and is no archive of a spiking netw"):
    tcljax.save(network, file)
  assert file.read_bytes() == before
  folder.mkdir()
  (folder / "thesis.tex").write_text("precious")
  with pytest.raises(ValueError, match=r"net\.zip holds thesis\.tex and is not \(only\)"):
    tcljax.save(network, folder)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["net.zip", "thesis.zip"]


def test_a_full_disk_leaves_the_archive_that_was_there(network, archive, tmp_path, monkeypatch):
  path = pathlib.Path(tmp_path / "net.zip")
  path.write_bytes(archive.read_bytes())

  def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("tcljax.conversion.storage.write_arrays", full_disk)
  with pytest.raises(ValueError, match="cannot be written: No space left"):
    tcljax.save(network, path)
  assert path.read_bytes() == archive.read_bytes()
  assert [file.name for file in tmp_path.iterdir()] == ["net.zip"]


def encrypted(raw):
  """The bytes of an archive whose first entry is marked as encrypted."""
  raw = bytearray(raw)
  raw[6] |= 1
  raw[raw.index(b"PK\x01\x02") + 8] |= 1
  return bytes(raw)


def linked(archive):
  """An archive in which the weights are a link to a file of the system."""
  made = io.BytesIO()
  with zipfile.ZipFile(made, "w") as opened:
    for name, content in entries_of(archive):
      entry = zipfile.ZipInfo(name)
      if name == "weights.safetensors":
        entry.external_attr, content = 0o120777 << 16, b"/etc/passwd"
      opened.writestr(entry, content)
  return made.getvalue()


FAULTS = {
  "a path": (lambda held: [*held, ("../../x", b"")], "it holds '../../x', which is no file of a"),
  "a root": (lambda held: [*held, ("/etc/x", b"")], "it holds '/etc/x', which is no file of a"),
  "a folder": (lambda held: [(f"net/{n}", c) for n, c in held], "it holds 'net/.*', which is no f"),
  "many": (lambda held: [(str(n), b"") for n in range(3000)], "it has 3000 entries, and 16 are"),
  "no network": (lambda held: held[:-1], "is not a spiking network: network.json is missing"),
  "none": (lambda held: [], "is not a spiking network: network.json is missing"),
  "changed": (lambda held: [(n, c[:-1] + b"\0") for n, c in held[:-1]] + held[-1:], "SHA-256"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_archive_with_a_fault_is_refused(archive, tmp_path, fault):
  change, message = FAULTS[fault]
  path = packed(tmp_path / "net.zip", change(entries_of(archive)))
  with pytest.raises(ValueError, match=rf"^.*net\.zip .*{message}") as told:
    tcljax.load(path)
  assert "\n" not in str(told.value)
  assert [file.name for file in tmp_path.iterdir()] == ["net.zip"]


BYTES = {
  "encrypted": (lambda path: encrypted(path.read_bytes()), "is encrypted: decrypt it, and load th"),
  "a link": (linked, r"weights\.safetensors: it has 11 bytes in place of"),
  "no archive": (lambda path: b"PK" + bytes(99), "it is no archive of a network: File is not a zi"),
  "cut off": (lambda path: path.read_bytes()[:-9], "it is no archive of a network: "),
  "empty": (lambda path: b"", "it is no archive of a network: File is not a zip file"),
}


@pytest.mark.parametrize("fault", BYTES)
def test_so_are_bytes_that_are_another_thing(archive, tmp_path, fault):
  change, message = BYTES[fault]
  (tmp_path / "net.zip").write_bytes(change(archive))
  with pytest.raises(ValueError, match=f"^spiking network .* cannot be read: .*{message}"):
    tcljax.load(tmp_path / "net.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_compressed_or_there_twice_is_refused(archive, tmp_path):
  held = entries_of(archive)
  path = packed(tmp_path / "net.zip", held, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(ValueError, match="is compressed: unpack it, and load the folder"):
    tcljax.load(path)
  packed(path, [*held, held[0]])
  with pytest.raises(ValueError, match=r"it holds 'weights\.safetensors' twice"):
    tcljax.load(path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "net.zip")
  with pytest.raises(ValueError, match="cannot be read: it is not a regular file"):
    tcljax.load(tmp_path / "net.zip")
  with pytest.raises(ValueError, match=r"missing\.zip is not a spiking network: .*missing\.zip is"):
    tcljax.load(tmp_path / "missing.zip")
