"""The directory of a run, which another host may write at the same time."""

import pathlib

import pytest

from tcljax.runs import config_forms
from tcljax.runs.workdir import prepare_workdir


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
