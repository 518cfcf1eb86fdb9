"""What optimizers hold and move, their schedules and weight decay, and bad settings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tcljax.maths.clipping import raw_from_threshold, threshold_from_raw
from tcljax.training import optimizers


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
    ({"name": "adagrad"}, "name='adagrad' is unknown: choose one of sgd, adamw"),
    ({"learning_rate": -1.0}, "learning_rate=-1.0 must be finite and not negative"),
    ({"clip_norm": float("inf")}, "clip_norm=inf"),
  ],
)
def test_bad_optimizers(fields, message):
  with pytest.raises(ValueError, match=message):
    optimizers.OptimizerConfig(**fields)
