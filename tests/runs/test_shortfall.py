"""What a user is told of a network far from its ANN, held against the library's own calls."""

import functools
import json
import shutil

import numpy as np
from running import run_train
from states import ended_with, experiment_of

import tcljax
from tcljax.layers.activations import Quantized, with_activation
from tcljax.runs.shortfall import shortfall


def test_it_tells_what_quantization_alone_costs_and_the_worst_layers(workdir):
  experiment, variables = experiment_of(workdir), ended_with(workdir)
  told = shortfall(experiment, variables, 41.0, 20.0)
  test, t = experiment.dataset.test, experiment.spiking.time_steps
  network = with_activation(experiment.model, functools.partial(Quantized, time_steps=t))
  logits = network.apply(variables, experiment.preprocess(test.images))
  quantized = 100 * np.mean(np.asarray(logits).argmax(-1) == test.labels)
  first = (
    f"T = {t} is far from the ANN: 20.00 % where that has 41.00 %. If every spike came in time"
  )
  assert told.startswith(f"{first} it would be {quantized:.2f} %, so most is lost to spikes")
  found = tcljax.diagnose(
    experiment.model,
    variables,
    experiment.dataset.train.images[:128],
    experiment.spiking,
    preprocess=experiment.preprocess,
  )
  own = lambda one: one.clipping**2 + one.quantization**2 + one.unevenness**2
  worst = max(found, key=lambda name: own(found[name]))
  share = 100 * own(found[worst]) / sum(map(own, found.values()))
  stage, layer = worst.removeprefix("act").split("_")
  line = told.splitlines()[2]
  assert line.startswith(f"  Stage {stage}, layer {layer} adds {share:.0f} % of it: "), line


def test_near_the_ann_nothing_is_said_and_nothing_measured(workdir):
  assert shortfall(experiment_of(workdir), {}, 99.0, 97.5) == ""


def test_without_a_look_it_is_the_figures_alone(workdir):
  told = shortfall(experiment_of(workdir), {}, 99.0, 20.0, look=False)
  assert told == "T = 4 is far from the ANN: 20.00 % where that has 99.00 %."


def test_train_says_it_with_the_figures_of_its_results(workdir, tmp_path, capsys):
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  assert run_train(copy) == 0
  results = json.loads((copy / "results.json").read_text())
  ann, snn = results["ann"], results["snn"]["4"]
  assert ann - snn > 2  # so short was its training
  last = capsys.readouterr().out.rstrip().splitlines()[-1]
  assert last == f"T = 4 is far from the ANN: {snn:.2f} % where that has {ann:.2f} %."
