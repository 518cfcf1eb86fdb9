"""From models to graphs: what is traced computes what the model does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from graphs import both, randomized, relative_error
from running import calibrate_plainly

import tcljax
from tcljax.layers.activations import TCL, ReLU


class Everything(nn.Module):
  """What a model may do between two activations, residual sums and unnamed modules included."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x, train: bool = False):
    act = self.act
    x = 2.0 * x - 0.5
    x = nn.Conv(8, (3, 3), strides=2, padding="VALID", feature_group_count=1)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = skip = act(name="a")(x)
    x = nn.Conv(8, (3, 3), kernel_dilation=2, feature_group_count=4)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = act(name="b")(x + skip)
    x = nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
    x = act(name="c")(-x + nn.ConvTranspose(8, (2, 2))(skip) / 3 - 0.1)
    x = jnp.einsum("bhwc,dc->bhwd", x, self.param("mix", nn.initializers.normal(), (5, 8)))
    x = x.transpose(0, 3, 1, 2).mean(axis=(2, 3))[:, None]
    x = nn.Sequential([nn.Dense(6), act(name="d"), nn.Dense(4)])(x.squeeze(1))
    return x - nn.Dense(4)(x) * jnp.array([[1.0, -1.0, 0.5, 0.0]])


def test_traces_residual_sums_and_all_affine_operations(images):
  model = Everything()
  variables = randomized(model, images)
  traced, folded, expected = both(model, variables, images)
  assert np.std(expected, axis=0).min() > 1e-3
  assert relative_error(traced, expected) < 1e-5
  assert relative_error(folded, expected) < 1e-5


def test_the_three_activations_agree_on_the_graph(images):
  model = Everything()
  variables = calibrate_plainly(model, randomized(model, images), images, percentile=90)
  assert relative_error(*both(model, variables, images, TCL)[1:]) < 1e-5
  network = tcljax.convert(model, variables, (8, 8, 3))
  config = tcljax.SpikingConfig(time_steps=6)
  expected = tcljax.simulate(model, variables, images, config).logits
  # rounding may move a spike by a step in a few neurons
  assert relative_error(network(images, time_steps=6), expected) < 0.05


def test_dense_networks_and_convolutions_of_one_dimension(rng):
  class Signal(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      x = self.act(name="a")(nn.Conv(4, (5,))(x))
      return nn.Dense(2)(x.reshape(x.shape[0], -1))

  x = rng.normal(size=(3, 12, 2)).astype(np.float32)
  traced, folded, expected = both(Signal(), randomized(Signal(), x), x)
  assert relative_error(traced, expected) < 1e-6 and relative_error(folded, expected) < 1e-6


def test_names_of_activations_cannot_collide_with_those_of_nodes(rng):
  class Confusing(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      x = self.act(name="dense1")(nn.Dense(4)(x))
      x = self.act(name="input")(nn.Dense(4)(x))
      return self.act(name="dense2")(nn.Dense(4)(x)) + x

  x = rng.normal(size=(3, 5)).astype(np.float32)
  traced, folded, expected = both(Confusing(), randomized(Confusing(), x), x)
  np.testing.assert_allclose(traced, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(folded, expected, rtol=1e-5, atol=1e-6)


def test_loops_over_constants_are_evaluated_and_calls_are_entered(rng):
  class Loops(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      kernel = self.param("kernel", nn.initializers.normal(1.0), (4, 4))
      kernel = jax.lax.fori_loop(0, 3, lambda i, k: 0.5 * k @ kernel, kernel)
      x = self.act(name="a")(jax.checkpoint(lambda x: jax.jit(jnp.dot)(x, kernel))(x))
      x = nn.remat(nn.Dense)(1)(x) * self.param("spread", nn.initializers.normal(1.0), (6,))[None]
      return self.act(name="b")(x) * 2.0

  x = rng.normal(size=(3, 4)).astype(np.float32)
  traced, folded, expected = both(Loops(), randomized(Loops(), x), x)
  np.testing.assert_allclose(traced, expected, rtol=1e-5)
  np.testing.assert_allclose(folded, expected, rtol=1e-5)


def test_slices_padding_and_concatenation_are_traced(rng):
  class Shuffling(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      x = self.act(name="a")(nn.Conv(4, (3, 3))(x))
      padded = jnp.pad(x[:, 1::2, ::2], ((0, 0), (0, 1), (2, 0), (1, 3)))
      y = jax.lax.pad(x[:, :2, :2, 1:], 0.0, ((0, 0, 0), (0, 0, 1), (1, 1, 0), (0, 5, 0)))
      return jnp.concatenate([padded, y[..., :8]], axis=1)

  x = rng.normal(size=(3, 4, 4, 2)).astype(np.float32)
  traced, folded, expected = both(Shuffling(), randomized(Shuffling(), x), x)
  assert expected.shape == (3, 6, 4, 8)
  np.testing.assert_allclose(traced, expected, rtol=1e-5)
  np.testing.assert_allclose(folded, expected, rtol=1e-5, atol=1e-6)
