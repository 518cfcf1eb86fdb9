"""What is built of the project: a wheel that runs by itself, and a source that is whole."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from running import ROOT, TINY

CONFIGS = {path.name for path in (ROOT / "configs").glob("*.py")}


def run(*arguments, cwd, **environment):
  """What Python printed, on either stream, and its status; there is no network to ask."""
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=cwd,
    env={**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
  )
  return done.stdout, done.returncode


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A copy of the project, so that what a build leaves behind lies elsewhere."""
  for tool in ("pip", "setuptools"):  # not imported: setuptools would change this process
    if importlib.util.find_spec(tool) is None:
      pytest.skip(f"needs {tool}")
  ignored = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", ".*_cache")

  def leave_out(folder, names):
    made = {"build", "dist", "runs", "site"} if folder == str(ROOT) else set()
    return ignored(folder, names) | made

  copy = tmp_path_factory.mktemp("source") / "tcljax"
  return shutil.copytree(ROOT, copy, ignore=leave_out)


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
  folder = tmp_path_factory.mktemp("wheel")
  out, status = run(
    *("-m", "pip", "wheel", "--no-build-isolation", "--no-deps", f"--wheel-dir={folder}", source),
    cwd=folder,
  )
  assert status == 0, out
  [path] = folder.glob("*.whl")
  return path


def test_the_wheel_holds_the_package_and_its_configs(wheel):
  names = set(zipfile.ZipFile(wheel).namelist())
  modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tcljax").rglob("*.py")}
  configs = {f"tcljax/configs/{name}" for name in CONFIGS}
  held = {name for name in names if ".dist-info/" not in name}
  assert held == modules | configs | {"tcljax/py.typed"} and len(configs) >= 7


def test_the_source_distribution_is_whole(source, tmp_path):
  if not (ROOT / ".git").exists():
    pytest.skip("needs a clone, to know what belongs to the project")
  tracked = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split("\0")
  out, status = run(
    "-c",
    f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})",
    cwd=source,
  )
  assert status == 0, out
  [path] = tmp_path.glob("*.tar.gz")
  with tarfile.open(path) as archive:
    held = {name.partition("/")[2] for name in archive.getnames()}
  there = {name for name in tracked if name and (ROOT / name).is_file()}
  assert len(there) > 150 and there - held == set()
  assert not [name for name in held if "__pycache__" in name]


@pytest.mark.slow
def test_an_installed_wheel_runs_a_config_by_its_name(wheel, tmp_path):
  """From an empty folder, with the installed package alone on the path."""
  target, empty = tmp_path / "installed", tmp_path / "empty"
  empty.mkdir()
  out, status = run(
    "-m", "pip", "install", "--no-deps", f"--target={target}", str(wheel), cwd=empty
  )
  assert status == 0, out

  def command(name, *arguments):
    script = target / "bin" / f"tcljax-{name}"
    return run(script, *arguments, cwd=empty, PYTHONPATH=str(target))

  code = "from tcljax.runs.config_files import shipped; print(shipped()['digits'])"
  out, _ = run("-c", code, cwd=empty, PYTHONPATH=str(target))
  assert out.strip() == str(target / "tcljax" / "configs" / "digits.py")
  short = (*TINY, "--config.train.steps=4", "--config.tune.steps=2")
  out, status = command("train", "--config=digits", *short)
  assert status == 0 and "test images" in out, out
  assert (empty / "runs" / "digits" / "results.json").is_file()
  out, status = command("train", "--config=digits:joynt", *short)
  assert status == 2 and "variant of the config='joynt' is unknown" in out
  out, status = run("-m", "tcljax.commands.train", "--help", cwd=empty, PYTHONPATH=str(target))
  assert status == 0 and "Name of a config (cnn, digits, event_digits, " in out
  for name in ("train", "compare"):
    out, status = command(name, "--config=digit")
    assert status == 2 and out.count("\n") == 1
    assert "--config=digit is no file; the configs by name are cnn, digits, event_digits, " in out
