"""How methods stand beside each other: figures kept in a file, read back, and ordered for tables.

A row has the `accuracy` of a method at T, in percent. Where the answer leaves out steps at the
start, its `delay` says how many; they count in T all the same. Methods with thresholds of their own
for each T also have their mean `threshold`: the geometric mean, over all channels of all
activations, of tau in percent of the largest activation that the ANN has in this channel on the
images of calibration. It is 100, in any network, for thresholds at these largest activations, which
clip nothing.
"""

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import CheckpointError
from tcljax.evaluation.accuracy import accuracy
from tcljax.files import FileError, read_json, write_text
from tcljax.layers.collections import Variables
from tcljax.reporting.progress import say
from tcljax.runs import calibration
from tcljax.runs.experiment import Experiment
from tcljax.training.calibration import DELIVERED, thresholds

# One set of thresholds for every T, as published: a threshold for each layer, potentials that start
# at zero.
FIXED = ("maximum", "percentile")
# Thresholds for each channel and T, without training.
CALIBRATED = ("least_squares", DELIVERED)
TUNED_EACH, TUNED_ALL = "tuned", "tuned_all"
QUANTIZED_EACH, QUANTIZED_ALL = "quantized", "quantized_all"
METHODS = (*FIXED, *CALIBRATED, TUNED_EACH, TUNED_ALL, QUANTIZED_EACH, QUANTIZED_ALL)

ACCURACY, THRESHOLD, DELAY = "accuracy", "threshold", "delay"
# Methods whose thresholds are others for each T.
FOR_EACH_T = (*CALIBRATED, TUNED_EACH)


def mean_share(taus: Mapping[str, np.ndarray], largest: Mapping[str, np.ndarray]) -> float:
  """The geometric mean of thresholds in percent of the largest activations.

  Being geometric, it has the same ratio between two T whatever the thresholds are compared with.

  Args:
    taus: of each activation, scalars or [C].
    largest: of each activation the largest value of each channel, [C].
  """
  shares = [np.ravel(np.log(taus[name]) - np.log(of)) for name, of in largest.items()]
  return float(100 * np.exp(np.mean(np.concatenate(shares), dtype=np.float64)))


class Ledger:
  """The results so far, read from and written to a file.

  Args:
    path: of the file.
    experiment: its test split is what is measured on.
    variables: of the ANN.

  Attributes:
    path: of the file.
    results: what is in it: `images`, `ann`, `neurons` and `rows`.

  Raises:
    CheckpointError: if the file cannot be read, or is of another number of images.
  """

  def __init__(self, path: pathlib.Path, experiment: Experiment, variables: Variables) -> None:
    self.path, images = path, len(experiment.dataset.test)
    self._experiment, self._variables = experiment, variables
    self.results, neurons = self._read(), experiment.spiking.neuron.alphabet
    if self.results and self.results.get("images") != images:
      raise CheckpointError(
        f"{path} holds figures of {self.results.get('images')} images, asked "
        f"are {images}: choose another workdir, or as many images"
      )
    if not self.results:
      ann = accuracy(
        experiment.ann,
        variables,
        experiment.dataset.test,
        batch_size=experiment.eval.batch_size,
        preprocess=experiment.preprocess_for_ann,
      )
      self.results = {"images": images, "ann": round(ann, 4), "neurons": neurons, "rows": []}
      say(f"ANN: {ann:.2f} % of {images} images")

  def _read(self) -> dict[str, Any]:
    remedy = "remove it to measure anew, what is tuned is kept"
    try:
      found = read_json(self.path)
    except FileNotFoundError:
      return {}
    except FileError as error:
      raise CheckpointError(f"{error}; {remedy}") from error
    if not are_results(found):
      raise CheckpointError(f"{self.path} cannot be read: it holds other things; {remedy}")
    return {"neurons": "binary", **found}  # which is not named where there were no others yet

  def lacking(
    self, method: str, time_steps: Sequence[int], figures: Sequence[str] = (ACCURACY,)
  ) -> list[int]:
    """Those T at which the method lacks one of these figures."""
    known = {row["T"]: row for row in self.results["rows"] if row["method"] == method}
    return [t for t in time_steps if not known.get(t, {}).keys() >= {*figures}]

  def add(self, method: str, accuracies: Mapping[int, float], delay: int = 0) -> None:
    """Takes accuracies by T and writes the file.

    Args:
      method: one of `METHODS`.
      accuracies: in percent.
      delay: steps at the start that answers leave out; within it they are the mean of all.
    """
    for t, percent in accuracies.items():
      late = {DELAY: delay} if 0 < delay < t else {}
      self.results["rows"].append({"method": method, "T": t, ACCURACY: round(percent, 4), **late})
      say(f"{method}, T = {t}: {percent:.2f} %")
    self._write()

  def add_thresholds(self, method: str, t: int, variables: Variables) -> None:
    """Takes the thresholds of a method whose accuracy at this T is known, and writes the file."""
    share = mean_share(thresholds(variables), self._largest)
    [row] = [row for row in self.results["rows"] if (row["method"], row["T"]) == (method, t)]
    row[THRESHOLD] = round(share, 4)
    self._write()

  @functools.cached_property
  def _largest(self) -> dict[str, np.ndarray]:
    """Of each activation the largest value of each channel of the ANN."""
    return thresholds(
      calibration.calibrate_by("maximum", self._experiment, self._variables, True, 0.0)
    )

  def _write(self) -> None:
    if parallel.is_main_host():
      write_text(self.path, json.dumps(self.results, indent=2) + "\n")


def are_results(found: Any) -> bool:
  """Whether this has the form of what `Ledger` writes."""
  if not isinstance(found, dict) or set(found) - {"neurons"} != {"images", "ann", "rows"}:
    return False
  rows = found["rows"]
  return (
    isinstance(found["images"], int)
    and isinstance(found.get("neurons", ""), str)
    and isinstance(found["ann"], float)
    and isinstance(rows, list)
    and all(map(_is_row, rows))
  )


def _is_row(row: Any) -> bool:
  if not isinstance(row, dict) or set(row) - {THRESHOLD, DELAY} != {"method", "T", ACCURACY}:
    return False
  return (
    row["method"] in (FOR_EACH_T if THRESHOLD in row else METHODS)
    and type(row["T"]) is type(row.get(DELAY, 0)) is int
    and all(isinstance(row[figure], float) for figure in {ACCURACY, THRESHOLD} & set(row))
  )


def curves(results: dict[str, Any], figure: str = ACCURACY) -> dict[str, dict[int, float]]:
  """A figure by T for each method that has it, in the order of `METHODS`."""
  found = {method: {} for method in METHODS}
  for row in sorted(results["rows"], key=lambda row: row["T"]):
    if figure in row:
      found[row["method"]][row["T"]] = row[figure]
  return {method: curve for method, curve in found.items() if curve}
