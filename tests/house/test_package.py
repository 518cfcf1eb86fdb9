"""What the package says of itself: its version, its versions of others, its files of habits."""

import configparser
import re
import subprocess
import sys

import pytest
import yaml
from running import ROOT

import tcljax


@pytest.fixture
def setup():
  parsed = configparser.ConfigParser()
  parsed.read(ROOT / "setup.cfg")
  return parsed


def required(setup):
  lines = setup["options"]["install_requires"].splitlines()
  lines += setup["options.extras_require"]["test"].splitlines()
  return [line for line in lines if line and not line.startswith("#")]


def test_the_version_is_that_of_the_metadata(setup):
  assert tcljax.__version__ == setup["metadata"]["version"]
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  assert citation["version"] == setup["metadata"]["version"]
  assert f"## [{tcljax.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_version_costs_nothing_until_it_is_asked_for():
  code = "import tcljax; assert '__version__' not in vars(tcljax); print(tcljax.__version__)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == tcljax.__version__


def test_a_name_that_is_not_there_is_an_attribute_error():
  with pytest.raises(AttributeError, match="module 'tcljax' has no attribute 'callibrate'"):
    _ = tcljax.callibrate


def test_every_dependency_has_a_lowest_version_and_it_is_checked(setup):
  lines = required(setup)
  assert all(re.match(r"[\w-]+(\[\w+\])?(>=|==)\d", line) for line in lines)
  lowest = (ROOT / ".github" / "lowest.txt").read_text().splitlines()[1:]
  tools = ("pyright", "ruff", "torch")  # tools, and a package that is pinned anyway
  assert sorted(lowest) == sorted(
    line.replace(">=", "==") for line in lines if not line.startswith(tools)
  )


def test_the_workflow_runs_what_the_documents_say(setup):
  jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text())["jobs"]
  runs = {
    name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()
  }
  assert runs["tests"] == ["pip install -e '.[test]' && python -m pytest"]
  assert runs["tests"][0] in (ROOT / "README.md").read_text()
  versions = jobs["tests"]["strategy"]["matrix"]["python"]
  classifiers = setup["metadata"]["classifiers"]
  assert re.findall(r"Python :: ([\d.]+)", classifiers) == versions == ["3.11", "3.12", "3.13"]
  assert runs["lowest"] == ["pip install -c .github/lowest.txt -e '.[test]' && python -m pytest"]
  contributing = (ROOT / "CONTRIBUTING.md").read_text()
  for command in ("ruff check .", "pyright", "mkdocs build --strict"):
    assert command in runs["style"] and f"`{command}`" in contributing
  hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
  assert [hook["entry"].replace(" --force-exclude", "") for hook in hooks] == [
    "ruff check",
    "ruff format",
    "pyright",
  ]


def test_paths_in_contributing_are_there():
  text = (ROOT / "CONTRIBUTING.md").read_text()
  paths = re.findall(r"`((?:tcljax|benchmarks|configs|tests|\.ci|\.github)/[\w./-]*)`", text)
  assert len(paths) > 15
  for path in paths:
    assert (ROOT / path).exists(), path
