"""Weights and optimizer state split over devices: the same training, in less memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.data import Split
from tcljax.distributed import fsdp, parallel
from tcljax.distributed.checkpoints import Checkpoints
from tcljax.layers.activations import ReLU
from tcljax.models import CNN
from tcljax.training import loop, objectives, programs
from tcljax.training.phase import Phase, run_phase

SHAPES = {
  "kernel": jax.ShapeDtypeStruct((3, 3, 16, 24), jnp.float32),
  "dense": jax.ShapeDtypeStruct((64, 32), jnp.bfloat16),
  "odd": jax.ShapeDtypeStruct((33, 35), jnp.float32),
  "bias": jax.ShapeDtypeStruct((512,), jnp.float32),
  "step": jax.ShapeDtypeStruct((), jnp.int32),
}


@pytest.mark.parametrize(
  "split_over, parts",
  [
    (1, {"kernel": (3, 3, 16, 24), "dense": (64, 32)}),
    (2, {"kernel": (3, 3, 16, 12), "dense": (32, 32)}),
    (8, {"kernel": (3, 3, 16, 3), "dense": (8, 32)}),
  ],
)
def test_the_longest_axis_that_divides_is_split_and_small_arrays_are_copied(split_over, parts):
  mesh = parallel.data_mesh()
  where = fsdp.shardings(mesh, SHAPES, split_over)
  found = {name: where[name].shard_shape(shape.shape) for name, shape in SHAPES.items()}
  assert found == {name: parts.get(name, shape.shape) for name, shape in SHAPES.items()}
  arrays = jax.tree.map(lambda s: np.arange(s.size).reshape(s.shape).astype(s.dtype), SHAPES)
  placed = parallel.placed(arrays, where)
  assert placed["dense"].addressable_shards[1].data.shape == found["dense"]
  whole = fsdp.gathered(mesh, placed)
  chex.assert_trees_all_equal(whole, arrays)
  assert all(array.is_fully_replicated for array in jax.tree.leaves(whole))


def test_what_is_split_is_gathered_by_one_program_and_what_is_not_stays_where_it_is():
  mesh = parallel.data_mesh()
  arrays = {"a": np.ones((64, 32), np.float32), "b": np.ones(3, np.float32)}
  split = parallel.placed(arrays, fsdp.shardings(mesh, arrays, 2))
  fsdp._gathering.cache_clear()
  whole, again = (fsdp.gathered(parallel.data_mesh(), split) for _ in range(2))
  chex.assert_trees_all_equal(whole, again, arrays)
  assert fsdp._gathering.cache_info().hits == 1
  same = fsdp.gathered(mesh, whole)
  assert same["a"] is whole["a"] and same["b"] is whole["b"]


def test_devices_that_no_groups_make_up():
  with pytest.raises(ValueError, match="fsdp=3 does not divide the 8 devices: choose a divisor"):
    fsdp.check_devices("fsdp", 3)


@pytest.fixture(scope="module")
def case():
  rng = np.random.default_rng(1)
  model = CNN(num_classes=10, stages=((16,), (32,)), dense=(), act=ReLU)
  images = rng.normal(size=(64, 8, 8, 3)).astype(np.float32)
  variables = dict(model.init(jax.random.key(0), images[:1]))
  return model, variables, Split(images, rng.integers(0, 10, 64))


def phase_of(model, split_over, steps=6):
  objective = objectives.ann_objective(model, lambda images, key: jnp.asarray(images))
  sgd = tcljax.OptimizerConfig("sgd", 0.05)
  return Phase("ann", steps, 16, objective, {"params": sgd}, seed=2, fsdp=split_over)


def test_training_is_the_same_and_goes_on_with_another_split(case, tmp_path):
  model, variables, split = case
  mesh, found = parallel.data_mesh(), {}

  def run(split_over, folder=None, stop_after=99):
    seen = {}
    with Checkpoints(folder or tmp_path / str(split_over)) as checkpoints:
      hooks = loop.Hooks(
        on_metrics=lambda step, metrics, _: seen.update({step: metrics["loss"]}),
        checkpoints=checkpoints,
        checkpoint_every=3,
        asked=lambda: loop.Asked(2 * (len(seen) >= stop_after - 1)),
      )
      return run_phase(phase_of(model, split_over), lambda: variables, split, mesh, hooks), seen

  found = {split_over: run(split_over) for split_over in (1, 4)}
  with pytest.raises(loop.Stopped, match="stopped after step 3 of 6"):
    run(8, tmp_path / "gone_on", stop_after=3)
  found["gone on"] = run(2, tmp_path / "gone_on")
  for name in (4, "gone on"):
    chex.assert_trees_all_close(found[name][0], found[1][0], rtol=1e-3, atol=1e-5)
    for step, loss in found[name][1].items():
      assert loss == pytest.approx(found[1][1][step], rel=1e-5)
    assert all(array.is_fully_replicated for array in jax.tree.leaves(found[name][0]))
  assert {*found["gone on"][1]} == {4, 5, 6}


def test_state_takes_a_share_of_the_memory_and_stays_split(case):
  model, variables, split = case
  found = {
    n: programs.compiled(phase_of(model, n), variables, split, parallel.data_mesh()) for n in (1, 8)
  }
  assert found[8].weights < 0.3 * found[1].weights  # biases and the first layer are copied
  assert found[8].optimizer < 0.3 * found[1].optimizer
  assert "all-gather" in found[8].collectives and "all-gather" not in found[1].collectives

  mesh, phase = parallel.data_mesh(), phase_of(model, 8)
  state = phase.new_state(variables)
  where = fsdp.shardings(mesh, state, 8)
  state = parallel.placed(state, where)
  batch = parallel.shard(mesh, {"image": split.images[:16], "label": split.labels[:16]})
  after, _ = jax.jit(phase.step(where))(state, batch, jax.random.key(0))
  chex.assert_trees_all_equal(jax.tree.map(lambda a: a.sharding, after), where)
