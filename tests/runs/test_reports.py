"""The page of a run of training: the network's own figures, and what there is where it is none."""

import dataclasses
import html
import json
import re

import flax.linen as nn
import jax
import numpy as np
from states import ended_with, experiment_of

from tcljax.distributed import parallel
from tcljax.layers.activations import ReLU
from tcljax.layers.collections import CLIPPING, PARAMS
from tcljax.runs import reports, stages


class Block(nn.Module):
  """Two activations, of which the second has the first name."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="second")(nn.Dense(6)(x))
    return self.act(name="first")(nn.Dense(5)(x))


class Nested(nn.Module):
  """An activation and a block of them."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="stem")(nn.Dense(8)(x.reshape(len(x), -1)))
    return nn.Dense(10)(Block(self.act, name="block")(x))


def figures_of(folder):
  return {file.stem for file in (folder / "report" / "figures").glob("*.json")}


def test_layers_have_the_names_of_the_converted_network(workdir, tmp_path):
  experiment = dataclasses.replace(experiment_of(workdir), ann=Nested())
  clipping = experiment.initial_clipping(1.0)
  variables = {**experiment.initial_variables(), CLIPPING: clipping}
  evaluations = stages.evaluate_stages(experiment, {"calibrated": variables, "tuned": variables})
  reports.report_training(experiment, tmp_path, variables, evaluations)
  folder = tmp_path / "report"
  names = ["stem", "block.second", "block.first"]
  for figure in ("distributions", "rates"):
    assert [*json.loads((folder / "figures" / f"{figure}.json").read_text())] == names
  page = (folder / "index.html").read_text()
  measured = evaluations["tuned"].firing_rates
  assert {*measured} == {"stem", "block/second", "block/first"}
  for name in names:
    [row] = re.findall(rf'<tr><th scope="row">{re.escape(name)}</th>(.*?)</tr>', page)
    assert row.endswith(f"<td>{measured[name.replace('.', '/')]:.4f}</td>")
  assert [*json.loads((folder / "figures" / "accuracy.json").read_text())["time_steps"]] == [
    "SNN, calibrated",
    "SNN",
  ]
  # Nothing of its training is known: the page says so, and still is that of a run.
  assert "Learning curves: no steps of training are recorded in metrics.jsonl." in page
  assert "digits: training" in page and "convert.py" not in page.partition("How it was made")[0]


def test_a_network_that_cannot_be_converted_has_its_page(workdir, tmp_path):
  experiment, variables = experiment_of(workdir), ended_with(workdir)
  evaluations = stages.evaluate_stages(experiment, {"tuned": variables})
  broken = jax.tree.map(np.array, variables)
  broken[PARAMS]["conv2_1"]["kernel"][0, 0, 0, 0] = np.nan
  (tmp_path / "metrics.jsonl").write_text((workdir / "metrics.jsonl").read_text())
  reports.report_training(experiment, tmp_path, broken, evaluations)
  assert figures_of(tmp_path) == {"learning", "accuracy", "distributions", "confusion"}
  page = html.unescape((tmp_path / "report" / "index.html").read_text())
  left_out = page.partition('id="left-out"')[2]
  [line] = re.findall(r"<li>([^<]+)", left_out)
  assert line.startswith(
    "The error's split, Costs, Answers over time, The graph, Operations: the network cannot be "
    "converted: "
  )
  assert "finite" in line


def test_the_main_host_alone_writes(workdir, tmp_path, monkeypatch):
  """The others look at the network too, as every host of a job does all of the work."""
  experiment, variables = experiment_of(workdir), ended_with(workdir)
  evaluations = stages.evaluate_stages(experiment, {"tuned": variables})
  looked = []
  whole = reports.portrait
  monkeypatch.setattr(reports, "portrait", lambda *given: looked.append(0) or whole(*given))
  monkeypatch.setattr(parallel, "is_main_host", lambda: False)
  reports.report_training(experiment, tmp_path, variables, evaluations)
  assert len(looked) == 2 and not [*tmp_path.iterdir()]
