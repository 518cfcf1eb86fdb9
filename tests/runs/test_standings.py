"""How methods stand beside each other: what figures are, and which files hold them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import tcljax
from tcljax.reporting import tables
from tcljax.runs import standings


def test_mean_thresholds_are_geometric_means_of_shares_of_the_largest_activations():
  largest = {"a": np.float32([2, 2]), "b": np.float32([3, 12])}
  taus = {"a": np.float32([1, 2]), "b": np.float32(3)}  # one for the layer
  assert standings.mean_share(taus, largest) == pytest.approx(100 * (0.5 * 1 * 1 * 0.25) ** 0.25)
  assert standings.mean_share(largest, largest) == 100


@pytest.mark.parametrize(
  "rows, right",
  [
    ([], True),
    ([{"method": "tuned", "T": 4, "accuracy": 99.0}], True),
    ([{"method": "tuned", "T": 4, "accuracy": 99.0, "threshold": 60.5}], True),
    ([{"method": "tuned", "T": 4, "accuracy": 99.0, "delay": 1}], True),
    ([{"method": "maximum", "T": 4, "accuracy": 99.0, "delay": 1}], True),
    ([{"method": "tuned", "T": 4, "accuracy": 99.0, "delay": 1.0}], False),
    ([{"method": "tuned", "T": 4, "accuracy": 99.0, "delay": True}], False),
    ([{"method": "tuned", "T": 4, "accuracy": 99.0, "threshold": None}], False),
    ([{"method": "maximum", "T": 4, "accuracy": 99.0, "threshold": 60.5}], False),
    ([{"method": "tuned", "T": 4, "threshold": 60.5}], False),
    ([{"method": "tuned", "T": 4, "accuracy": 99.0, "thresholds": 60.5}], False),
    ({}, False),
    ([4], False),
    ([{"method": "tuned", "T": "4", "accuracy": 99.0}], False),
    ([{"method": "tuned", "T": True, "accuracy": 99.0}], False),
    ([{"method": ["tuned"], "T": 4, "accuracy": 99.0}], False),
    ([{"method": "tuned", "T": 4}], False),
    ([{"method": "tuned", "T": 4, "accuracy": None}], False),
  ],
)
def test_figures_are_known_by_their_form(rows, right):
  assert standings.are_results({"images": 64, "ann": 99.0, "rows": rows}) == right
  assert not standings.are_results({"images": 64, "rows": rows})


def test_figures_without_a_name_are_of_binary_neurons(tmp_path):
  text = json.dumps({"images": 2, "ann": 50.0, "rows": []})
  (tmp_path / "compare.json").write_text(text)
  made = SimpleNamespace(dataset=SimpleNamespace(test=[0, 1]), spiking=tcljax.SpikingConfig())
  assert standings.Ledger(tmp_path / "compare.json", made, {}).results["neurons"] == "binary"


def test_steps_that_answers_leave_out_are_known_where_there_are_any(tmp_path):
  made = SimpleNamespace(dataset=SimpleNamespace(test=[0, 1]), spiking=tcljax.SpikingConfig())
  text = json.dumps({"images": 2, "ann": 50.0, "rows": []})
  (tmp_path / "compare.json").write_text(text)
  ledger = standings.Ledger(tmp_path / "compare.json", made, {})
  ledger.add("least_squares", {4: 50.0})
  ledger.add("delivered", {8: 50.0, 16: 50.0}, delay=6)
  ledger.add("tuned", {1: 50.0, 2: 50.0, 16: 50.0}, delay=1)
  ledger.add("tuned_all", {16: 50.0, 2: 50.0}, delay=1)
  found = json.loads((tmp_path / "compare.json").read_text())
  assert standings.are_results(found)
  delays = standings.curves(found, standings.DELAY)
  assert delays == {
    "delivered": {8: 6, 16: 6},
    "tuned": {2: 1, 16: 1},  # within the delay answers are the mean of all steps
    "tuned_all": {2: 1, 16: 1},
  }
  assert tables.left_out(delays | {"tuned": {2: 1, 16: 4}}) == (
    "Steps at the start that answers leave out, of delivered: 6 at T = 8, 16; of tuned: 1 at T = 2 "
    "and 4 at T = 16; of tuned_all: 1 at T = 2, 16."
  )
  assert "of tuned, tuned_all: 1 at T = 2, 16." in tables.left_out(delays)
  assert tables.left_out({}) == ""
