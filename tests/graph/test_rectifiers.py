"""Every guise of max(x, 0) becomes a population, and clips of it the bound of its threshold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import IMAGES, KERNEL, conv, currents, head, ops, stem

import tcljax


def populations(network):
  """The settings of each population."""
  return [dict(n.settings) for n in network.model.graph.nodes if n.op == "neurons"]


SLOPES = jnp.array([0.1, 0.2, 0.3, -0.4])[None, None, None]


@pytest.mark.parametrize(
  "function",
  [
    jax.nn.relu,
    lambda x: jnp.maximum(x, 0),
    lambda x: jnp.maximum(0.0, x),
    lambda x: jnp.where(x > 0, x, 0),
    lambda x: jnp.where(x < 0, 0.0, x),
    lambda x: jnp.where(jnp.logical_not(x <= 0), x, 0),
    lambda x: jnp.where(0 <= x, x, 0.0),
    lambda x: x * (x > 0),
    lambda x: jnp.clip(x, min=0),
    lambda x: jax.lax.max(x, jnp.zeros_like(x)),
    lambda x: jnp.clip(x, 0, jnp.inf),
    lambda x: jnp.fmax(x, 0),
    lambda x: jnp.where((x > 0) & jnp.isfinite(x), jnp.nan_to_num(x), 0),
    lambda x: jax.nn.relu(jax.nn.relu(x)),
    jax.jit(jax.checkpoint(jax.nn.relu)),
    jax.vmap(jax.vmap(jax.nn.relu)),
  ],
)
def test_each_guise_is_one_population(function):
  network = tcljax.trace(lambda x: head(function(currents(x))), IMAGES)
  assert ops(network) == ["conv", "neurons", "sum", "affine", "dense"]
  assert populations(network) == [{}]


@pytest.mark.parametrize(
  "function, bound",
  [
    (jax.nn.relu6, 6.0),
    (lambda x: jnp.clip(x, 0, 6), 6.0),
    (lambda x: jnp.minimum(jnp.maximum(x, 0), 1.5), 1.5),
    (lambda x: jax.lax.clamp(0.0, x, 2.0), 2.0),
    (lambda x: jnp.minimum(jax.nn.relu6(x), 0.5), 0.5),
    (jax.nn.hard_tanh, 2.0),  # -1 + min(relu(x + 1), 2)
    (jax.nn.hard_sigmoid, 6.0),  # relu6(x + 3) / 6
    (lambda x: jnp.where(x > 1, 1, jnp.where(x < 0, 0, x)), 1.0),
    (lambda x: jnp.minimum(2 * jax.nn.relu(x) + 1, 4), 1.5),
  ],
)
def test_what_clips_a_population_from_above_is_its_bound(function, bound):
  network = tcljax.trace(lambda x: head(function(currents(x))), IMAGES)
  assert populations(network) == [{"bound": bound}]
  images = 100 * jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
  for method in ("maximum", "percentile", "least_squares"):
    variables = tcljax.calibrate(network.model, network.variables, [images], method=method)
    (tau,) = tcljax.thresholds(variables).values()
    assert tau.max() <= bound * (1 + 1e-6)
  assert tau.max() > 0.9 * bound


def test_a_threshold_above_the_bound_is_the_bound(tmp_path):
  """As the ANN, clipped, spiking, quantized, diagnosed, and read back."""
  network = tcljax.trace(lambda x: head(jnp.clip(currents(x), 0, 0.5)), IMAGES)
  images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
  variables = tcljax.calibrate(network.model, network.variables, [images], per_channel=False)
  variables["clipping"]["relu"]["raw_threshold"] = tcljax.raw_from_threshold(9.0)
  expected = network.model.apply(variables, images)
  clipped = network.model.clone(act=tcljax.TCL).apply(variables, images)
  np.testing.assert_allclose(clipped, expected, rtol=1e-5)
  spiking = tcljax.SpikingConfig(time_steps=64)
  found = tcljax.simulate(network.model, variables, images, spiking).logits
  np.testing.assert_allclose(found, expected, atol=0.5 / 64)
  assert tcljax.diagnose(network.model, variables, images, spiking)["relu"].clipping == 0
  made = tcljax.convert(network.model, variables, (8, 8, 3), spiking)
  np.testing.assert_allclose(made(images), found, atol=1e-5)
  np.testing.assert_array_equal(
    tcljax.load(tcljax.save(made, tmp_path / "n"))(images), made(images)
  )


@pytest.mark.parametrize(
  "function, count",
  [
    (jax.nn.leaky_relu, 2),
    (lambda x: jnp.where(x >= 0, x, SLOPES * x), 2),
    (lambda x: jnp.maximum(x, 0.1 * x), 2),
    (jnp.abs, 2),
    (lambda x: jnp.minimum(x, 0.5), 1),
    (lambda x: jnp.maximum(x, -0.5), 1),
    (lambda x: jnp.clip(x, -0.5, jnp.array([0.1, 0.2, 0.3, 0.4])[None, None, None]), 2),
    (lambda x: jnp.where(x > 0.25, 2 * x, x + 0.25), 2),
    (lambda x: jnp.maximum(x, x[:, ::-1]), 1),
    (lambda x: jnp.minimum(x, 2 * x + 0.1), 1),
    (lambda x: jnp.where(x > x[:, ::-1], x, x[:, ::-1]), 1),
    (lambda x: jnp.where(x[:, ::-1] <= x, x[:, ::-1], x), 1),
    (lambda x: jnp.where(x > x[:, ::-1], x, 2 * x[:, ::-1]), None),
  ],
)
def test_what_bends_at_one_number_is_made_of_populations(function, count):
  traced = lambda x: head(function(currents(x)))
  if count is None:  # each side depends on more than what is compared
    with pytest.raises(ValueError, match="applies `select_n`"):
      tcljax.trace(traced, IMAGES)
    return
  assert len(populations(tcljax.trace(traced, IMAGES))) == count


@pytest.mark.parametrize(
  "function, told",
  [
    (jax.nn.gelu, "`(integer_pow|mul|tanh|erf|erfc)`"),
    (jax.nn.silu, r"`logistic` \(test_rectifiers.py:\d+\): neurons compute max\(x, 0\)"),
    (jax.nn.elu, "`(exp|expm1)`"),
    (jax.nn.softplus, "`(ne|exp|log1p)`"),
    (jnp.tanh, "`tanh`"),
    (jax.nn.hard_swish, "`mul`.*multiplied with each other"),
    (jnp.sign, "`sign`"),
    (lambda x: jnp.where(x > 0.5, x, 0), "`select_n`"),  # it jumps
    (lambda x: x * x, "`mul`"),
    (lambda x: jax.nn.softmax(x), "`exp`.*: leave a softmax or sigmoid at the end out.*attention"),
    (lambda x: x / (1e-3 + x.sum(-1, keepdims=True)), "`div`"),
    (lambda x: x * jax.nn.sigmoid(x.mean((1, 2), keepdims=True)), "`logistic`"),
  ],
)
def test_other_activations_are_refused_with_the_line(function, told):
  with pytest.raises(ValueError, match=told) as raised:
    tcljax.trace(lambda x: head(stem(function(currents(x))[..., :3])), IMAGES)
  assert "test_rectifiers.py:" in str(raised.value) and "\n" not in str(raised.value)


def test_names_follow_scopes_and_stay_the_same():
  def function(x):
    with jax.named_scope("first"):
      y = jax.nn.relu(conv(x, KERNEL))
    for i in range(2):
      with jax.named_scope(f"block{i}"):
        y = jax.nn.relu(y * (i + 2.0) - 0.1)
        y = jax.nn.relu(jax.jit(lambda y: y - 0.1)(y))
    return head(jax.nn.relu(y - 0.1))

  names = tcljax.trace(function, IMAGES).populations
  wanted = ("first.relu", "block0.relu", "block0.relu_2", "block1.relu", "block1.relu_2", "relu")
  assert names == wanted == tcljax.trace(function, IMAGES).populations
