"""The configs for ImageNet, on a small set of the same format."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jpeg_sets import NUM_CLASSES, name_of, write_set
from running import ROOT, complaint, get_config

from tcljax.commands import train
from tcljax.commands.arguments import Command
from tcljax.data import evaluation_batches, load_dataset, training_batches
from tcljax.distributed import parallel
from tcljax.runs import calibration, config_forms
from tcljax.runs.experiment import make_experiment
from tcljax.training import optimizers
from tcljax.training import step as training_step
from tcljax.training.objectives import ann_objective, snn_objective

FEW = (
  "--config.data.name=photos",
  "--config.train.batch_size=8",
  "--config.train.steps=2",
  "--config.tune.batch_size=8",
  "--config.tune.steps=2",
  "--config.tune.images=8",
  "--config.tune.at=()",
  "--config.snn.time_steps=2",
  "--config.eval.time_steps=2",
  "--config.eval.batch_size=8",
  "--config.log_every=1",
)
SMALL = (
  "--config.data.image_size=32",
  "--config.data.workers=0",
  "--config.model.stages=((4,),(8,))",
  "--config.model.dense=(16,)",
)


@pytest.fixture
def data_dir(tmp_path):
  path = tmp_path / "sets"
  write_set(path, train=16, validation=5)
  return path


def arguments(config, data_dir, workdir, *overrides):
  return [
    f"--config={ROOT / 'configs' / config}.py",
    f"--config.data.data_dir={data_dir}",
    f"--workdir={workdir}",
    *FEW,
    *overrides,
  ]


@pytest.mark.slow
def test_a_streamed_run(data_dir, tmp_path, capsys):
  given = arguments("imagenet_vgg16", data_dir, tmp_path / "run", *SMALL)
  assert train.main(["train.py", *given, "--config.data.validation=4"]) == 0
  assert "of 4 validation images" in capsys.readouterr().out
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert results["images"] == 5 and list(results["snn"]) == ["1", "2"]


def test_a_damaged_test_image_ends_a_command_in_one_line(tmp_path, capsys):
  write_set(tmp_path, train=2, validation=5, corrupt={name_of("validation", 2)})
  test = load_dataset(
    "photos", str(tmp_path), test_split="validation", image_size=8, stream=True, workers=0
  ).test
  command = Command("train", "", ["train.py"])
  assert command.run(lambda: lambda: list(evaluation_batches(test, 8))) == 2
  assert "image 'validation_002.JPEG' cannot be read" in complaint(capsys)


def test_images_too_small_for_the_stem_and_an_unprepared_set(data_dir, tmp_path, capsys):
  given = arguments("imagenet_resnet34", data_dir, tmp_path / "run")
  assert train.main(["train.py", *given, "--config.data.image_size=16"]) == 2
  assert "image size 16x16 is too small for the model's 5 halvings" in complaint(capsys)
  assert train.main(["train.py", *given, "--config.data.name=imagenet2012"]) == 2
  assert "ILSVRC2012_img_val.tar" in complaint(capsys)
  assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_resnet34_at_full_resolution(data_dir, tmp_path):
  """As a user runs it: worker processes leave no message and no process behind."""
  done = subprocess.run(
    [
      sys.executable,
      ROOT / "train.py",
      *arguments("imagenet_resnet34", data_dir, tmp_path / "run", "--config.data.workers=2"),
    ],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0 and done.stderr == "", done.stderr
  assert json.loads((tmp_path / "run" / "results.json").read_text())["images"] == 5


@pytest.mark.full
@pytest.mark.parametrize("name", ["imagenet_resnet34", "imagenet_vgg16"])
def test_a_step_of_each_phase_at_full_resolution(data_dir, name):
  config = get_config(name)
  config.data.name, config.data.data_dir, config.data.workers = "photos", str(data_dir), 0
  config.snn.time_steps, config.tune.at, config.tune.images = 2, (), 2
  config.train.batch_size = config.tune.batch_size = 8  # of the 16 images there are
  experiment = make_experiment(config_forms.parse(config))
  assert experiment.input_shape == (224, 224, 3)
  # Two images cannot be shared by eight devices.
  mesh = Mesh(np.array(jax.devices()[:1]), ("data",), axis_types=(AxisType.Auto,))
  batch = parallel.shard(mesh, next(training_batches(experiment.dataset.train, 2, seed=0)))

  def step(objective, variables, collection, optimizer):
    transformation = optimizers.train_only({collection: optimizer.transformation(10)})
    state, metrics = training_step.train_step(
      training_step.one_step(objective, transformation, (collection,), 10)
    )(training_step.new_state(variables, transformation), batch, jax.random.key(0))
    assert np.isfinite(metrics["loss"]) and metrics["gradient_norm"] > 0
    return state.variables

  objective = ann_objective(experiment.ann, experiment.preprocess, config.train.label_smoothing)
  variables = step(objective, experiment.initial_variables(), "params", experiment.train.optimizer)
  assert variables["params"]["head"]["bias"].shape == (NUM_CLASSES,)
  tune = dataclasses.replace(experiment.tune, instalments=2)
  experiment = dataclasses.replace(experiment, tune=tune)
  variables = calibration.calibrate_as_configured(experiment, variables)
  objective = snn_objective(
    experiment.model, lambda images, key: experiment.preprocess(images), experiment.spiking, mesh
  )
  step(objective, variables, "clipping", experiment.tune.optimizer)
