"""One step of training moves each collection at its own rate."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from states import as_it_is

from tcljax.data import Split
from tcljax.distributed import fsdp, parallel
from tcljax.layers.activations import TCL, with_activation
from tcljax.simulation.settings import SpikingConfig
from tcljax.training import objectives, optimizers, programs, step
from tcljax.training.phase import Phase

OPTIMIZER = optimizers.OptimizerConfig("sgd", 0.1)


@pytest.mark.slow
def test_each_collection_has_its_own_learning_rate(case):
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}
  objective = objectives.ann_objective(with_activation(model, TCL), as_it_is)
  transformation = optimizers.train_only({"params": optax.sgd(0.1), "clipping": optax.sgd(0.003)})
  gradient = jax.grad(lambda v: objective({**variables, **v}, batch, jax.random.key(0))[0])(
    {c: variables[c] for c in ("params", "clipping")}
  )
  start = {**variables, "teacher": {"params": variables["params"]}}
  state, _ = step.train_step(step.one_step(objective, transformation, ("params", "clipping"), 1))(
    step.new_state(start, transformation), batch, jax.random.key(0)
  )
  for collection, rate in (("params", 0.1), ("clipping", 0.003)):
    chex.assert_trees_all_close(
      state.variables[collection],
      jax.tree.map(
        lambda a, g, rate=rate: a - rate * g, variables[collection], gradient[collection]
      ),
      rtol=1e-4,
      atol=1e-6,
    )
  chex.assert_trees_all_equal(state.variables["teacher"], start["teacher"])


def test_parts_of_a_batch_are_averaged_and_each_goes_on_from_what_the_one_before_updated():
  """By hand, of a loss that is the mean of w * x, with noise from the key, and counts its calls."""
  key, x = jax.random.key(5), np.arange(12.0, dtype=np.float32)

  def objective(variables, batch, key, done=0.0):
    noise = jax.random.normal(key)
    seen = variables["batch_stats"] * 10 + batch["x"][0]
    loss = jnp.mean(batch["x"]) * variables["params"] + noise * variables["params"] ** 2 + done
    return loss, ({"largest": jnp.max(batch["x"])}, {"batch_stats": seen})

  variables = {"params": jnp.float32(3.0), "batch_stats": jnp.float32(0.0)}
  of_step = step.gradient(objective, ["params"], 3)
  (loss, (metrics, updated)), gradients = jax.jit(of_step)(variables, {"x": x}, key, 0.5)
  noise = [float(jax.random.normal(jax.random.fold_in(key, i))) for i in range(3)]
  assert len({*noise}) == 3
  parts = [x[0::3], x[1::3], x[2::3]]
  expected = [part.mean() * 3 + n * 9 + 0.5 for part, n in zip(parts, noise, strict=True)]
  np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-6)
  slopes = [part.mean() + 6 * n for part, n in zip(parts, noise, strict=True)]
  np.testing.assert_allclose(gradients["params"], np.mean(slopes), rtol=1e-6)
  assert float(metrics["largest"]) == 10.0  # of 9, 10 and 11
  assert float(updated["batch_stats"]) == 12.0  # of 0, 1 and 2, in this order


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 4])
def test_tuning_in_parts_learns_what_it_learns_at_once(case, parts):
  """The loss of the answers is a mean over examples: the gradient is the same but for rounding."""
  model, variables, images, labels = case
  mesh = parallel.data_mesh()
  batch = parallel.shard(mesh, {"image": images[:32], "label": labels[:32]})
  objective = objectives.snn_objective(model, as_it_is, SpikingConfig(time_steps=3), mesh)
  found = [
    jax.jit(step.gradient(objective, ["clipping"], n))(variables, batch, jax.random.key(0))
    for n in (1, parts)
  ]
  chex.assert_trees_all_close(*found, rtol=1e-3, atol=1e-5)
  assert optax.tree.norm(found[0][1]) > 0


def test_parts_take_less_memory_and_move_no_image_between_devices():
  def objective(variables, batch, key, done=0.0):
    x = batch["image"].astype(jnp.float32)
    for kernel in variables["params"]:
      x = jnp.tanh(x @ kernel)
    return jnp.mean(jnp.square(x)), ({}, {})

  variables = {"params": [jnp.ones((16, 16)) for _ in range(8)]}
  split = Split(np.zeros((4096, 16), np.float32), np.zeros(4096, int))
  found = {}
  for parts in (1, 8):
    phase = Phase("phase", 5, 4096, objective, {"params": OPTIMIZER}, accumulate=parts)
    found[parts] = programs.compiled(phase, variables, split, parallel.data_mesh())
  assert found[8].arrays < 0.5 * found[1].arrays
  assert {*found[8].collectives} == {*found[1].collectives} == {"all-reduce"}


def test_kernels_are_carried_from_step_to_step_as_gpus_take_them(monkeypatch):
  """Their output channels come first there, and everything else, and every figure, is the same."""

  def objective(variables, batch, key, done=0.0):
    weights = variables["params"]
    x = jax.lax.conv_general_dilated(
      batch["image"], weights["conv"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = x.reshape(len(x), -1) @ weights["dense"] + weights["bias"][None]
    return jnp.mean(jnp.square(x)), ({}, {})

  shapes = {"conv": (2, 2, 3, 5), "dense": (20, 4), "bias": (4,)}
  keys = dict(zip(shapes, jax.random.split(jax.random.key(0), 3), strict=True))
  weights = {name: jax.random.normal(keys[name], shape) for name, shape in shapes.items()}
  phase = Phase("phase", 5, 2, objective, {"params": OPTIMIZER})
  data = {"image": jnp.arange(4 * 3 * 3 * 3.0).reshape(4, 3, 3, 3) / 108}
  positions = jnp.asarray([[0, 1], [2, 3], [1, 2]])
  found = {}
  for platform, carried in (("cpu", "2,2,3,5"), ("gpu", "5,2,2,3")):
    monkeypatch.setattr(step.targets, "platform", lambda platform=platform: platform)
    steps = step.train_steps(phase.step(), parallel.data_mesh())
    state = phase.new_state({"params": weights})
    traced = steps.trace(state, data, positions, 3, jax.random.key(0))
    (loop,) = [one for one in traced.jaxpr.eqns if one.primitive.name == "while"]
    kernels = {",".join(map(str, one.aval.shape)) for one in loop.outvars if one.aval.ndim == 4}
    assert kernels == {carried}, platform
    found[platform] = steps(state, data, positions, 3, jax.random.key(0))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), *found.values())


def test_a_norm_of_no_arrays():
  assert step._norm({}) == 0


@pytest.mark.parametrize("groups", [1, 2])
def test_norms_are_those_of_all_arrays_together(groups):
  """Where weights are split over devices they are summed another way."""
  shapes = [(), (3,), (2, 3), (3, 2, 2, 4)]
  draw = lambda i, shape: jax.random.normal(jax.random.key(i), shape)
  weights = [draw(i, shape) for i, shape in enumerate(shapes)]
  slopes = [draw(10 + i, shape) for i, shape in enumerate(shapes)]

  def objective(variables, batch, key, done=0.0):
    products = jax.tree.map(lambda w, s: jnp.sum(w * s), variables["params"], slopes)
    return sum(products), ({}, {})

  phase = Phase("phase", 5, 2, objective, {"params": OPTIMIZER}, fsdp=groups)
  state = phase.new_state({"params": weights})
  where = fsdp.shardings(parallel.data_mesh(), state, groups)
  after, metrics = phase.step(where)(parallel.placed(state, where), {}, jax.random.key(0))
  moved = jax.tree.map(jnp.subtract, after.variables["params"], weights)
  for metric, arrays in (("gradient_norm", slopes), ("update_norm", moved)):
    length = np.sqrt(sum(float(jnp.sum(jnp.square(array))) for array in arrays))
    np.testing.assert_allclose(metrics[metric], length, rtol=1e-5)
