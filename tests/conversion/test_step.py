"""step.stablehlo: the spikes of a simulation, neuron by neuron and step by step."""

import dataclasses
import functools
import importlib.util
import operator
import os
import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest
from flax import traverse_util
from networks import everything
from running import ROOT
from several_arrays import converted, inputs

import tcljax
from tcljax.conversion.card import JAX_ALONE
from tcljax.conversion.step import export_step
from tcljax.simulation.settings import ChunkConfig
from tcljax.simulation.time_loop import in_chunks

pytest.importorskip("flatbuffers", reason="jax.export needs the package flatbuffers")


def of_program(network, x, time_steps):
  """After each step the output and the spikes, by the exported program alone."""
  program = jax.export.deserialize(bytearray(export_step(network)))
  assert program.platforms == ("cpu", "cuda", "tpu")
  batch = len(jax.tree.leaves(x)[0])
  _, state, _ = jax.tree.unflatten(
    program.in_tree,
    [
      np.zeros([n if isinstance(n, int) else batch for n in aval.shape], aval.dtype)
      for aval in program.in_avals
    ],
  )[0]
  weights = traverse_util.flatten_dict(dict(network.variables), sep="/")
  step = jax.jit(program.call)
  for _ in range(time_steps):
    state, output, spikes = step(weights, state, x)
    yield jax.tree.map(np.asarray, (output, spikes))


def of_simulation(network, x, time_steps):
  """The same by `in_chunks`, with the answers after each step."""
  config = ChunkConfig(1, network.spiking.neuron, 0, "constant")

  @jax.jit
  def run(variables):
    start, step = in_chunks(
      network.model, variables, x, config, observe=lambda chunk: chunk.logits, rates=True
    )

    def with_totals(carry, t):
      carry, answers = step(carry, t)
      return carry, (answers, {name: of["spikes"] for name, of in carry[0]["totals"].items()})

    return jax.lax.scan(with_totals, start, np.arange(time_steps))[1]

  answers, totals = jax.tree.map(np.asarray, run(network.variables))
  spikes = {name: np.diff(of, axis=0, prepend=0 * of[:1]) for name, of in totals.items()}
  for t in range(time_steps):
    yield jax.tree.map(operator.itemgetter((t, 0)), answers), {n: spikes[n][t] for n in spikes}


def hard():
  """Of several inputs and outputs, with the other reset."""
  spiking = tcljax.SpikingConfig(time_steps=4, neuron=tcljax.Neuron(reset="hard"))
  return dataclasses.replace(converted(), spiking=spiking), inputs(6)


# Instalments, bounds, thresholds by channel and maxima of both kinds are in all but the second.
NETWORKS = {
  "soft": lambda: everything(time_steps=6),
  "hard, several arrays": hard,
  "phases": lambda: everything(time_steps=6, neuron=tcljax.Neuron(phase=3)),
  "signed bursts": lambda: everything(time_steps=6, neuron=tcljax.Neuron(burst=3, signed=True)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_has_the_spikes_of_the_simulation(name):
  network, x = NETWORKS[name]()
  total, fired, least, neuron = 0.0, 0.0, 0, network.spiking.neuron
  pairs = zip(of_program(network, x, 6), of_simulation(network, x, 6), strict=True)
  for t, ((output, spikes), (answer, expected)) in enumerate(pairs, 1):
    assert set(spikes) == set(expected)
    worth = round(neuron.heights[(t - 1) % neuron.phase] / neuron.grain)  # of a spike of this step
    for population in expected:
      np.testing.assert_array_equal(spikes[population] * worth, expected[population])
      fired += spikes[population].sum()
      least = min(least, spikes[population].min())
    total = output if t == 1 else jax.tree.map(np.add, total, output)
    mean = jax.tree.map(functools.partial(np.multiply, 1 / t), total)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), mean, answer)
  assert fired > 100 and (least < 0) == neuron.signed


def test_an_example_whose_potentials_are_not_finite_has_no_answer():
  network, x = hard()
  x["vector"][2, 0] = np.nan
  for output, _ in of_program(network, x, 2):
    for of_class in output.values():
      assert np.isnan(of_class[2]).all() and np.isfinite(np.delete(of_class, 2, axis=0)).all()


def test_it_tells_of_no_folder_of_this_machine():
  raw = export_step(hard()[0])
  assert str(ROOT).encode() not in raw and b".py" not in raw


def test_without_the_package_that_jax_needs_nothing_is_written(tmp_path, exported, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match=r"^step\.stablehlo cannot be written, .*pip install flatb"):
    tcljax.save(converted(), tmp_path / "net")
  assert not list(tmp_path.iterdir())
  assert not (tcljax.save(converted(), tmp_path / "net", step=False) / "step.stablehlo").exists()


ALLOWED = ("jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum", "flatbuffers")
# Ahead of the lines: nothing else that is installed can be found.
ALONE = f"""
import sys

class Alone:
  def __init__(self, finder):
    self.finder = finder

  def find_spec(self, name, path=None, target=None):
    root = name.partition(".")[0]
    if root in {ALLOWED} or root in sys.stdlib_module_names or root.startswith("_"):
      return self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Alone, sys.meta_path)
"""
# And behind them.
TOLD = """
assert not {"tcljax", "flax"} & {*sys.modules}
np.savez("spikes.npz", **{name: [of[name] for _, of in results] for name in spikes})
"""


def test_the_lines_of_the_guide_are_few_and_those_of_the_model_card():
  page = (ROOT / "docs" / "network-format.md").read_text()
  assert f"```python\n{JAX_ALONE}```" in page
  assert len([line for line in JAX_ALONE.splitlines() if line]) <= 20


@pytest.mark.slow
def test_they_run_with_jax_alone_and_give_the_same_spikes(exported, tmp_path):
  network, images = everything(time_steps=8)
  np.save(tmp_path / "images.npy", images)
  tcljax.save(network, tmp_path / "snn")
  (tmp_path / "alone.py").write_text(ALONE + JAX_ALONE + TOLD)
  path = {"PYTHONPATH": os.pathsep.join(sys.path)}
  subprocess.run([sys.executable, "alone.py"], cwd=tmp_path, env=os.environ | path, check=True)
  with np.load(tmp_path / "spikes.npz") as spikes:
    found = {**spikes}
  for t, (_, expected) in enumerate(of_simulation(network, images, 8)):
    for population, spikes in expected.items():
      np.testing.assert_array_equal(found[population][t], spikes)
