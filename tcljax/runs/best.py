"""The best checkpoint of phase 1 by images that were set aside, kept apart from the newest ones."""

import pathlib

import numpy as np
from jax.sharding import Mesh

from tcljax.distributed import fsdp, parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.evaluation.accuracy import accuracy
from tcljax.layers.collections import Variables
from tcljax.reporting.progress import say
from tcljax.runs.experiment import Experiment


class BestAnn:
  """The checkpoint with the highest accuracy on the validation images; the later one of equals.

  Called after checkpoints, it looks at those that come every `checkpoint_every` steps and at the
  last one: a run that was stopped in between ends with the same network as one that was not.

  Args:
    experiment: whose ANN is trained.
    folder: where the best checkpoint lies.
    mesh: from `parallel.data_mesh`.

  Raises:
    CheckpointError: if the folder cannot be used.
  """

  def __init__(self, experiment: Experiment, folder: pathlib.Path, mesh: Mesh) -> None:
    self._experiment, self._mesh = experiment, mesh
    # Of two, the older one is whole where a process ends while the newer one is written.
    without = "the best of the steps from here on is taken"
    self._checkpoints = Checkpoints(folder, say, kept=2, without=without)

  def __enter__(self) -> "BestAnn":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._checkpoints.close()

  def __call__(self, step: int, variables: Variables) -> None:
    """Measures what was saved after a step, and keeps it where it is the best so far.

    Raises:
      FileError: if it cannot be written.
    """
    last = self._experiment.train.steps
    best = self._checkpoints.latest_step()
    if (step % self._experiment.checkpoint_every and step != last) or step == best:
      return
    validation = self._experiment.dataset.validation
    variables = fsdp.gathered(self._mesh, variables)
    percent = accuracy(
      *self._experiment.reference(variables),
      validation,
      batch_size=self._experiment.eval.batch_size,
      preprocess=self._experiment.preprocess_for_ann,
    )
    found = np.float32(percent)  # as it is kept
    better = best is None or (float(found), step) > (float(self._kept("accuracy")), best)
    of_all = f"{found:.2f} % of {len(validation)} validation images"
    say(f"ann {step}/{last}: {of_all}{', the best so far' if better else ''}")
    if better:
      kept = {"variables": variables, "accuracy": parallel.replicate(self._mesh, found)}
      self._checkpoints.save(step, kept)

  def variables(self) -> Variables:
    """Those of the best checkpoint, on every device.

    Raises:
      CheckpointError: if it cannot be read.
    """
    return self._kept("variables")

  def _kept(self, entry):
    shapes = {entry: self._checkpoints.structure()[entry]}
    return self._checkpoints.restore(parallel.abstract_replicated(self._mesh, shapes))[entry]
