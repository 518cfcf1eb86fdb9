"""Spikes in other simulators: what is compared and how, and the figures that are kept."""

import json
import types

import nir
import numpy as np
import pytest
from running import ROOT, load_benchmark

RESULTS = ROOT / "benchmarks" / "results" / "nir_clients.json"


@pytest.fixture
def benchmark():
  return load_benchmark("nir_clients")


@pytest.fixture
def compared():
  pytest.importorskip("torch")
  return load_benchmark("nir_client").compared


def test_the_figures_are_those_of_the_table(benchmark):
  found = json.loads(RESULTS.read_text())
  document = load_benchmark("ledger").document(found, benchmark.markdown)
  assert document == RESULTS.with_suffix(".md").read_text()


def test_four_networks_fire_alike_in_both_simulators(benchmark):
  found = json.loads(RESULTS.read_text())
  assert found["time_steps"] == 64
  rows = {(row["network"], row["client"], row["weights"]): row for row in found["rows"]}
  networks = {network for network, *_ in rows}
  assert len(networks) == 4 and len(rows) == 4 * 2 * 2
  for (_, _, weights), row in rows.items():
    assert row["spikes"] > 100_000 and benchmark.is_equal(row)
    if weights == "exact":
      assert row["differ"] == row["counts_differ"] == row["output_differs"] == 0


def test_a_spike_elsewhere_is_found_and_how_far_the_potential_was(compared):
  currents = np.full((4, 1, 2), 0.5, np.float32)  # 4 steps, 1 image, 2 neurons
  expected = np.array([[0, 0], [1, 1], [0, 0], [1, 1]], bool)[:, None]
  metadata = {"initial_potential": np.zeros(2)}
  node = types.SimpleNamespace(v_threshold=np.ones(2), metadata=metadata)
  same = compared("if", currents, expected, expected, node)
  assert same["differ"] == same["counts_differ"] == 0 and "from_threshold" not in same
  late = expected.copy()
  late[1:3, 0, 1] = [False, True]
  row = compared("if", currents, late, expected, node)
  assert (row["differ"], row["neurons_differ"], row["counts_differ"]) == (2, 1, 0)
  assert row["from_threshold"] == 0  # at its very threshold, so that rounding decides
  late[:, 0, 0] = True
  row = compared("if", currents, late, expected, node)
  assert row["counts_differ"] == 1 and row["from_threshold"] == 0.5


@pytest.mark.parametrize(
  ("weights", "differ", "off", "equal"),
  [
    ("exact", 0, None, True),
    ("exact", 1, 0.0, False),
    ("unrounded", 0, None, True),
    ("unrounded", 9, 1e-5, True),
    ("unrounded", 9, 0.1, False),
  ],
)
def test_only_rounding_may_move_a_spike(benchmark, weights, differ, off, equal):
  row = {"weights": weights, "differ": differ, "first_from_threshold": off}
  assert benchmark.is_equal(row) is equal


def test_weights_are_put_on_a_grid():
  one = {"weight": np.full((1, 1), 0.3, np.float32), "bias": np.full(1, 0.3, np.float32)}
  made = nir.NIRGraph(
    {
      "input": nir.Input({"input": np.array([1])}),
      "first": nir.Affine(**one),
      "if": nir.IF(*np.ones((2, 1), np.float32)),
      "last": nir.Affine(**one),
      "output": nir.Output({"output": np.array([1])}),
    },
    [("input", "first"), ("first", "if"), ("if", "last"), ("last", "output")],
  )
  nodes = load_benchmark("nir_cases").on_a_grid(made).nodes
  assert nodes["first"].weight == nodes["first"].bias == 38 / 128  # what reads pixels, coarser
  assert nodes["last"].weight == 307 / 1024
