"""What tests of training share: states to the bit, and what runs have left in their folders."""

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.runs import config_forms
from tcljax.runs.experiment import make_experiment
from tcljax.runs.resume import restore_trained


def bits(tree):
  """The bytes of every array, by its path; those of two trees are equal or the trees differ."""
  return {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def as_it_is(images, key):
  """No preprocessing."""
  return jnp.asarray(images)


def experiment_of(workdir):
  return make_experiment(config_forms.from_json(workdir / "config.json"))


def ended_with(workdir):
  """The variables that a finished run reports."""
  return restore_trained(experiment_of(workdir), workdir)


def restored(folder, shapes):
  """What is asked for, of the newest checkpoint in a folder."""
  with Checkpoints(folder) as checkpoints:
    return checkpoints.restore(parallel.abstract_replicated(parallel.data_mesh(), shapes))
