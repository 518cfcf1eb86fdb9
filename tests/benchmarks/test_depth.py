"""The benchmark of depth: how gradients agree, what was told while tuning, and the tables."""

import argparse
import contextlib
import json

import jax
import numpy as np
import pytest
from running import calibrate_plainly, get_config, load_benchmark

from tcljax.data import training_batches
from tcljax.distributed import parallel
from tcljax.runs import config_forms
from tcljax.runs.experiment import make_experiment
from tcljax.runs.workdir import prepare_workdir
from tcljax.training import objectives


@pytest.fixture
def benchmark():
  return load_benchmark("depth")


def test_gradients_agree_by_their_mean_cosine(benchmark):
  x, y = np.float32([1, 0]), np.float32([0, 1])
  assert benchmark._agreement([x, 2 * x]) == pytest.approx(1)
  assert benchmark._agreement([x, y]) == 0
  assert benchmark._agreement([x, x, y]) == pytest.approx(1 / 3)
  assert benchmark._agreement([x, 0 * x]) == 0


def test_the_losses_of_the_steps_that_were_told(benchmark, tmp_path):
  steps = [{"step": t, "answer_loss": t / 7, "rate_error": 1 / t} for t in (50, 75, 100)]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
  assert benchmark._losses(tmp_path) == [
    {"step": 50, "answer_loss": 7.143, "rate_error": 0.02},
    {"step": 100, "answer_loss": 14.286, "rate_error": 0.01},
  ]


def test_each_t_has_its_tables(benchmark):
  part = {"activations": "a to b", "total": 1.5, "inherited": 0.5}
  row = {"method": "tuned", "parts": [{**part, "answer_loss": 0.25, "rate_error": 0.75}]}
  told = [{"step": 50, "answer_loss": 2.5, "rate_error": 0.125}]
  rows = [{**row, "T": 4, "losses": told}, {**row, "T": 8, "method": "delivered"}]
  text = benchmark.markdown({"model": "resnet44", "rows": rows})
  assert text.count("## T = ") == 2 and "| tuned | a to b | 1.5 | 0.5 | 0.25 | 0.75 |" in text
  assert "| 50 | 2.5 | 0.125 |" in text


def test_a_workdir_of_another_recipe_is_refused(benchmark, tmp_path, capsys):
  """Its thresholds would be taken for those of this one; no image is read before."""
  flags = ["--pretrained=weights.th", f"--workdir={tmp_path / 'run'}"]
  args = argparse.Namespace(pretrained="weights.th", model="resnet44")
  config = benchmark._config(args, ["--config.tune.steps=30"])
  assert (config.tune.steps, config.model.name) == (30, "resnet44")
  prepare_workdir(tmp_path / "run", config)
  for flag, why in (
    ("--config.tune.steps=60", "holds another config (tune.steps: 30 -> 60): choose another"),
    ("--steps=60", "Unknown command line flag 'steps'"),
  ):
    with pytest.raises(SystemExit):
      benchmark.main([*flags, flag])
    assert why in capsys.readouterr().err


@pytest.mark.slow
def test_gradients_are_those_to_logarithms_of_thresholds(benchmark, monkeypatch):
  """Times what log(tau) gains by raw_threshold, they are the gradients to that."""
  config = get_config("digits")
  config.model.stages, config.model.dense, config.snn.time_steps = ((4,),), (), 2
  made = make_experiment(config_forms.parse(config))
  x = made.preprocess(made.dataset.train.images[:32])
  variables = calibrate_plainly(made.model, made.ann.init(jax.random.key(0), x), x)
  objective = objectives.tuning_objective(
    made.model, lambda images, key: made.preprocess(images), made.spiking, parallel.data_mesh()
  )
  with contextlib.closing(training_batches(made.dataset.train, 32, made.seed)) as batches:
    batch = next(batches)
  of = lambda held: objective({**variables, "clipping": held}, batch, jax.random.key(0))[1][0]
  monkeypatch.setattr(benchmark, "_BATCHES", 2)
  for loss in ("answer_loss", "rate_error"):
    first, second = benchmark._gradients(made, variables, loss)
    to_raw = jax.grad(lambda held, loss=loss: of(held)[loss])(variables["clipping"])
    assert sorted(first) == sorted(to_raw)
    for name, held in variables["clipping"].items():
      slope = jax.nn.sigmoid(held["raw_threshold"]) / jax.nn.softplus(held["raw_threshold"])
      expected = np.ravel(to_raw[name]["raw_threshold"] / slope)
      np.testing.assert_allclose(first[name], expected, rtol=1e-3)
      assert not np.array_equal(first[name], second[name])
