"""The run of `convert.py`: from a finished workdir to a spiking network on disk, verified."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np

from tcljax.conversion import storage
from tcljax.conversion.early_exit import answer_early, choose_margin
from tcljax.conversion.network import SpikingNetwork, convert
from tcljax.conversion.nir_writing import to_nir
from tcljax.data import Examples, evaluation_batches
from tcljax.distributed import parallel
from tcljax.evaluation.cost_figures import Costs
from tcljax.evaluation.costs import costs_of_split
from tcljax.graph import explain
from tcljax.layers.collections import Variables
from tcljax.maths.encoding import time_first
from tcljax.models.precision import in_float32
from tcljax.reporting import tables
from tcljax.reporting.progress import say
from tcljax.runs.experiment import Experiment, calibration_images
from tcljax.runs.stages import evaluate_on_test

# Folding changes the rounding of a current, so that a neuron at its very threshold may fire a step
# earlier or later; a few answers may change at some T, but not more.
_TOLERATED_SHARE, _TOLERATED_IMAGES = 0.005, 2
_MARGIN_IMAGES = 5000  # for so rare a thing as an answer that changes
_COST_IMAGES = 200  # costs are means over images, which differ by little


class ConversionFailed(RuntimeError):
  """The network on disk does not do what the simulation did."""


def convert_and_verify(
  experiment: Experiment,
  variables: Variables,
  output: pathlib.Path,
  early_exit: float | None = None,
  nir: pathlib.Path | None = None,
) -> dict[str, Any]:
  """Converts, writes, reads back, simulates and reports.

  Args:
    experiment: from `make_experiment`.
    variables: from `resume.restore_trained`.
    output: directory of the spiking network.
    early_exit: percent of training images whose answer may change where images leave early; None
      to leave early exit out.
    nir: file to write the network to as NIR too; None for none.

  Returns:
    What was written to results.json in `output`.

  Raises:
    ConversionFailed: if the variables make no spiking network, its accuracy differs from that of
      the network it was made from (before anything is written), or the network read back from the
      one written.
    OutputNotFinite: if an answer is none.
  """
  try:
    network = _converted(experiment, variables)
  except ValueError as error:  # of the variables, as the model is one of ours
    raise ConversionFailed(f"the network cannot be converted: {error}") from error

  def run(model, model_variables):
    return evaluate_on_test(experiment, model, model_variables, experiment.reference(variables))

  # Checked before anything is written, so that a good network is not replaced by a bad one; in the
  # precision of the converted one, so that only folding can move anything.
  simulated = run(in_float32(experiment.model), variables)
  converted = run(network.model, network.variables)
  moved = float(np.abs(converted.snn - simulated.snn).max())
  tolerated = 100 * max(_TOLERATED_SHARE, _TOLERATED_IMAGES / converted.images)
  if moved > tolerated:
    raise ConversionFailed(
      f"accuracy moved by {moved:.2f} points at some T when BatchNorm was "
      f"folded, tolerated are {tolerated:.2f}; nothing was written"
    )
  if parallel.is_main_host():
    storage.save(network, output)
    if nir is not None:
      to_nir(network, nir)
  parallel.wait_for_hosts("saved")
  loaded = storage.load(output)
  found = run(loaded.model, loaded.variables)
  for name in ("snn", "agreement", "spikes_per_neuron"):
    if not np.array_equal(getattr(found, name), getattr(converted, name)):
      raise ConversionFailed(
        f"{output}: {name} of the network read back differs from that of the "
        "network written: the disk may be faulty"
      )
  costs = measure_costs(experiment, loaded)
  results = {
    "config": experiment.name,
    **tables.summary(found),
    "largest_change_by_folding": round(moved, 4),
    "costs": costs.summary(),
  }
  if early_exit is not None:
    results["early_exit"] = measure_early_exit(experiment, loaded, early_exit)
  if parallel.is_main_host():
    tables.write_results(output, results, f"{experiment.name}, converted")
  populations = loaded.graph.populations()
  say(
    f"{explain(network)}\n\n{len(populations)} populations of neurons: {', '.join(populations)}\n"
    f"\n{tables.accuracy_table(results)}\n{tables.energy_lines(results['costs'])}\n\n"
    f"verified: {output} read back gives the same spikes; folding moved the accuracy by at most "
    f"{moved:.2f} points at any T"
  )
  if nir is not None:
    say(f"written as NIR: {nir}")
  if early_exit is not None:
    say(
      "early exit at a margin of {margin:.4g}: {accuracy:.2f} % after {mean_time_steps:.2f} of "
      "{time_steps} steps on average, {accuracy_at_the_end:.2f} % after all {time_steps}".format(
        **results["early_exit"]
      )
    )
  return results


def check_nir(experiment: Experiment, variables: Variables, nir: pathlib.Path) -> None:
  """Raises ValueError unless the network can be written to this file as NIR."""
  if nir.is_dir() or not nir.absolute().parent.is_dir():
    raise ValueError(f"nir={str(nir)!r} is no file in a folder that is there: give another path")
  try:
    network = _converted(experiment, variables)
  except ValueError:  # which the run tells
    return
  to_nir(network)


def _converted(experiment: Experiment, variables: Variables) -> SpikingNetwork:
  """The spiking network, with all that its user needs to know of it."""
  return convert(
    experiment.model,
    variables,
    experiment.input_shape,
    experiment.spiking,
    name=experiment.name,
    dataset=experiment.dataset.name,
    num_classes=experiment.dataset.num_classes,
    preprocessing={
      "scale": 1 / 255,
      "mean": experiment.preprocess.mean,
      "std": experiment.preprocess.std,
    },
    readout=experiment.snn.readout,
  )


def measure_costs(experiment: Experiment, network: SpikingNetwork) -> Costs:
  """What the network costs on the first test images, after every number of steps reported."""
  test = experiment.dataset.test
  return costs_of_split(
    network,
    test.take(np.arange(min(len(test), _COST_IMAGES))),
    experiment.reported.time_steps,
    batch_size=experiment.eval.batch_size,
    preprocess=experiment.preprocess,
    seed=experiment.seed,
  )


def measure_early_exit(
  experiment: Experiment, network: SpikingNetwork, changed: float
) -> dict[str, Any]:
  """Accuracy and steps on the test set where images leave early, by a margin of training images.

  T is that which the thresholds were trained for.

  Args:
    experiment: from `make_experiment`.
    network: converted from its network.
    changed: see `early_exit.choose_margin`.

  Returns:
    `margin`, `changed`, `time_steps`, `mean_time_steps`, `accuracy` and `accuracy_at_the_end`, in
    percent.
  """
  time_steps, key = experiment.spiking.time_steps, jax.random.key(experiment.seed)

  def batches(split: Examples):
    for batch in evaluation_batches(split, min(experiment.eval.batch_size, len(split))):
      keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])
      yield batch, experiment.preprocess(batch["image"]), keys

  simulated = functools.partial(time_first, encoding=experiment.snn.encoding)
  training = calibration_images(experiment.dataset, _MARGIN_IMAGES, experiment.seed)
  # Without what fills the last batch, one image many times.
  margin = choose_margin(
    network,
    ((simulated(x[batch["mask"]]), keys[batch["mask"]]) for batch, x, keys in batches(training)),
    time_steps,
    changed,
  )
  count = correct = correct_at_the_end = taken = 0
  for batch, x, keys in batches(experiment.dataset.test):
    label, mask, x = batch["label"], batch["mask"], simulated(x)
    early = answer_early(network, x, margin, time_steps, keys)
    whole = np.asarray(network(x, time_steps, keys)).argmax(-1)
    count += mask.sum()
    taken += early.time_steps[mask].sum()
    correct += np.sum(mask & (early.logits.argmax(-1) == label))
    correct_at_the_end += np.sum(mask & (whole == label))
  return {
    "margin": margin,
    "changed": changed,
    "time_steps": time_steps,
    "mean_time_steps": round(float(taken / count), 4),
    "accuracy": round(float(100 * correct / count), 4),
    "accuracy_at_the_end": round(float(100 * correct_at_the_end / count), 4),
  }
