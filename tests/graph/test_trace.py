"""From models to graphs: what is traced, what is folded, what is refused and in which words."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import both, randomized, relative_error
from running import UsedTwice, calibrate_plainly

import tcljax
from tcljax.graph import Node, fold, trace
from tcljax.layers.activations import TCL, ReLU


def test_folding_batch_norm_changes_logits_by_rounding_only(vgg, images):
  model, variables = vgg
  traced, folded, expected = both(model, variables, images)
  assert np.std(expected, axis=0).min() > 0.01  # the network is alive
  assert relative_error(traced, expected) < 1e-5
  assert relative_error(folded, expected) < 1e-4
  graph, arrays = fold(*trace(model, variables, (8, 8, 3)))
  ops = [node.op for node in graph.nodes]
  assert ops == ["conv", "neurons"] * 2 + [
    "sum_pool",
    "affine",
    "conv",
    "neurons",
    "sum_pool",
    "affine",
    "reshape",
    "dense",
    "neurons",
    "dense",
  ]
  assert set(arrays["conv:1"]) == {"kernel", "bias"}


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


@pytest.mark.parametrize("use_bias", [False, True])
def test_what_is_read_twice_is_not_folded_into(rng, use_bias):
  class Twice(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      y = nn.Dense(3, use_bias=use_bias)(x)
      return self.act(name="a")(3.0 * y) + y

  x = rng.normal(size=(4, 3)).astype(np.float32)
  traced, folded, expected = both(Twice(), randomized(Twice(), x), x)
  np.testing.assert_allclose(traced, expected, rtol=1e-5)
  np.testing.assert_allclose(folded, expected, rtol=1e-5)


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


def test_an_activation_of_a_constant_is_told():
  class Constant(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return x + self.act(name="a")(jnp.ones((1, 3)))

  with pytest.raises(ValueError, match="activation 'a' does not depend on the input"):
    trace(Constant(), {}, (3,))


def test_an_activation_used_twice_is_told():
  with pytest.raises(ValueError, match="activation 'neurons' is used twice"):
    trace(UsedTwice(), {}, (3,))
  model = UsedTwice(act=functools.partial(TCL))
  variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
  with pytest.raises(ValueError, match="activation 'neurons' is used twice"):
    tcljax.simulate(model, variables, jnp.ones((1, 3)), tcljax.SpikingConfig())


class Function(nn.Module):
  """A layer, its neurons, and a function of them."""

  function: object
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.function(self.act(name="a")(nn.Dense(4)(x)))


@pytest.mark.parametrize(
  "function, where",
  [
    (lambda x: x / x.shape[0], "by `div` in Function"),
    (lambda x: x + len(x), "by `add` in Function"),
    (lambda x: x * jnp.arange(float(len(x))).sum(), "by `mul` in Function"),
    (lambda x: x @ jnp.full((4, 3), 1.0 / x.shape[0]), "by `dot_general` in Function"),
    (lambda x: jnp.pad(x, ((0, 0), (0, len(x)))), "by `pad` in Function"),
    (lambda x: x if len(x) % 2 else 2.0 * x, "in Function"),
    (lambda x: x if len(x) == 2 else -x, "in Function"),
  ],
)
def test_a_model_that_uses_the_number_of_examples_is_refused(function, where):
  model = Function(function)
  variables = model.init(jax.random.key(0), jnp.ones((2, 3)))
  with pytest.raises(ValueError, match=f"number of examples in a batch, {where}|{where}"):
    trace(model, variables, (3,))


def test_a_model_of_one_number_of_examples_alone_is_refused():
  variables = Function(lambda x: x).init(jax.random.key(0), jnp.ones((2, 3)))
  for model in (Function(lambda x: x.reshape(2, 2, 2)), Function(lambda x: x.reshape(5, 2, 2))):
    with pytest.raises(ValueError, match=r"cannot be run on . inputs of .*reshape"):
      trace(model, variables, (3,))


class Scalars(nn.Module):
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return nn.Dense(2)(self.act(name="a")(nn.Dense(4)(x).sum(axis=-1))[:, None])


def test_neurons_without_an_axis_of_channels_are_refused_at_every_door():
  x = np.ones((5, 3), np.float32)
  variables = Scalars().init(jax.random.key(0), x)
  for door in (
    lambda: tcljax.calibrate(Scalars(), variables, [x]),
    lambda: tcljax.calibrate(Scalars(), variables, [x], per_channel=False),
    lambda: trace(Scalars(), variables, (3,)),
  ):
    with pytest.raises(ValueError, match=r"'a' is applied to an array of shape \[batch\]: neurons"):
      door()


@pytest.mark.parametrize(
  "function, message",
  [
    (lambda x: (x, x), "returns a tuple of 2 arrays: let it return one array"),
    (lambda x: {"logits": x, "features": x, "mask": x}, "returns a dict of 3 arrays"),
    (lambda x: {"logits": x}, "returns a dict of 1 arrays"),
    (lambda x: [x], "returns a list of 1 arrays"),
    (lambda x: [], "returns a list of 0 arrays"),
    (lambda x: jnp.ones((len(x), 2)), "must return one array that depends on its input"),
    (lambda x: nn.Dropout(0.5, deterministic=False)(x), "InvalidRngError.* deterministic=True$"),
    (lambda x: (lambda x, train: x)(x), "argument: 'train'; model.x. must run it for inference"),
    (
      lambda x: x.nothing,
      "AttributeError: .* has no attribute .?nothing.?$",
    ),
  ],
)
def test_what_is_no_function_of_one_input_to_one_output_is_refused(function, message):
  model = Function(function)
  variables = Function(lambda x: x).init(jax.random.key(0), jnp.ones((2, 3)))
  with pytest.raises(ValueError, match=message) as told:
    trace(model, variables, (3,))
  assert "\n" not in str(told.value)


def test_layers_in_a_scan_are_refused_by_name():
  class Block(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x, _):
      return self.act(name="a")(nn.Dense(4)(x)), None

  class Scanned(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      axes = {"params": 0, "clipping": 0}
      blocks = nn.scan(Block, axes, split_rngs={"params": True}, length=3)(act=self.act)
      return nn.Dense(2)(blocks(x, None)[0])

  x = jnp.ones((3, 4))
  variables = Scanned().init(jax.random.key(0), x)
  with pytest.raises(ValueError, match=r"`scan` in Scanned.*a loop of Python, each activation"):
    tcljax.calibrate(Scanned(), variables, [x])


def test_a_graph_holds_plain_data_alone(rng, tmp_path):
  model = Function(lambda x: jnp.roll(x.reshape(-1, np.int64(2), 2), np.int32(1), axis=-1))
  x = rng.normal(size=(5, 3)).astype(np.float32)
  variables = calibrate_plainly(model, randomized(model, x), x)
  network = tcljax.convert(model, variables, (3,))
  np.testing.assert_array_equal(tcljax.load(tcljax.save(network, tmp_path / "net"))(x), network(x))
  node = Node("pad:1", "pad", ("input:0",), (("padding", [np.int64(1), (np.bool_(True), 2.0)]),))
  assert node.settings == (("padding", (1, (True, 2.0))),)
  assert [type(v) for v in node.settings[0][1][1]] == [bool, float]
  for value in (jnp.ones(()), object(), {1}):
    with pytest.raises(ValueError, match="no plain data"):
      Node("pad:1", "pad", ("input:0",), (("padding", value),))


def test_names_that_a_graph_cannot_hold_are_told_at_once(rng):
  for name in ("conv:2", "input:0", "x/y", "a\nb", "a" * 300):

    class Named(nn.Module):
      act: object = ReLU

      @nn.compact
      def __call__(self, x, name=name):
        return nn.Dense(2)(self.act(name=name)(nn.Dense(4)(x)))

    x = rng.normal(size=(3, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="has a name that no network can hold"):
      tcljax.calibrate(Named(), randomized(Named(act=lambda name: nn.relu), x), [x])
