"""Files of NIR that are damaged, odd, or larger than they look."""

import os

import h5py
import nir
import numpy as np
import pytest

import tcljax
from tcljax import files
from tcljax.conversion import nir_files, nir_survey

SOFT = tcljax.SpikingConfig(time_steps=4)
_ONES = np.ones(3, np.float32)


@pytest.fixture
def path(tmp_path):
  """A file of one population."""
  found = tmp_path / "network.nir"
  node = nir.IF(_ONES, _ONES, 0 * _ONES)
  nir.write(found, nir.NIRGraph.from_list(nir.Affine(np.eye(3, dtype=np.float32), _ONES), node))
  return found


def _set(file, name, **given):
  del file[f"node/nodes/{name}"]
  file.create_dataset(f"node/nodes/{name}", **given)


def many_groups(file):
  """Groups within each other, each twice: 2**60 on the way to the last."""
  group = file["node/nodes"]
  for _ in range(60):
    inner = group.create_group("a")
    group["b"] = inner
    group = inner


def within_itself(file):
  file["node/nodes/if/metadata/up"] = file["node"]


def bomb(file):
  """An array of 4 GiB in some bytes."""
  _set(file, "affine/weight", shape=(2**30,), dtype="f4", chunks=(2**20,), compression="gzip")


def many_texts(file):
  _set(file, "if/type", shape=(2**20,), dtype=h5py.string_dtype())


def elsewhere(file):
  del file["node/nodes/affine/weight"]
  file["node/nodes/affine/weight"] = h5py.ExternalLink("other.nir", "/node/weight")


def kept_elsewhere(file):
  _set(file, "affine/bias", shape=(3,), dtype="f4", external=[("/etc/hostname", 0, 12)])


def no_graph(file):
  file["root"] = file["node/nodes/if"]
  del file["node"]
  file.move("root", "node")


def unknown(file):
  _set(file, "if/type", data="os", dtype=h5py.string_dtype())


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (many_groups, "it nests more than 8 groups"),
    (within_itself, "it nests more than 8 groups"),
    (bomb, "its arrays take more than 1073741824 bytes"),
    (many_texts, "it has more than 32768 texts"),
    (elsewhere, "'weight' is a link to elsewhere"),
    (kept_elsewhere, "'bias' is kept in other files"),
    (no_graph, "it holds b'IF' and no graph"),
  ],
)
def test_what_is_no_network_is_seen_before_it_is_unpacked(path, damage, message):
  with h5py.File(path, "a") as file:
    damage(file)
  assert path.stat().st_size < 2**20
  with pytest.raises(ValueError, match=f"^{message}"):
    nir_survey.survey(path)


@pytest.mark.parametrize(
  ("damage", "message"),
  [(elsewhere, "'weight' is a link to elsewhere$"), (unknown, "AssertionError")],
)
def test_it_is_refused_in_one_line(path, damage, message):
  with h5py.File(path, "a") as file:
    damage(file)
  with pytest.raises(ValueError, match=f"network.nir' cannot be read as NIR: {message}") as refused:
    tcljax.from_nir(path, SOFT)
  assert "\n" not in str(refused.value)


def test_a_file_on_which_hdf5_never_ends_or_crashes_is_refused(path, monkeypatch, tmp_path):
  monkeypatch.setattr(nir_files, "_SECONDS", 0.01)
  with pytest.raises(ValueError, match="HDF5 has not read it after 0 seconds: it is damaged"):
    tcljax.from_nir(path, SOFT)
  crash = tmp_path / "crash.py"
  crash.write_text("import os; os.abort()")
  monkeypatch.setattr(nir_files, "_SECONDS", 60)
  monkeypatch.setattr(nir_survey, "__file__", str(crash))
  with pytest.raises(ValueError, match="HDF5 fails on it: it is damaged"):
    tcljax.from_nir(path, SOFT)


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / "pipe.nir")
  with pytest.raises(ValueError, match=r"pipe.nir' cannot be read as NIR: it is no file"):
    tcljax.from_nir(tmp_path / "pipe.nir", SOFT)


def test_what_cannot_be_written_leaves_what_was_there(path, monkeypatch):
  before, network = path.read_bytes(), tcljax.from_nir(path, SOFT)

  def sync(path):
    raise OSError(28, os.strerror(28))

  monkeypatch.setattr(files, "sync", sync)
  with pytest.raises(ValueError, match=r"network.nir cannot be written: No space left") as refused:
    tcljax.to_nir(network, path)
  assert "\n" not in str(refused.value)
  assert path.read_bytes() == before and [*path.parent.iterdir()] == [path]


@pytest.mark.slow
def test_damaged_bytes_are_refused_or_read(path):
  """Bits that are turned, and bytes that are cut off."""
  rng, whole = np.random.default_rng(0), path.read_bytes()
  refused = 0
  for i in range(8):
    damaged = bytearray(whole[: len(whole) if i % 4 else int(rng.integers(len(whole)))])
    for at in rng.integers(0, len(whole), 8):
      damaged[at % max(len(damaged), 1) : at % max(len(damaged), 1) + 1] = bytes(
        [rng.integers(256)]
      )
    path.write_bytes(damaged)
    try:
      tcljax.from_nir(path, SOFT)
    except ValueError as error:
      assert "\n" not in str(error)
      refused += 1
  assert refused > 1
