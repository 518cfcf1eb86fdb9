"""Networks of Flax, of either kind, without a field `act`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from graphs import randomized

import tcljax


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    y = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x)))
    return nn.relu(x - nn.Conv(4, (3, 3))(nn.Dropout(0.5, deterministic=not train)(y)))


class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    x = nn.max_pool(nn.relu6(nn.Conv(4, (3, 3))(x)), (3, 3), (2, 2), "SAME")
    x = Block(name="deep")(x, train)
    return nn.softmax(nn.Dense(5)(x.mean((1, 2))))


IMAGES = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
NAMES = ("relu", "deep.relu", "deep.relu_2")


def test_a_network_of_linen_from_calibration_to_a_file(tmp_path):
  variables = randomized(Net(), IMAGES)
  network = tcljax.from_flax(Net(), variables, IMAGES)
  assert network.populations == NAMES
  logits = network.model.apply(network.variables, IMAGES)
  np.testing.assert_allclose(
    nn.softmax(logits), Net().apply(variables, IMAGES), rtol=1e-4, atol=1e-6
  )
  found = tcljax.calibrate(network.model, network.variables, [IMAGES])
  spiking = tcljax.SpikingConfig(time_steps=4)
  made = tcljax.convert(network.model, found, (8, 8, 3), spiking)
  expected = tcljax.simulate(network.model, found, IMAGES, spiking).logits
  np.testing.assert_allclose(made(IMAGES), expected, rtol=1e-4, atol=1e-5)
  assert made.graph == network.model.graph  # which was folded already
  loaded = tcljax.load(tcljax.save(made, tmp_path / "net"))
  np.testing.assert_array_equal(loaded(IMAGES), made(IMAGES))


def test_a_model_with_act_is_traced_too():
  model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(6,))
  variables = model.init(jax.random.key(0), IMAGES)
  network = tcljax.from_flax(model, variables, IMAGES)
  assert network.populations == ("act1_1.relu", "act_dense1.relu")
  assert tcljax.calibrate(network.model, network.variables, [IMAGES])


def test_a_network_that_runs_as_it_is_trained_is_told():
  variables = randomized(Net(), IMAGES)
  tcljax.from_flax(Net(), variables, IMAGES, train=False)
  with pytest.raises(ValueError, match=r"cannot be traced .*ModifyScopeVariableError|rng"):
    tcljax.from_flax(Net(), variables, IMAGES, train=True)

  class Training(nn.Module):
    @nn.compact
    def __call__(self, x):
      return Net()(x, train=True)

  inner = {name: {"Net_0": held} for name, held in variables.items()}
  with pytest.raises(ValueError, match=r"model.x. must run it for inference"):
    tcljax.from_flax(Training(), inner, IMAGES)
  with pytest.raises(ValueError, match="takes no inputs of shape"):
    tcljax.from_flax(Net(), variables, IMAGES[..., :2])
  with pytest.raises(ValueError, match=r"module .*must be an instance of a Flax Linen module"):
    tcljax.from_flax(jnp.tanh, variables, IMAGES)


class ByDefault(nn.Module):
  """Is trained unless it is told otherwise."""

  @nn.compact
  def __call__(self, x, train=True):
    x = sum(jax.tree.leaves(x))
    return nn.Dense(3)(nn.relu(nn.BatchNorm(use_running_average=not train)(x)))


@pytest.mark.parametrize("example", [IMAGES, (IMAGES, IMAGES)])
def test_a_network_that_is_trained_by_default_is_told_how_it_is_not(example):
  variables = ByDefault().init(jax.random.key(0), example)
  told = r"it for inference: give its argument, .*\(module, variables, example, train=False\), or "
  with pytest.raises(ValueError, match=told + "let an argument such as train be False by default"):
    tcljax.from_flax(ByDefault(), variables, example)
  assert tcljax.from_flax(ByDefault(), variables, example, train=False).populations


class Grouped(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    return nn.relu(nn.Conv(4, (3, 3), feature_group_count=2, name="pairs")(x))


def test_an_assertion_without_a_text_is_told_by_its_line_and_module():
  variables = Grouped().init(jax.random.key(0), IMAGES[..., :2])
  line = r": AssertionError at `assert .*feature_group_count.*` \(flax/linen/linear.py:\d+\)"
  with pytest.raises(ValueError, match=f"{line}; look at the shapes .* in its module pairs$"):
    tcljax.from_flax(Grouped(), variables, IMAGES)
  with pytest.raises(ValueError, match=rf"traced .*\(test_linen_and_nnx.py:\d+\){line}$"):
    tcljax.from_flax(Grouped(), variables, IMAGES, train=False)


class Joined(nn.Module):
  @nn.compact
  def __call__(self, given):
    both = jnp.concatenate([nn.Dense(4)(given["left"]), nn.Dense(4)(given["right"])], axis=-1)
    return {"sum": nn.Dense(2)(nn.relu(both))}


def test_several_arrays_go_in_and_out_as_the_module_has_them():
  given = {"left": IMAGES[:, 0, 0], "right": IMAGES[:, 0].reshape(5, -1)}
  variables = Joined().init(jax.random.key(0), given)
  network = tcljax.from_flax(Joined(), variables, given)
  found = network.model.apply(network.variables, given)
  np.testing.assert_allclose(
    found["sum"], Joined().apply(variables, given)["sum"], rtol=1e-5, atol=1e-6
  )


class Layered(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(4, 4, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(4, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return nnx.relu(self.drop(self.norm(self.conv(x))) - 0.1)


class Whole(nnx.Module):
  def __init__(self, rngs):
    self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.blocks = nnx.List([Layered(rngs), Layered(rngs)])
    self.out = nnx.Linear(4, 5, rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.stem(x))
    for block in self.blocks:
      x = nnx.max_pool(block(x), (2, 2), (2, 2))
    return self.out(x.mean((1, 2)))


def test_a_network_of_nnx_is_evaluated_on_a_copy():
  model = Whole(nnx.Rngs(0))
  model.blocks[0].norm.mean[...] = jnp.array([0.1, -0.2, 0.3, 0.0])
  before = jax.tree.leaves(nnx.state(model))
  network = tcljax.from_nnx(model, IMAGES)
  assert network.populations == ("relu", "blocks.0.relu", "blocks.1.relu")
  # The user's model still is as it was: in training mode, and of its own class.
  assert not model.blocks[0].drop.deterministic and type(model.blocks[0]) is Layered
  assert all(a is b for a, b in zip(before, jax.tree.leaves(nnx.state(model)), strict=True))
  model.eval()
  expected = model(IMAGES)
  found = network.model.apply(network.variables, IMAGES)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  with pytest.raises(ValueError, match=r"model.* must be an nnx.Module"):
    tcljax.from_nnx(Net(), IMAGES)


class Trained(nnx.Module):
  """With an argument for training, or stochastic depth that does not ask for it."""

  def __init__(self, rngs, depth=False):
    self.conv, self.norm = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
    self.rngs, self.depth = rngs, depth

  def __call__(self, x, train):
    x = nnx.relu(self.norm(self.conv(x), use_running_average=not train))
    return x * jax.random.bernoulli(self.rngs.depth(), 0.5) if self.depth else x


def test_models_of_nnx_that_are_trained_or_in_parts_are_told():
  make = lambda **options: Trained(nnx.Rngs(0), **options)
  assert tcljax.from_nnx(make(), IMAGES, train=False).populations == ("relu",)
  for model, train, told in (
    (make(), {}, r"cannot be traced .*missing 1 required positional argument: 'train'"),
    (make(), {"train": True}, r"applies `reduce_sum` in norm .*use_running_average"),
    (make(depth=True), {"train": False}, r"random numbers \(test_linen_and_nnx.py:\d+\): run it"),
    (nnx.split(make()), {}, r"model is of type tuple .*nnx.merge\(graphdef, state\)"),
    (nnx.eval_shape(make), {"train": False}, "model has no numbers in conv.bias, as nnx.eval_sha"),
  ):
    with pytest.raises(ValueError, match=told) as raised:
      tcljax.from_nnx(model, IMAGES, **train)
    assert "\n" not in str(raised.value)


def test_variables_of_linen_that_are_not_whole_are_told():
  variables = randomized(Net(), IMAGES)
  params, rest = variables["params"], {"batch_stats": variables["batch_stats"]}
  shapes = jax.eval_shape(Net().init, jax.random.key(0), IMAGES)
  broken = jax.tree.map(lambda a: np.full_like(a, np.nan), params)
  half = {name: of for name, of in params.items() if name != "Dense_0"}
  for given, told in (
    ({"params": half, **rest}, "its variables have no params/Dense_0/kernel"),
    ({"params": params}, "its variables have no batch_stats"),
    (params, "its variables have no params/Conv_0/kernel"),
    (shapes, "of type ShapeDtypeStruct: give an array of numbers"),
    ({"params": broken, **rest}, r"a weight of the model, of shape \(.*\), is not finite"),
  ):
    with pytest.raises(ValueError, match=told) as raised:
      tcljax.from_flax(Net(), given, IMAGES)
    assert "\n" not in str(raised.value)


class Repeated(nnx.Module):
  """Layers whose variables have an axis more, which nnx.scan walks."""

  def __init__(self, rngs):
    self.layers = nnx.vmap(lambda rngs: Layer(rngs), in_axes=0, out_axes=0)(rngs.split(3))

  def __call__(self, x):
    run = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    return run(x, self.layers)


class Layer(nnx.Module):
  def __init__(self, rngs):
    self.linear = nnx.Linear(4, 4, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return nnx.relu(self.linear(self.drop(x))) - 0.1


def test_layers_that_nnx_scans_over_each_have_their_own_weights():
  model, x = Repeated(nnx.Rngs(0)), IMAGES[:, 0, 0, 0:1] * np.ones((1, 4), np.float32)
  network = tcljax.from_nnx(model, x)
  assert network.populations == ("0.layers.relu", "1.layers.relu", "2.layers.relu")
  model.eval()
  found = network.model.apply(network.variables, x)
  np.testing.assert_allclose(found, model(x), rtol=1e-5, atol=1e-6)


def test_cells_that_draw_random_numbers_when_trained_are_told_by_name():
  cells = nnx.RNN(nnx.GRUCell(8, 4, rngs=nnx.Rngs(0)))
  model = nnx.Sequential(cells, nnx.relu, nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
  with pytest.raises(ValueError, match=r"applies `\w+` in layers\.0"):
    tcljax.from_nnx(model, IMAGES.reshape(5, 24, 8))
