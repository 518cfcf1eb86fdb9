"""Losses by hand, at several numbers of steps, with a teacher, on one device and on eight."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import as_it_is

import tcljax
from tcljax.distributed import parallel
from tcljax.layers.activations import TCL, Quantized, with_activation
from tcljax.simulation.settings import SpikingConfig
from tcljax.training import losses, objectives


def test_cross_entropy_and_distillation_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
  np.testing.assert_allclose(losses.cross_entropy(logits, jnp.array([0])), np.log(2), rtol=1e-6)
  # smoothing 0.3: targets 0.8, 0.1, 0.1
  np.testing.assert_allclose(
    losses.cross_entropy(logits, jnp.array([0]), 0.3),
    0.8 * np.log(2) + 0.2 * np.log(4),
    rtol=1e-6,
  )
  teacher = jnp.log(jnp.array([[0.25, 0.25, 0.5]]))
  np.testing.assert_allclose(losses.distillation(logits, teacher), 0.25 * np.log(2), rtol=1e-5)
  np.testing.assert_allclose(losses.distillation(logits, logits + 3), 0, atol=1e-6)
  to_teacher = jax.grad(losses.distillation, argnums=1)(logits, teacher)
  np.testing.assert_array_equal(to_teacher, 0)


def test_the_losses_of_one_output_by_hand():
  """Of logits whose sigmoids are 1/2 and 3/4, where the teacher's are 3/4 and 1/4."""
  z, teacher = jnp.log(jnp.array([[1.0], [3.0]])), jnp.log(jnp.array([[3.0], [1 / 3]]))
  np.testing.assert_allclose(
    losses.cross_entropy(z, jnp.array([1, 0])), (np.log(2) + np.log(4)) / 2, rtol=1e-6
  )
  first = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
  second = 0.25 * np.log(0.25 / 0.75) + 0.75 * np.log(0.75 / 0.25)
  np.testing.assert_allclose(losses.distillation(z, teacher), (first + second) / 2, rtol=1e-5)
  # d/dz of the divergence is sigmoid(z) - sigmoid(teacher); the mean is over two examples
  gradient = jax.grad(losses.distillation)(z, teacher)
  np.testing.assert_allclose(gradient, [[-0.125], [0.25]], rtol=1e-5)
  np.testing.assert_allclose(
    losses.squared_error(z, teacher), (np.log(3) ** 2 + np.log(9) ** 2) / 2, rtol=1e-6
  )
  np.testing.assert_array_equal(jax.grad(losses.squared_error, argnums=1)(z, teacher), 0)


@pytest.mark.slow
def test_the_loss_is_the_geometric_mean_over_the_steps_asked_for(case):
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}

  def loss(steps, kind, at=()):
    objective = objectives.snn_objective(
      model,
      as_it_is,
      SpikingConfig(time_steps=steps),
      parallel.data_mesh(),
      kind,
      at=at,
    )
    return jax.jit(objective)(variables, batch, jax.random.key(0))[0]

  for kind in objectives.OBJECTIVES:
    shorter = [loss(t, kind) for t in (1, 4, 6)]
    assert abs(shorter[0] - shorter[2]) > 1e-3
    product = np.prod(shorter, dtype=np.float64)
    np.testing.assert_allclose(loss(6, kind, at=(4, 6, 1)), product ** (1 / 3), rtol=1e-4)


def test_a_loss_of_nothing_among_several_leaves_the_others_their_gradient():
  value, gradient = jax.value_and_grad(losses.geometric_mean)(jnp.array([0.0, 0.5, 2.0]))
  assert value > 0 and gradient[0] == 0
  np.testing.assert_allclose(gradient[1:], value / 3 / np.array([0.5, 2.0]), rtol=1e-5)


@pytest.mark.parametrize(
  "kind", ["distillation", pytest.param("cross_entropy", marks=pytest.mark.slow)]
)
def test_gradients_on_eight_devices_are_those_on_one(case, kind):
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}

  def gradients(devices):
    mesh = jax.make_mesh(
      (devices,),
      ("data",),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=jax.devices()[:devices],
    )
    objective = objectives.snn_objective(
      model, as_it_is, SpikingConfig(time_steps=4, chunk=2), mesh, kind
    )
    run = jax.jit(
      jax.value_and_grad(
        lambda c, batch: objective({**variables, "clipping": c}, batch, jax.random.key(0))[0]
      )
    )
    return run(parallel.replicate(mesh, variables["clipping"]), parallel.shard(mesh, batch))

  one, eight = (jax.device_get(gradients(n)) for n in (1, 8))
  chex.assert_trees_all_close(one, eight, rtol=2e-3, atol=1e-5)
  assert max(np.abs(g).max() for g in jax.tree.leaves(one[1])) > 1e-3


def test_threshold_decay_by_hand():
  variables = {
    "clipping": {
      "a": {"raw_threshold": tcljax.raw_from_threshold(2.0), "v_init": jnp.array(9.0)},
      "b": {
        "raw_threshold": tcljax.raw_from_threshold(jnp.array([1.0, 3.0])),
        "v_init": jnp.full(2, 9.0),
      },
    }
  }
  plain = lambda variables, batch, key, done: (0.5 + done, "aux")
  decayed = objectives.with_threshold_decay(plain, 0.01)
  loss, aux = decayed(variables, None, None, 0.25)
  np.testing.assert_allclose(loss, 0.75 + 0.01 * (4 + 1 + 9), rtol=1e-6)
  assert aux == "aux"
  # d tau^2 / d raw = 2 tau sigmoid(raw), and sigmoid(raw) = 1 - exp(-tau)
  gradient = jax.grad(lambda v: decayed(v, None, None)[0])(variables)["clipping"]
  np.testing.assert_allclose(gradient["a"]["raw_threshold"], 0.01 * 4 * (1 - np.exp(-2)), rtol=1e-5)
  np.testing.assert_array_equal(gradient["b"]["v_init"], 0)


@pytest.mark.slow
@pytest.mark.parametrize("act", [TCL, functools.partial(Quantized, time_steps=4, shift=0.5)])
def test_the_loss_is_that_of_the_network_with_its_activation(case, act):
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}
  network = with_activation(model, act)
  loss, (_, updated) = objectives.ann_objective(network, as_it_is, 0.1)(
    variables, batch, jax.random.key(0)
  )
  logits, expected = network.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
  targets = 0.9 * np.eye(10)[batch["label"]] + 0.01
  np.testing.assert_allclose(
    loss, -np.mean(np.sum(targets * np.asarray(jax.nn.log_softmax(logits)), -1)), rtol=1e-5
  )
  chex.assert_trees_all_close(updated, expected)
  # Weights and thresholds both have a gradient.
  gradient = jax.grad(
    lambda v: objectives.ann_objective(network, as_it_is)(
      {**variables, **v}, batch, jax.random.key(0)
    )[0]
  )({c: variables[c] for c in ("params", "clipping")})
  assert np.abs(gradient["params"]["conv1_1"]["kernel"]).max() > 0
  assert np.abs(gradient["clipping"]["act1_2"]["raw_threshold"]) > 0


def test_the_teacher_has_variables_of_its_own(case):
  """The same network with the weights of its head tripled: its logits are what is learned."""
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}
  head = jax.tree.map(lambda a: 3 * a, variables["params"]["head"])
  teacher = {**variables, "params": {**variables["params"], "head": head}}
  network = with_activation(model, TCL)
  student = {**variables, "teacher": teacher}
  mesh = parallel.data_mesh()
  target = np.asarray(jax.nn.log_softmax(model.apply(teacher, batch["image"])))

  def divergence(logits):
    return np.mean(np.sum(np.exp(target) * (target - np.asarray(jax.nn.log_softmax(logits))), -1))

  loss, _ = objectives.ann_objective(network, as_it_is, kind="distillation", teacher=model)(
    student, batch, jax.random.key(0)
  )
  logits, _ = network.apply(variables, batch["image"], train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(loss, divergence(logits), rtol=1e-4)
  spiking = tcljax.SpikingConfig(time_steps=4)
  objective = objectives.snn_objective(model, as_it_is, spiking, mesh, teacher=model)
  loss, _ = jax.jit(objective)(student, batch, jax.random.key(0))
  logits = tcljax.simulate(model, variables, batch["image"], spiking).logits
  np.testing.assert_allclose(loss, divergence(logits), rtol=1e-4)
