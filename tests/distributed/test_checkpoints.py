"""Checkpoints: what is read back, and what is told of damaged ones."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.distributed import parallel
from tcljax.distributed.checkpoints import CheckpointError, Checkpoints

STATE = {
  "step": jnp.int32(7),
  "variables": {
    "params": {"kernel": jnp.arange(2000.0).reshape(40, 50)},
    "clipping": {"act": {"raw_threshold": jnp.ones(())}},
  },
  "opt_state": (jnp.zeros(3), {"mu": jnp.ones((2, 2))}),
}


@pytest.fixture
def abstract():
  return parallel.abstract_replicated(parallel.data_mesh(), STATE)


def write(directory, steps):
  with Checkpoints(directory) as checkpoints:
    for step in steps:
      checkpoints.save(step, {**STATE, "step": jnp.int32(step)})


def read(directory, abstract):
  with Checkpoints(directory) as checkpoints:
    return checkpoints.restore(abstract)


def test_round_trip_and_pruning(tmp_path, abstract):
  write(tmp_path / "a", [1, 2, 3])
  found = read(tmp_path / "a", abstract)
  assert int(found["step"]) == 3
  jax.tree.map(np.testing.assert_array_equal, {**found, "step": STATE["step"]}, STATE)
  assert sorted(f.name for f in (tmp_path / "a").iterdir()) == [
    "2",
    "2.files.json",
    "3",
    "3.files.json",
  ]


def test_a_part_can_be_read(tmp_path, abstract):
  write(tmp_path / "a", [1])
  part = {"variables": {"clipping": abstract["variables"]["clipping"]}}
  found = read(tmp_path / "a", part)
  assert jax.tree.structure(found) == jax.tree.structure(part)


def test_every_file_cut_short_or_missing_is_told_or_harmless(tmp_path, abstract):
  write(tmp_path / "a", [1, 2])
  files = [f for f in (tmp_path / "a" / "2").rglob("*") if f.is_file() and f.stat().st_size]
  assert len(files) > 5
  for file in files:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
      CheckpointError,
      match=rf"2 is damaged: .*{file.name} has .* of {len(whole)}"
      " bytes; delete it to resume from step 1",
    ):
      read(tmp_path / "a", abstract)
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file.name} is missing"):
      read(tmp_path / "a", abstract)
    file.write_bytes(whole)
  assert int(read(tmp_path / "a", abstract)["step"]) == 2


def test_missing_collection_wrong_shape_and_nothing_at_all(tmp_path, abstract):
  with pytest.raises(CheckpointError, match=r"no checkpoint in .*a: run train.py"):
    read(tmp_path / "a", abstract)
  write(tmp_path / "a", [1])
  more = {
    **abstract,
    "variables": {**abstract["variables"], "batch_stats": abstract["variables"]["params"]},
  }
  with pytest.raises(
    CheckpointError,
    match="it lacks variables/batch_stats/kernel; if its files "
    "are damaged, delete it to start this phase anew",
  ):
    read(tmp_path / "a", more)
  with pytest.raises(CheckpointError, match="it lacks optimizer"):
    read(tmp_path / "a", {**abstract, "optimizer": abstract["step"]})
  kernel = jax.ShapeDtypeStruct(
    (9, 50), jnp.float32, sharding=jax.tree.leaves(abstract)[0].sharding
  )
  other = {"variables": {"params": {"kernel": kernel}}}
  with pytest.raises(CheckpointError, match="1 cannot be read"):
    read(tmp_path / "a", other)


def test_a_step_deleted_by_hand_can_be_written_again(tmp_path, abstract):
  write(tmp_path / "a", [1, 2])
  shutil.rmtree(tmp_path / "a" / "2")
  (tmp_path / "a" / "2.files.json").write_text('{"gone": 3}')
  write(tmp_path / "a", [2])
  assert int(read(tmp_path / "a", abstract)["step"]) == 2
  (tmp_path / "a" / "2.files.json").write_text('{"cut sho')
  assert int(read(tmp_path / "a", abstract)["step"]) == 2
