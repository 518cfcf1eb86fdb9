"""First thresholds of activations that are known, and what cannot be calibrated."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import UsedTwice, calibrate_plainly

import tcljax
from tcljax.layers.activations import ReLU
from tcljax.training.calibration import METHODS, CalibrationError


class Net(nn.Module):
  """The input times fixed weights, through one activation: its activations are known."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    scale = self.param("scale", lambda key: jnp.array([1.0, 10.0, 0.0]))
    return self.act(name="only")(x[:, None] * scale[None])


VARIABLES = {"params": {"scale": jnp.array([1.0, 10.0, 0.0])}}


@pytest.fixture
def inputs(rng):
  return rng.uniform(0, 1, 4000).astype(np.float32)


def calibrate(inputs, time_steps=8, batches=4, **options):
  spiking = tcljax.SpikingConfig(time_steps)
  found = tcljax.calibrate(Net(), VARIABLES, np.split(inputs, batches), spiking, **options)
  return tcljax.thresholds(found)["only"]


def test_percentile_per_layer_and_per_channel(inputs):
  activations = inputs[:, None] * np.array([1, 10, 0])
  found = calibrate(inputs, method="percentile", percentile=90, per_channel=False)
  np.testing.assert_allclose(found, np.percentile(activations, 90), rtol=5e-3)
  found = calibrate(inputs, method="percentile", percentile=90)
  np.testing.assert_allclose(found[:2], np.percentile(activations[:, :2], 90, axis=0), rtol=5e-3)
  # the dead channel takes the threshold of its layer
  np.testing.assert_allclose(found[2], np.percentile(activations, 90), rtol=5e-3)


def test_maximum_is_exact(inputs):
  found = calibrate(inputs, method="maximum")
  np.testing.assert_allclose(found, inputs.max() * np.array([1, 10, 10]), rtol=1e-6)


def test_least_squares_knows_the_steps(inputs):
  few, many = (calibrate(inputs, time_steps, per_channel=False) for time_steps in (1, 64))
  assert few < many <= 10
  assert np.all(calibrate(inputs, 1) < calibrate(inputs, 64))


def test_least_squares_knows_what_a_neuron_can_send(inputs):
  bursts = tcljax.SpikingConfig(4, neuron=tcljax.Neuron(burst=3))
  found = tcljax.calibrate(Net(), VARIABLES, [inputs], bursts)
  np.testing.assert_array_equal(tcljax.thresholds(found)["only"], calibrate(inputs, 12, batches=1))
  phases = tcljax.SpikingConfig(4, neuron=tcljax.Neuron(phase=2))  # 6 levels; 1/2 is 3/4 of one
  found = tcljax.calibrate(Net(), VARIABLES, [inputs], phases, v_init=0.5)
  binary = tcljax.calibrate(Net(), VARIABLES, [inputs], tcljax.SpikingConfig(6), v_init=0.75)
  np.testing.assert_array_equal(*(tcljax.thresholds(of)["only"] for of in (found, binary)))


class BoundedNet(Net):
  @nn.compact
  def __call__(self, x):
    scale = self.param("scale", lambda key: jnp.ones(3))
    return self.act(name="only", bound=6)(x[:, None] * scale[None])


@pytest.mark.parametrize("method", METHODS)
def test_thresholds_stay_within_a_bound(inputs, method):
  variables = tcljax.calibrate(
    BoundedNet(), VARIABLES, [inputs], tcljax.SpikingConfig(64), method=method
  )
  found, free = tcljax.thresholds(variables)["only"], calibrate(inputs, 64, method=method)
  np.testing.assert_allclose(found[0], free[0], rtol=1e-6)  # its activations end at 1
  assert free[1] > 8 and 5.5 < found[1] <= 6 + 1e-5 and found[2] <= 6 + 1e-5
  if method == "maximum":
    np.testing.assert_allclose(found[1], 6, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_split_into_batches_does_not_matter(inputs, method):
  # 4000 = 7 * 571 + 3: the last batch is smaller
  batches = [inputs[i : i + 571] for i in range(0, 4000, 571)]
  variables = tcljax.calibrate(Net(), VARIABLES, batches, method=method)
  np.testing.assert_array_equal(
    tcljax.thresholds(variables)["only"], calibrate(inputs, batches=1, method=method)
  )


def test_initial_potential_and_shapes(inputs):
  variables = tcljax.calibrate(Net(), VARIABLES, [inputs])
  np.testing.assert_array_equal(variables["clipping"]["only"]["v_init"], np.full((8, 3), 0.25))
  assert variables["params"] is VARIABLES["params"]
  variables = tcljax.calibrate(Net(), VARIABLES, [inputs], v_init=0.5, instalments=1)
  np.testing.assert_array_equal(variables["clipping"]["only"]["v_init"], np.full(3, 0.5))
  variables = tcljax.calibrate(Net(), VARIABLES, [inputs], per_channel=False, instalments=1)
  assert jax.tree.map(jnp.shape, variables["clipping"]["only"]) == {
    "raw_threshold": (),
    "v_init": (),
  }


def test_all_activations_of_a_real_model(vgg, images):
  model, variables = vgg
  found = tcljax.thresholds(calibrate_plainly(model, variables, images, method="maximum"))
  assert set(found) == {"act1_1", "act1_2", "act2_1", "act_dense1"}
  intermediates = model.apply(variables, images, capture_intermediates=True)[1]["intermediates"]
  for name, threshold in found.items():
    np.testing.assert_allclose(threshold, intermediates[name]["__call__"][0].max(), rtol=1e-5)


@pytest.mark.parametrize(
  "inputs, options, message",
  [
    ([], {}, "batches is empty"),
    (np.ones((3, 1), np.float32), {}, "batches is a single array"),
    ([np.ones(3, np.float32)], {"v_init": float("nan")}, "v_init=nan must be finite"),
    ([np.ones(3, np.float32)], {"method": "median"}, "^method='median' is unknown: choose one of"),
    ([np.ones(3, np.float32)], {"percentile": 100.0}, "percentile=100.0 must lie strictly between"),
    ([np.ones(3, np.float32)], {"spiking": 8}, "spiking=8 must be a tcljax.SpikingConfig"),
    ([-np.ones(3, np.float32)], {}, "'only' never is above zero"),
    ([np.ones(3, np.float32)], {"instalments": 0}, "instalments=0 must be at least 1"),
    ([np.full(3, 3e38, np.float32)], {}, "'only' is not finite"),
    (
      [np.ones(3), np.array([1, np.inf, np.nan])],
      {},
      "batches holds 2 NaN or infinite numbers of 3",
    ),
    ([np.full(3, 1e8, np.float32)], {}, "'only' reaches 1e.09, more than 1.68e.07: scale the"),
  ],
)
def test_bad_input(inputs, options, message):
  with pytest.raises(ValueError, match=message):
    tcljax.calibrate(Net(), VARIABLES, inputs, **options)


def test_weights_that_are_not_finite_are_named(inputs):
  broken = {"params": {"scale": jnp.array([1.0, jnp.nan, 0.0])}}
  with pytest.raises(ValueError, match=r"^params/scale holds 1 NaN or infinite numbers of 3$"):
    tcljax.calibrate(Net(), broken, [inputs])


class Leaky(nn.Module):
  """max(x, 0) - 0.1 max(-x, 0), the latter at most 0.5."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="up")(x) - 0.1 * self.act(name="down", bound=0.5)(-x)


def test_a_silent_population_beside_others_takes_the_largest_threshold_or_its_bound(rng):
  x = rng.uniform(0.1, 1, (8, 3)).astype(np.float32)
  for data, wanted in ((x, {"up": x.max(), "down": 0.5}), (0.3 * x, 0.3 * x.max())):
    variables = tcljax.calibrate(Leaky(), {}, [data], method="maximum")
    found = {name: tau.max() for name, tau in tcljax.thresholds(variables).items()}
    wanted = wanted if isinstance(wanted, dict) else {"up": wanted, "down": wanted}
    assert found == pytest.approx(wanted, rel=1e-6)
  made = tcljax.diagnose(Leaky(), variables, x, tcljax.SpikingConfig(4))
  assert made["down"].dead == 1 and made["down"].total == 0 < made["up"].total
  # Nothing at all, and a layer that nothing comes through, are no such data.
  for model, data in ((Leaky(), 0 * x), (Dead(), x)):
    with pytest.raises(CalibrationError, match="never is above zero on these inputs: the net"):
      tcljax.calibrate(model, {}, [data])


class Dead(nn.Module):
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="second")(1.0 + self.act(name="first")(-x))


class Block(nn.Module):
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="inner")(nn.Dense(3)(x))


def test_an_inner_module_must_be_given_the_activation():
  class Outer(nn.Module):
    act: object = ReLU
    pass_on: bool = False

    @nn.compact
    def __call__(self, x):
      x = Block(self.act, name="block")(x) if self.pass_on else Block(name="block")(x)
      return self.act(name="outer")(x)

  x = np.eye(3, dtype=np.float32)
  variables = Outer().init(jax.random.key(0), x)
  with pytest.raises(ValueError, match=r"'block/inner' stays tcljax.ReLU .* pass act=self.act on"):
    tcljax.calibrate(Outer(), variables, [x])
  found = tcljax.calibrate(Outer(pass_on=True), variables, [x], method="maximum")
  assert set(tcljax.thresholds(found)) == {"block/inner", "outer"}


def test_models_without_activations_are_told():
  class Unused(nn.Module):
    act: object = ReLU

    def __call__(self, x):
      return x

  x = np.ones((2, 3), np.float32)
  with pytest.raises(ValueError, match="Unused applies its field act nowhere"):
    tcljax.calibrate(Unused(), {}, [x])
  with pytest.raises(ValueError, match="Dense has no field 'act': give it"):
    tcljax.calibrate(nn.Dense(3), {}, [x])
  with pytest.raises(ValueError, match="no collection 'clipping'"):
    tcljax.thresholds({"params": {}})


def test_an_activation_used_twice_is_told():
  with pytest.raises(ValueError, match="activation 'neurons' is used twice"):
    tcljax.calibrate(UsedTwice(), {}, [np.ones((3, 2), np.float32)])
