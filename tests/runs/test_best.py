"""The best checkpoint of phase 1 by images set aside, also where a run is stopped on the way."""

import pytest
from running import TINY, get_config
from states import bits

from tcljax.distributed import parallel
from tcljax.runs import best, config_forms, stages
from tcljax.runs.config import ConfigError
from tcljax.runs.experiment import make_experiment
from tcljax.runs.workdir import ANN


@pytest.fixture
def experiment():
  config = get_config("digits")
  for flag in TINY:
    field, _, value = flag.removeprefix("--config.").partition("=")
    with config.unlocked():
      config.update_from_flattened_dict({field: eval(value)})
  config.train.best, config.data.validation = True, 100
  config.checkpoint_every, config.checkpoints_kept = 10, 9
  return make_experiment(config_forms.parse(config))


def trained(experiment, workdir, monkeypatch, accuracies):
  """The ANN where its checkpoints have these accuracies; one that is an error is raised."""
  asked = iter(accuracies)

  def accuracy(*network, batch_size, preprocess):
    _, _, images = network
    assert len(images) == 100
    found = next(asked)
    if isinstance(found, Exception):
      raise found
    return found

  monkeypatch.setattr(best, "accuracy", accuracy)
  variables = stages.train_ann(experiment, workdir, parallel.data_mesh())
  assert next(asked, None) is None
  return variables


def saved(workdir, variables, step):
  """What the checkpoint of a step holds."""
  with best.Checkpoints(workdir / ANN) as checkpoints:
    checkpoints._looked, checkpoints._newest = True, step
    abstract = parallel.abstract_replicated(parallel.data_mesh(), variables)
    return checkpoints.restore({"variables": abstract})["variables"]


@pytest.mark.slow
def test_the_best_is_taken_and_of_equals_the_later_one(experiment, tmp_path, monkeypatch, capsys):
  found = trained(experiment, tmp_path, monkeypatch, [50.0, 250 / 3, 250 / 3, 70.0])
  assert bits(found) == bits(saved(tmp_path, found, 30)) != bits(saved(tmp_path, found, 40))
  told = capsys.readouterr().out
  assert "ann 30/40: 83.33 % of 100 validation images, the best so far\n" in told
  assert "ann 40/40: 70.00 % of 100 validation images\n" in told
  # Run again, nothing is trained, the last one is looked at once more, and the same one is taken.
  assert bits(trained(experiment, tmp_path, monkeypatch, [70.0])) == bits(found)
  # Its newest copy damaged, the one before is taken.
  [file] = (tmp_path / "ann-best" / "30").rglob("_METADATA")
  file.write_bytes(file.read_bytes()[:-1])
  again = trained(experiment, tmp_path, monkeypatch, [70.0])
  assert bits(again) == bits(saved(tmp_path, found, 20))
  assert "30 is damaged: default/_METADATA has" in capsys.readouterr().out
  # Both damaged, what was saved last is all that is left to look at.
  for file_list in (tmp_path / "ann-best").glob("*.files.json"):
    file_list.write_text("{}")
  again = trained(experiment, tmp_path, monkeypatch, [70.0])
  assert bits(again) == bits(saved(tmp_path, found, 40))
  told = capsys.readouterr().out
  assert told.count("; the best of the steps from here on is taken\n") == 2 and "anew" not in told


@pytest.mark.slow
def test_a_run_that_ends_between_saving_and_looking_ends_with_the_same(
  experiment, tmp_path, monkeypatch
):
  with pytest.raises(RuntimeError, match="killed"):
    trained(experiment, tmp_path, monkeypatch, [50.0, RuntimeError("killed")])
  found = trained(experiment, tmp_path, monkeypatch, [90.0, 80.0, 70.0])  # of 20, 30 and 40
  assert bits(found) == bits(saved(tmp_path, found, 20))


def test_checkpoints_by_the_clock_are_refused():
  config = config_forms.base_config()
  config.train.best, config.data.validation = True, 10
  with pytest.raises(ConfigError, match=r"at fixed steps: set checkpoint_every above 0"):
    config_forms.parse(config)
