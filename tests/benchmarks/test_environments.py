"""Environments of other programs: made once, and anew where that was cut off."""

import subprocess
import types

import pytest
from running import load_benchmark


@pytest.fixture
def environments(monkeypatch):
  """The module, which makes empty folders; `calls` are those of pip, `failing` what pip says."""
  module = load_benchmark("environments")
  module.calls, module.failing = [], ""

  def create(place, clear, with_pip):
    assert clear and with_pip
    (place / "bin").mkdir(parents=True, exist_ok=True)
    (place / "bin" / "python").touch()

  def run(command, **_):
    module.calls.append(command[-1])
    return types.SimpleNamespace(returncode=bool(module.failing), stderr=module.failing)

  monkeypatch.setattr(module.venv, "create", create)
  monkeypatch.setattr(subprocess, "run", run)
  return module


def test_it_is_made_once_for_the_same_packages(environments, tmp_path):
  for _ in range(2):
    python = environments.environment(tmp_path / "a" / "torch", [["x==1"], ["--no-deps", "y"]])
  assert python == str(tmp_path / "a" / "torch" / "bin" / "python")
  assert environments.calls == ["x==1", "y"]
  environments.environment(tmp_path / "a" / "torch", [["x==2"]])
  assert environments.calls == ["x==1", "y", "x==2"]


def test_one_that_was_cut_off_is_made_anew(environments, tmp_path):
  environments.failing = (
    "WARNING: slow\nERROR: No matching distribution found for x\n[notice] pip\n"
  )
  with pytest.raises(ValueError, match="torch cannot be installed: ERROR: No matching") as refused:
    environments.environment(tmp_path / "torch", [["x"]])
  assert "\n" not in str(refused.value)
  environments.failing = ""
  environments.environment(tmp_path / "torch", [["x"]])
  assert environments.calls == ["x", "x"]
