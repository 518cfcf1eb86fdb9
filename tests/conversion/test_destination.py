"""Where a network may be written: what it replaces is a network, and files of the user stay."""

import re

import numpy as np
import pytest

import tcljax
from tcljax.conversion.destination import check_output


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


def test_files_of_the_user_inside_a_network_are_not_deleted(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  (path / "notes.txt").write_text("precious")
  with pytest.raises(ValueError, match=r"holds notes\.txt and is not \(only\) a spiking network"):
    tcljax.save(network, path)
  assert (path / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["net.partial", "net.replaced"])
@pytest.mark.parametrize("there", [False, True])
def test_files_of_the_user_beside_a_network_are_not_deleted(network, tmp_path, name, there):
  if there:
    tcljax.save(network, tmp_path / "net", step=False)
  (tmp_path / name).mkdir()
  for number in range(9):
    (tmp_path / name / f"{number}.txt").write_text("precious")
  told = rf"{re.escape(name)}, which holds 0\.txt, 1\.txt, .* and 4 more: move that away"
  with pytest.raises(ValueError, match=told):
    tcljax.save(network, tmp_path / "net", step=False)
  assert len(list((tmp_path / name).glob("*.txt"))) == 9
  assert (tmp_path / "net").exists() == there


@pytest.mark.parametrize("name", ["net.partial", "net.replaced"])
@pytest.mark.parametrize("what", ["file", "link", "README.md"])
def test_what_only_has_the_name_is_not_taken_for_what_a_save_left(network, tmp_path, name, what):
  place = tmp_path / name
  if what == "file":
    place.write_text("precious")
  elif what == "link":
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
  else:
    place.mkdir()
    (place / what).write_text("precious")
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ValueError, match=rf"{re.escape(name)}, which .*: move that away"):
    tcljax.save(network, tmp_path / "net", step=False)
  assert sorted(tmp_path.rglob("*")) == before


def test_a_save_that_was_killed_between_its_renames_loses_nothing(network, images, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  path.rename(tmp_path / "net.replaced")  # as such a save leaves it
  assert check_output(path) == path
  np.testing.assert_array_equal(tcljax.load(path)(images), network(images))


def test_a_link_stays_a_link(network, images, tmp_path):
  (tmp_path / "disk").mkdir()
  (tmp_path / "net").symlink_to(tmp_path / "disk", target_is_directory=True)
  for _ in range(2):
    tcljax.save(network, tmp_path / "net")
  assert (tmp_path / "net").is_symlink()
  np.testing.assert_array_equal(tcljax.load(tmp_path / "net")(images), network(images))


def test_a_network_of_an_earlier_format_is_replaced(network, tmp_path):
  path = tmp_path / "net"
  path.mkdir()
  (path / "network.json").write_text('{"format": 4, "nodes": []}')
  (path / "arrays.npz").write_bytes(b"PK")
  with pytest.raises(ValueError, match="it has format 4, this version reads 5 to 9: convert"):
    tcljax.load(path)
  assert sorted(f.name for f in tcljax.save(network, path, step=False).iterdir()) == [
    "README.md",
    "network.json",
    "weights.safetensors",
  ]


def test_a_directory_by_the_name_of_our_file_is_not_deleted(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  (path / "results.json").mkdir()
  (path / "results.json" / "thesis.tex").write_text("precious")
  with pytest.raises(ValueError, match=r"holds results\.json and is not \(only\)"):
    tcljax.save(network, path)
  assert (path / "results.json" / "thesis.tex").read_text() == "precious"


def test_a_report_is_replaced_with_its_network_and_what_lies_there_is_not(network, tmp_path):
  path = tcljax.save(network, tmp_path / "net")
  figures = path / "report" / "figures"
  figures.mkdir(parents=True)
  files = ["results.json", "accuracy.png"]
  files += [f"report/{name}" for name in ("index.html", "figures/costs.png", "figures/costs.json")]
  for name in files:
    (path / name).write_text("x")
    (path / f"{name}.partial").write_text("x")  # left where writing was ended
  tcljax.save(network, path)
  assert not {"report", "accuracy.png.partial"} & {file.name for file in path.iterdir()}
  for name in ("thesis.tex", "figures/thesis.png.tex", "figures/deeper/costs.png"):
    (path / "report" / name).parent.mkdir(parents=True, exist_ok=True)
    (path / "report" / name).write_text("precious")
    with pytest.raises(ValueError, match=r"holds report and is not \(only\)"):
      tcljax.save(network, path)
    assert (path / "report" / name).read_text() == "precious"
    (path / "report" / name).unlink()
  (path / "report" / "figures" / "deeper").rmdir()
  tcljax.save(network, path)


def test_the_root_of_all_files_and_what_is_no_network_stay(network, tmp_path):
  with pytest.raises(ValueError, match=r"^directory='/' is the root of all files: choose another"):
    tcljax.save(network, "/")
  with pytest.raises(ValueError, match=r"^/ is not a spiking network: /network\.json is missing"):
    tcljax.load("/")
  (tmp_path / "photos").mkdir()
  (tmp_path / "photos" / "cat.jpg").write_text("precious")
  with pytest.raises(ValueError, match=r"photos holds cat.jpg and is not \(only\) a spiking netw"):
    tcljax.save(network, tmp_path / "photos")
  (tmp_path / "link").symlink_to("photos")
  with pytest.raises(ValueError, match=r"photos holds cat\.jpg"):
    tcljax.save(network, tmp_path / "link")
  assert (tmp_path / "photos" / "cat.jpg").read_text() == "precious"
