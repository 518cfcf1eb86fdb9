"""The directory of a run, which another host may write at the same time."""

import os
import pathlib

import pytest

from tcljax.distributed import parallel
from tcljax.files import FileError
from tcljax.runs import config_forms
from tcljax.runs.training_sections import TuneConfig
from tcljax.runs.workdir import (
  check_workdir,
  locked,
  prepare_workdir,
  tuning_steps,
)


@pytest.mark.parametrize("look", ["exists", "iterdir"])
def test_another_host_may_write_its_config_meanwhile(tmp_path, monkeypatch, look):
  config = config_forms.parse(config_forms.base_config())
  original = getattr(pathlib.Path, look)

  def look_and_be_overtaken(path):
    found = original(path)
    found = found if isinstance(found, bool) else list(found)
    (tmp_path / "config.json").write_text(config_forms.to_json(config))
    return found

  monkeypatch.setattr(pathlib.Path, look, look_and_be_overtaken)
  assert prepare_workdir(tmp_path, config) == tmp_path
  assert (tmp_path / "config.json").read_text() == config_forms.to_json(config)


def test_one_run_holds_a_workdir(tmp_path):
  config, path = config_forms.parse(config_forms.base_config()), tmp_path / "a" / "run"
  assert check_workdir(path, config) == path and not path.exists()
  with locked(path):
    assert path.is_dir()
    with pytest.raises(FileError, match="run is in use by process"):
      check_workdir(path, config)
    with pytest.raises(FileError, match="run is in use by process"), locked(path):
      pass
    prepare_workdir(path, config)
  assert [f.name for f in path.iterdir()] == ["config.json"]


def test_paths_that_checkpoints_cannot_be_read_back_from_are_refused(tmp_path):
  """Orbax takes the path for a pattern when it puts the parts of a checkpoint together."""
  with pytest.raises(ValueError, match=r"workdir .*/a\[1\]/run has a '\[' in its path"):
    check_workdir(tmp_path / "a[1]" / "run", config_forms.parse(config_forms.base_config()))


def test_other_hosts_go_by_what_the_main_one_got(tmp_path, monkeypatch):
  """They take no lock, and end where the main one could not take it."""
  monkeypatch.setattr(parallel, "is_main_host", lambda: False)
  monkeypatch.setattr(parallel, "agreed", lambda number: 1)
  with locked(tmp_path):
    assert list(tmp_path.iterdir()) == []
  monkeypatch.setattr(parallel, "agreed", lambda number: 0)
  with pytest.raises(FileError, match="cannot be used, as process 0 says"), locked(tmp_path):
    pass


@pytest.mark.parametrize(
  "text", ["{}", "[]", '{"steps": true}', '{"steps": 0}', '{"steps": "3"}', "{", os.mkdir]
)
def test_the_chosen_number_of_steps_may_be_anything(tmp_path, text):
  path = tmp_path / "tuning_steps.json"
  text(path) if callable(text) else path.write_text(text)
  with pytest.raises(FileError, match=r"tuning_steps\.json cannot be read: .*; remove it and"):
    tuning_steps(TuneConfig(minutes=1.0), tmp_path)
