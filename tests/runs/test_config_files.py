"""Configs by their names: in a clone, in an installed package, and from any folder."""

import pathlib
import re

import pytest
from running import ROOT, complaint

import tcljax
from tcljax.commands import compare, train
from tcljax.runs.config_files import find_config, shipped

NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def test_every_config_has_a_name():
  assert list(shipped()) == NAMES and "digits" in NAMES
  for name in NAMES:
    assert find_config(name) == str(ROOT / "configs" / f"{name}.py")
    assert find_config(f"{name}:joint,cifar100") == f"{ROOT / 'configs' / name}.py:joint,cifar100"


def test_a_path_is_taken_as_it_is(tmp_path):
  pathlib.Path("mine.py").write_text("")
  assert find_config("mine.py:a") == "mine.py:a"
  assert find_config(f"{tmp_path}/mine.py") == f"{tmp_path}/mine.py"
  pathlib.Path("digits").write_text("")  # a file of the user's goes before a name
  assert find_config("digits:joint") == "digits:joint"


def test_an_installed_package_holds_its_configs(tmp_path, monkeypatch):
  package = tmp_path / "site-packages" / "tcljax"
  (package / "configs").mkdir(parents=True)
  (package / "configs" / "one.py").write_text("")
  (package.parent / "configs").mkdir()  # of another package
  (package.parent / "configs" / "two.py").write_text("")
  monkeypatch.setattr(tcljax, "__file__", str(package / "__init__.py"))
  assert shipped() == {"one": package / "configs" / "one.py"}


@pytest.mark.parametrize("name", ["digit", "configs/digits.py", "Digits", "digits.py", "", "."])
def test_an_unknown_name_is_told_with_those_there_are(name):
  with pytest.raises(ValueError) as caught:
    find_config(f"{name}:joint")
  assert str(caught.value) == (
    f"--config={name} is no file; the configs by name are {', '.join(NAMES)}"
  )


@pytest.mark.parametrize("flag", [["--config=vgg16:cifar100"], ["--config", "vgg16:cifar100"]])
@pytest.mark.parametrize("command", [train, compare])
def test_commands_take_names_and_variants(command, flag, capsys):
  # The variant names a set that is not prepared, and a field that is given beside it still counts.
  given = [*flag, "--config.data.data_dir=/nowhere"]
  assert command.main(["x", *given]) == 2
  assert "data set 'cifar100' is not prepared in /nowhere" in complaint(capsys)
  assert command.main(["x", *given, "--config.tune.steps=few"]) == 2
  assert "--config.tune.steps=few must be a whole number" in complaint(capsys)


@pytest.mark.parametrize("command", [train, compare])
def test_commands_tell_the_names(command, capsys):
  for given in (["--config=digit"], ["--config", "digit"], ["--config"], ["-config=digit:joint"]):
    assert command.main(["x", *given]) == 2
    assert re.search(
      r"--config=(digit)? is no file; the configs by name are cnn, digits, event_digits, imagenet_",
      complaint(capsys),
    )
  assert command.main(["x", "--help"]) == 0
  assert f"--config: Name of a config ({', '.join(NAMES)}) or path" in capsys.readouterr().out
