"""The run of `convert.py`: from trained variables to a spiking network on disk, verified."""

import dataclasses
import functools
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from tcljax.conversion import destination, storage
from tcljax.conversion.early_exit import answer_early, choose_margin
from tcljax.conversion.network import SpikingNetwork
from tcljax.conversion.nir_writing import check_nir_path, to_nir
from tcljax.conversion.places import REPORT, is_archive, is_report
from tcljax.data import Examples, evaluation_batches
from tcljax.distributed import parallel
from tcljax.evaluation.accuracy import Evaluation
from tcljax.files import checked_path, writing
from tcljax.graph import explain
from tcljax.layers.collections import Variables
from tcljax.maths.encoding import time_first
from tcljax.models.precision import in_float32
from tcljax.reporting import tables, verdicts
from tcljax.reporting.progress import say
from tcljax.runs.calibration import calibration_images
from tcljax.runs.converted import measure_costs, spiking_network
from tcljax.runs.experiment import Experiment
from tcljax.runs.reports import report_conversion
from tcljax.runs.stages import evaluate_on_test
from tcljax.simulation import outputs

# Folding changes the rounding of a current, so that a neuron at its very threshold may fire a step
# earlier or later; a few answers may change at some T, but not more.
_TOLERATED_SHARE, _TOLERATED_IMAGES = 0.005, 2
_MARGIN_IMAGES = 5000  # for so rare a thing as an answer that changes


class ConversionFailed(RuntimeError):
  """The network on disk does not do what the simulation did."""


def convert_and_verify(
  experiment: Experiment,
  variables: Variables,
  output: pathlib.Path,
  early_exit: float | None = None,
  nir: pathlib.Path | None = None,
  report: bool = True,
) -> dict[str, Any]:
  """Converts, writes, reads back, simulates and reports.

  Args:
    experiment: from `make_experiment`.
    variables: from `resume.restore_trained`, or another network's, with thresholds.
    output: directory of the spiking network, or the archive, from `destination.check_output`.
    early_exit: percent of training images whose answer may change where images leave early; None
      to leave early exit out.
    nir: file to write the network to as NIR too; None for none.
    report: whether the page is written.

  Returns:
    What was written to results.json in `output`.

  Raises:
    ConversionFailed: if the variables make no spiking network, its accuracy differs from that of
      the network it was made from (before anything is written), or the network read back from the
      one written.
    OutputNotFinite: if an answer is none.
  """
  try:
    network = spiking_network(experiment, variables)
  except ValueError as error:  # of the variables, as the model is one of ours
    raise ConversionFailed(f"the network cannot be converted: {error}") from error

  def run(model, model_variables):
    return evaluate_on_test(experiment, model, model_variables, experiment.reference(variables))

  # Checked before anything is written, so that a good network is not replaced by a bad one; in the
  # precision of the converted one, so that only folding can move anything.
  found = run(network.model, network.variables)
  unchanged = network.model == experiment.model and _bits(network.variables) == _bits(variables)
  simulated = found if unchanged else run(in_float32(experiment.model), variables)
  moved = float(np.abs(found.snn - simulated.snn).max())
  tolerated = 100 * max(_TOLERATED_SHARE, _TOLERATED_IMAGES / found.images)
  if moved > tolerated:
    raise ConversionFailed(
      f"accuracy moved by {moved:.2f} points at some T when BatchNorm was "
      f"folded, tolerated are {tolerated:.2f}; nothing was written"
    )
  network = _measured(network, experiment, found)
  if parallel.is_main_host():
    storage.save(network, output)
    if nir is not None:
      to_nir(network, nir)
  parallel.wait_for_hosts("saved")
  loaded = storage.load(output)
  _check_same(network, loaded, output)
  costs = measure_costs(experiment, loaded)
  results = {
    "config": experiment.name,
    **tables.summary(found),
    "largest_change_by_folding": round(moved, 4),
    "costs": costs.summary(),
  }
  if early_exit is not None:
    results["early_exit"] = measure_early_exit(experiment, loaded, early_exit)
  figures = folder_of_figures(output)
  if parallel.is_main_host():
    with writing(figures):
      figures.mkdir(exist_ok=True)
    tables.write_results(figures, results, f"{experiment.name}, converted")
  if report:
    report_conversion(experiment, network, figures, found, costs, results)
  elif parallel.is_main_host() and is_report(figures / REPORT):
    shutil.rmtree(figures / REPORT)  # of the network that was replaced
  populations = loaded.graph.populations()
  say(
    f"{explain(network)}\n\n{len(populations)} populations of neurons: {', '.join(populations)}\n"
    f"{verdicts.latency_in_words(loaded.depth, loaded.spiking.time_steps)}\n"
    f"\n{tables.accuracy_table(results)}\n{tables.energy_lines(results['costs'])}\n\n"
    f"verified: {output} read back is the same network, to the bit; folding moved the accuracy by "
    f"at most {moved:.2f} points at any T"
  )
  if report:
    say(f"report: {figures / REPORT / 'index.html'}")
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


def _check_same(written: SpikingNetwork, read: SpikingNetwork, output: pathlib.Path) -> None:
  """Raises ConversionFailed unless a network that was read back is the one that was written.

  It then gives the same spikes, as it is the same program and the same numbers.
  """
  for field in ("graph", "spiking", "input_shape", "variables"):
    pair = [getattr(network, field) for network in (written, read)]
    first, second = map(_bits, pair) if field == "variables" else pair
    if first != second:
      raise ConversionFailed(
        f"{output}: {field} of the network read back differ from those of the network written: the "
        "disk may be faulty"
      )


def _bits(variables: Variables) -> Any:
  """What is equal only if all arrays are, to the bit."""
  leaves, structure = jax.tree.flatten(variables)
  return structure, [(a.shape, a.dtype, a.tobytes()) for a in map(np.asarray, leaves)]


def folder_of_figures(output: pathlib.Path) -> pathlib.Path:
  """Where what is for people goes: the network's folder, or one beside its archive.

  Raises:
    ValueError: if the one beside it holds something else.
  """
  if not is_archive(output):
    return output
  folder = output.with_suffix("")
  found = sorted(folder.iterdir()) if folder.is_dir() else [folder] * folder.exists()
  if foreign := [
    path.name for path in found if path.name not in destination.FIGURES and not is_report(path)
  ]:
    raise ValueError(
      f"output {output} has its figures in {folder}, which holds {', '.join(foreign)}: choose "
      "another path"
    )
  return folder


def check_nir(experiment: Experiment, variables: Variables) -> None:
  """Raises ValueError unless the network can be written as NIR."""
  try:
    network = spiking_network(experiment, variables)
  except ValueError:  # which the run tells
    return
  to_nir(network)


def checked_nir_path(nir: str, output: str) -> pathlib.Path:
  """The path of a file of NIR that can be written beside an output.

  Raises:
    ValueError: if it cannot be there, or if it is what the output is or holds.
  """
  path, taken = check_nir_path(nir, "nir"), checked_path("output", output).resolve()
  there, figures = path.resolve(), taken.with_suffix("") if is_archive(taken) else taken
  if {taken, figures} & {there, *there.parents} or there in taken.parents:
    raise ValueError(f"nir={nir!r} lies where the output {output} goes: give another path")
  return path


def _measured(network: SpikingNetwork, experiment: Experiment, found: Evaluation) -> SpikingNetwork:
  """The network with its accuracy at each t in its metadata, and what that was measured on."""
  told = tables.summary(found)
  accuracy = {key: told[key] for key in ("images", "ann", "clipped", "snn")}
  data = f"{experiment.dataset.name}, the test images"
  metadata = network.metadata | {"accuracy": {"data": data, **accuracy}}
  return dataclasses.replace(network, metadata=metadata)


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
    whole = outputs.answers(np.asarray(network(x, time_steps, keys)))
    count += mask.sum()
    taken += early.time_steps[mask].sum()
    correct += np.sum(mask & (outputs.answers(early.logits) == label))
    correct_at_the_end += np.sum(mask & (whole == label))
  return {
    "margin": margin,
    "changed": changed,
    "time_steps": time_steps,
    "mean_time_steps": round(float(taken / count), 4),
    "accuracy": round(float(100 * correct / count), 4),
    "accuracy_at_the_end": round(float(100 * correct_at_the_end / count), 4),
  }
