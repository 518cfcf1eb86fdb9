"""What optimizers hold and move, their schedules and weight decay, and bad settings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tcljax
from tcljax.data.splits import Split
from tcljax.distributed import parallel
from tcljax.maths.clipping import raw_from_threshold, threshold_from_raw
from tcljax.training import objectives, optimizers
from tcljax.training.phase import Phase, run_phase


def test_the_optimizer_holds_nothing_for_what_is_frozen(case):
  _, variables, _, _ = case
  transformation = optimizers.train_only({"clipping": optax.adamw(0.1, weight_decay=0.1)})
  state = transformation.init(variables)
  sizes = sum(a.size for a in jax.tree.leaves(variables["clipping"]))
  held = [a for a in jax.tree.leaves(state) if a.ndim or a.dtype == jnp.float32]
  assert sum(a.size for a in held) == 2 * sizes  # Adam's two moments of the thresholds
  updates, _ = transformation.update(variables, state, variables)
  for collection in ("params", "batch_stats"):
    assert not any(np.any(u) for u in jax.tree.leaves(updates[collection]))
  assert all(np.all(u) for u in jax.tree.leaves(updates["clipping"]))


def test_a_collection_without_a_rule_is_told():
  transformation = optimizers.train_only({"params": optax.sgd(0.1)})
  with pytest.raises(ValueError, match="collection 'adapters' is neither trained nor frozen"):
    transformation.init({"params": jnp.ones(2), "adapters": jnp.ones(2)})


def test_weight_decay_spares_biases_norms_and_thresholds():
  thresholds = {"raw_threshold": jnp.ones(3), "v_init": jnp.ones((8, 3))}
  tree = {
    "params": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "clipping": {"act": thresholds},
  }
  for name in optimizers.OPTIMIZERS:
    config = optimizers.OptimizerConfig(name, learning_rate=0.5, weight_decay=0.1)
    transformation = optimizers.train_only(dict.fromkeys(tree, config.transformation(10)))
    zero = jax.tree.map(jnp.zeros_like, tree)
    updates, _ = transformation.update(zero, transformation.init(tree), tree)
    assert np.all(updates["params"]["kernel"] < 0), name
    for spared in (updates["params"]["bias"], *jax.tree.leaves(updates["clipping"])):
      np.testing.assert_array_equal(spared, 0)


def test_a_learning_rate_of_thresholds_is_a_share_of_them():
  taus = np.float32([0.01, 1, 30, 3000])
  held = {"act": {"raw_threshold": raw_from_threshold(taus), "v_init": np.full(4, 0.5, np.float32)}}
  for name, gradient in [("sgd", 1 / taus), ("adamw", np.float32([1, 2, 3, 4]))]:
    config = optimizers.OptimizerConfig(name, learning_rate=0.01, momentum=0.0)
    transformation = optimizers.on_logarithms(config.transformation(1000))
    slope = -jnp.expm1(-taus)  # of tau = softplus(raw)
    gradients = {"act": {"raw_threshold": gradient * slope, "v_init": np.ones(4, np.float32)}}
    updates, _ = transformation.update(gradients, transformation.init(held), held)
    moved = jax.tree.map(jnp.add, held, updates)["act"]
    shares = threshold_from_raw(moved["raw_threshold"]) / taus
    np.testing.assert_allclose(shares, 0.99, rtol=1e-3)
    np.testing.assert_allclose(moved["v_init"], 0.49, rtol=1e-3)


def test_a_learning_rate_of_lamb_is_a_share_of_the_norm_of_each_array():
  config = optimizers.OptimizerConfig("lamb", learning_rate=0.01)
  held = {"small": np.float32([[3e-3, -1e-5], [2e-3, 0]]), "large": np.float32([20, 1, -7])}
  gradients = {"small": np.float32([[7, 7], [-7, 7]]), "large": np.full(3, -1e-3, np.float32)}
  transformation = config.transformation(1000)
  updates, _ = transformation.update(gradients, transformation.init(held), held)
  for name, a in held.items():
    # Adam's first step goes against the signs of the gradient, equally far for all.
    each = 0.01 * np.linalg.norm(a) / np.sqrt(a.size)
    np.testing.assert_allclose(updates[name], -each * np.sign(gradients[name]), rtol=1e-3)


@pytest.mark.slow
def test_lamb_trains_a_network_alike_at_any_scale_of_its_kernels():
  """Through the SNN, whose BatchNorm divides each kernel by what it is multiplied by."""
  model = tcljax.ResNet(num_classes=3, blocks=(1, 1), widths=(4, 8), act=tcljax.TCL)
  rng = np.random.default_rng(0)
  images = rng.normal(size=(32, 8, 8, 3)).astype(np.float32)
  labels = rng.integers(0, 3, 32).astype(np.int32)
  variables = jax.tree.map(np.asarray, model.init(jax.random.key(0), images))
  epsilon = 1e-5  # of BatchNorm

  def scaled(path, a, by):
    name = path[-1].key
    if name == "kernel" and a.ndim == 4:
      return a * by
    return {"mean": a * by, "var": (a + epsilon) * by**2 - epsilon}.get(name, a)

  def kernels(variables):
    return {
      jax.tree_util.keystr(path): np.asarray(a)
      for path, a in jax.tree_util.tree_leaves_with_path(variables["params"])
      if a.ndim == 4
    }

  def trained(name, learning_rate, by):
    mesh = parallel.data_mesh()
    spiking = tcljax.SpikingConfig(time_steps=2)
    as_it_is = lambda images, key=None: images
    objective = objectives.snn_objective(model, as_it_is, spiking, mesh, "cross_entropy")
    weights = optimizers.OptimizerConfig(name, learning_rate)
    start = jax.tree_util.tree_map_with_path(lambda path, a: scaled(path, a, by), variables)
    run = Phase("joint", 3, 16, objective, {"params": weights})
    found = kernels(run_phase(run, lambda: start, Split(images, labels), mesh))
    return {name: kernel / by for name, kernel in found.items()}

  before = kernels(variables)
  for name, learning_rate, alike in (("lamb", 0.05, True), ("adamw", 0.01, False)):
    one, other = (trained(name, learning_rate, by) for by in (1.0, 1 / 64))
    for kernel in before:
      moved = np.linalg.norm(one[kernel] - before[kernel])
      assert moved > 0
      apart = np.linalg.norm(one[kernel] - other[kernel]) / moved
      assert apart < 0.1 if alike else apart > 1, (name, kernel, apart)


def test_schedule_warms_up_and_decays():
  def step_sizes(config):
    transformation = config.transformation(10)
    parameters = jnp.zeros(1)
    state, sizes = transformation.init(parameters), []
    for _ in range(10):
      update, state = transformation.update(jnp.ones(1), state, parameters)
      sizes.append(-float(update[0]))
    return sizes

  sizes = step_sizes(optimizers.OptimizerConfig("sgd", 1.0, warmup_steps=4, momentum=0.0))
  np.testing.assert_allclose(sizes[:5], [0, 0.25, 0.5, 0.75, 1], atol=1e-6)
  assert sizes[4:] == sorted(sizes[4:], reverse=True) and sizes[-1] < 0.1
  limited = step_sizes(optimizers.OptimizerConfig("sgd", 1.0, momentum=0.0, clip_norm=0.5))
  np.testing.assert_allclose(limited[0], 0.5)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"name": "adagrad"}, "name='adagrad' is unknown: choose one of sgd, adamw, lamb"),
    ({"learning_rate": -1.0}, "learning_rate=-1.0 must be finite and not negative"),
    ({"clip_norm": float("inf")}, "clip_norm=inf"),
  ],
)
def test_bad_optimizers(fields, message):
  with pytest.raises(ValueError, match=message):
    optimizers.OptimizerConfig(**fields)
