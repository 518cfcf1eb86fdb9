"""The run of `convert.py`: from a finished workdir to a spiking network on disk, verified."""

import pathlib
from typing import Any

import numpy as np

from tcljax import conversion, parallel, report
from tcljax.experiment import Experiment
from tcljax.metrics import say
from tcljax.models.precision import in_float32
from tcljax.training import evaluate_on_test

# Folding changes the rounding of a current, so that a neuron at its very threshold may fire a step
# earlier or later; a few answers may change at some T, but not more.
_TOLERATED_SHARE, _TOLERATED_IMAGES = 0.005, 2


class ConversionFailed(RuntimeError):
  """The network on disk does not do what the simulation did."""


def convert_and_verify(
    experiment: Experiment, variables: dict[str, Any], output: pathlib.Path
) -> dict[str, Any]:
  """Converts, writes, reads back, simulates and reports.

  Args:
    experiment: from `make_experiment`.
    variables: from `trained.restore_trained`.
    output: directory of the spiking network.

  Returns:
    What was written to results.json in `output`.

  Raises:
    ConversionFailed: if the accuracy differs from that of the network it was made from (before
      anything is written), or the network read back from the one written.
  """
  config = experiment.config
  network = conversion.convert(
      experiment.model, variables, experiment.input_shape, experiment.spiking,
      name=config.name, dataset=config.data.name, num_classes=experiment.dataset.num_classes,
      preprocessing={"scale": 1 / 255, "mean": experiment.preprocess.mean,
                     "std": experiment.preprocess.std},
      readout=config.snn.readout)

  def run(model, model_variables):
    return evaluate_on_test(experiment, model, model_variables, experiment.reference(variables))

  # Checked before anything is written, so that a good network is not replaced by a bad one; in the
  # precision of the converted one, so that only folding can move anything.
  simulated = run(in_float32(experiment.model), variables)
  converted = run(network.model, network.variables)
  moved = float(np.abs(converted.snn - simulated.snn).max())
  tolerated = 100 * max(_TOLERATED_SHARE, _TOLERATED_IMAGES / converted.images)
  if moved > tolerated:
    raise ConversionFailed(f"accuracy moved by {moved:.2f} points at some T when BatchNorm was "
                           f"folded, tolerated are {tolerated:.2f}; nothing was written")
  if parallel.is_main_host():
    conversion.save(network, output)
  parallel.wait_for_hosts("saved")
  loaded = conversion.load(output)
  found = run(loaded.model, loaded.variables)
  for name in ("snn", "agreement", "spikes_per_neuron"):
    if not np.array_equal(getattr(found, name), getattr(converted, name)):
      raise ConversionFailed(f"{output}: {name} of the network read back differs from that of the "
                             "network written: the disk may be faulty")
  results = {"config": config.name, **report.summary(found),
             "largest_change_by_folding": round(moved, 4)}
  if parallel.is_main_host():
    report.write_results(output, results, f"{config.name}, converted")
  populations = [node.name for node in loaded.graph.nodes if node.op == "neurons"]
  say(f"{len(populations)} populations of neurons: {', '.join(populations)}\n"
      f"\n{report.accuracy_table(results)}\n\n"
      f"verified: {output} read back gives the same spikes; folding moved the accuracy by at most "
      f"{moved:.2f} points at any T")
  return results
