"""The parts of the error of rates, by hand, and that they add up."""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import calibrate_plainly

import tcljax
from tcljax.evaluation import diagnosis
from tcljax.evaluation.diagnosis import PARTS, Arrived, added, diagnosis_of, sums_of
from tcljax.layers.activations import ReLU
from tcljax.simulation.chunks import count_neurons


class Net(nn.Module):
  """Two activations, the second named so that it would be sorted before the first."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="b")(nn.Dense(3, use_bias=False, name="one")(x))
    return self.act(name="a")(nn.Dense(1, use_bias=False, name="two")(x))


def network(tau_b, tau_a, second, v_init=0.5):
  raw = lambda tau: tcljax.raw_from_threshold(jnp.asarray(tau, jnp.float32))
  return Net(), {
    "params": {"one": {"kernel": jnp.eye(3)}, "two": {"kernel": jnp.asarray(second)[:, None]}},
    "clipping": {
      name: {"raw_threshold": raw(tau), "v_init": jnp.float32(v_init)}
      for name, tau in (("b", tau_b), ("a", tau_a))
    },
  }


class Coarse(nn.Module):
  """Layers whose squares are beyond the numbers of float16."""

  dtype: object
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Dense(64, dtype=self.dtype)(x))
    return nn.Dense(3)(self.act(name="b")(nn.Dense(64, dtype=self.dtype)(x)))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_errors_of_layers_of_16_bits_are_those_of_32(rng, dtype):
  x, exact = 4 * rng.normal(size=(256, 16)).astype(np.float32), Coarse(jnp.float32)
  variables = calibrate_plainly(exact, exact.init(jax.random.key(0), x), x)
  spiking = tcljax.SpikingConfig(8)
  found, expected = (
    tcljax.diagnose(model, variables, x, spiking)["b"] for model in (Coarse(dtype), exact)
  )
  for part in ("total", "inherited", "quantization"):
    assert getattr(found, part) == pytest.approx(getattr(expected, part), rel=0.05) != 0


def test_errors_of_a_constant_current_by_hand():
  # T = 4, tau = 1, v_init 1/2: 0.3 gives floor(1.7) = 1 spike of 4, 2.0 gives 4,
  # -1 gives none. Errors 0.05 of quantization and 1 of clipping; rms of the ANN's (0.3, 2, 0).
  model, variables = network(1.0, 1.0, [0.0, 0.0, 0.0])
  x = np.array([[0.3, 2.0, -1.0]], np.float32)
  found = tcljax.diagnose(model, variables, x, tcljax.SpikingConfig(time_steps=4))
  assert list(found) == ["b", "a"]
  size = np.sqrt(0.3**2 + 2.0**2)
  b = found["b"]
  np.testing.assert_allclose(
    [b.total, b.inherited, b.pooling, b.clipping, b.quantization, b.unevenness],
    [np.hypot(0.05, 1.0) / size, 0, 0, 1 / size, 0.05 / size, 0],
    atol=1e-6,
  )
  np.testing.assert_allclose([b.dead, b.saturated], [1 / 3, 1 / 3], rtol=1e-6)
  a = found["a"]  # silent, as it is in the ANN
  assert (a.total, a.dead, a.saturated) == (0, 1, 0)


def test_what_lies_above_a_bound_is_no_error():
  # T = 4, v_init 1/2, bound 1 below a tau of 3: 0.3 gives 1 spike of height 1, and both 2.0 and the
  # activation in the ANN come to 1.
  class Bounded(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return self.act(name="b", bound=1.0)(x)

  _, variables = network(3.0, 1.0, [0.0, 0.0, 0.0])
  x = np.array([[0.3, 2.0, -1.0]], np.float32)
  b = tcljax.diagnose(Bounded(), variables, x, tcljax.SpikingConfig(time_steps=4))["b"]
  error = 0.05 / np.hypot(0.3, 1.0)
  np.testing.assert_allclose(
    [b.total, b.inherited, b.pooling, b.clipping, b.quantization, b.unevenness],
    [error, 0, 0, 0, error, 0],
    atol=1e-6,
  )
  np.testing.assert_allclose([b.dead, b.saturated], [1 / 3, 1 / 3], rtol=1e-6)


def test_spikes_that_come_too_late_are_unevenness():
  # The mean currents lie on levels of the quantized clip, so that no other part is left.
  model, variables = network(1.0, 1.0, [4.0, -1.0, 0.0], v_init=0.0)
  x = np.array([[0.5, 1.0, 0.0]], np.float32)
  spiking = tcljax.SpikingConfig(time_steps=4)
  rates = tcljax.simulate(model, variables, x, spiking, rates=True).rates
  # b: neuron 0 fires at steps 2 and 4, neuron 1 always. Currents of a: -1, 3, -1, 3, mean 1.
  np.testing.assert_allclose(rates["b"]["spikes"], [[0.5, 1.0, 0.0]])
  np.testing.assert_allclose(rates["a"]["current"], [[1.0]])
  # v of a: -1, then 2 fires, 0, then 3 fires: 2 spikes of 4, where the mean current asks for 4
  np.testing.assert_allclose(rates["a"]["spikes"], [[0.5]])
  a = tcljax.diagnose(model, variables, x, spiking)["a"]
  np.testing.assert_allclose(
    [a.total, a.inherited, a.pooling, a.clipping, a.quantization, a.unevenness],
    [0.5, 0, 0, 0, 0, 0.5],
    atol=1e-6,
  )


def test_a_maximum_in_the_model_is_a_cause_of_its_own():
  # Neuron 0 fires at steps 2 and 4, neuron 1 at 1 and 3: their maximum is 1 in every step, the
  # maximum of their means is 1/2. T = 4, tau = 2: 2 spikes of 4, where the ANN's 1/2 asks for 1.
  class InTheModel(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      x = self.act(name="b")(x)[:, :, None]
      return self.act(name="a")(nn.max_pool(x, (2,), (2,)))

  raw = lambda tau: tcljax.raw_from_threshold(jnp.asarray(tau, jnp.float32))
  variables = {
    "clipping": {
      "b": {"raw_threshold": raw([1.0, 1.0]), "v_init": jnp.array([0.0, 0.5])},
      "a": {"raw_threshold": raw(2.0), "v_init": jnp.float32(0.0)},
    }
  }
  x = np.array([[0.5, 0.5]], np.float32)
  a = tcljax.diagnose(InTheModel(), variables, x, tcljax.SpikingConfig(time_steps=4))["a"]
  np.testing.assert_allclose(
    [a.total, a.inherited, a.pooling, a.clipping, a.quantization, a.unevenness],
    [1, 0, 1, 0, 0, 0],
    atol=1e-6,
  )


def test_the_last_batch_is_filled_up_and_counts_for_what_it_holds(monkeypatch):
  """One program for 19 images, 8 at a time, which makes their inputs too; and none for more."""
  monkeypatch.setattr(diagnosis, "arrived", chex.assert_max_traces(diagnosis.arrived, n=1))
  model, variables = network(1.0, 1.0, [4.0, -1.0, 0.5])
  x = np.random.default_rng(0).normal(size=(19, 3)).astype(np.float32)
  spiking = tcljax.SpikingConfig(time_steps=4)
  found, again = (
    tcljax.diagnose(model, variables, x, spiking, batch_size=8, preprocess=compiled_alone)
    for _ in range(2)
  )
  monkeypatch.undo()
  whole = tcljax.diagnose(model, variables, x, spiking)
  for name, one in dataclasses.asdict(whole["a"]).items():
    assert getattr(found["a"], name) == pytest.approx(one, rel=1e-5, abs=1e-7), name
  assert found == again and 0 < found["b"].saturated < 1


def compiled_alone(images):
  assert isinstance(images, jax.core.Tracer)
  return images


@pytest.mark.slow
def test_parts_add_up_and_batches_do_not_matter(vgg, images):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images, percentile=95, per_channel=True)
  spiking = tcljax.SpikingConfig(time_steps=6)
  whole = tcljax.diagnose(model, variables, images, spiking)
  assert list(whole) == list(count_neurons(model, variables, (8, 8, 3)))
  parts = tcljax.diagnose(model, variables, images, spiking, batch_size=5)
  for name, one in whole.items():
    np.testing.assert_allclose(
      [getattr(one, part) for part in PARTS],
      [getattr(parts[name], part) for part in PARTS],
      rtol=1e-4,
      atol=1e-6,
    )
    assert one.total <= sum(getattr(one, part) for part in PARTS) + 1e-6
  assert whole["act1_1"].inherited < 1e-5 < 0.01 < whole["act2_1"].inherited
  # A threshold much too low clips, one much too high quantizes.
  low, high = (
    jax.tree.map(lambda a, f=f: a * f, {"tau": tcljax.thresholds(variables)["act1_1"]})
    for f in (0.2, 20)
  )
  for tau, part in ((low, "clipping"), (high, "quantization")):
    moved = {
      **variables,
      "clipping": {
        **variables["clipping"],
        "act1_1": {
          "raw_threshold": tcljax.raw_from_threshold(tau["tau"]),
          "v_init": variables["clipping"]["act1_1"]["v_init"],
        },
      },
    }
    found = tcljax.diagnose(model, moved, images, spiking)["act1_1"]
    assert getattr(found, part) > 0.3 > sum(getattr(found, p) for p in PARTS if p != part)


def test_errors(vgg, images):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images)
  with pytest.raises(ValueError, match="there are no images to diagnose"):
    tcljax.diagnose(model, variables, images[:0], tcljax.SpikingConfig())
  with pytest.raises(ValueError, match="encoding='poisson': a diagnosis takes constant input"):
    tcljax.diagnose(model, variables, images, tcljax.SpikingConfig(encoding="poisson"))


def test_bursts_have_more_levels_and_the_same_clip():
  # T = 4 and bursts of 2, so 8 levels of 1/8: 0.7 gives floor(8 * 0.7 + 0.5) = 6 of them, 2.0 all.
  model, variables = network(1.0, 1.0, [0.0, 0.0, 0.0])
  x = np.array([[0.7, 2.0, -1.0]], np.float32)
  spiking = tcljax.SpikingConfig(time_steps=4, neuron=tcljax.Neuron(burst=2))
  b = tcljax.diagnose(model, variables, x, spiking)["b"]
  size = np.sqrt(0.7**2 + 2.0**2)
  np.testing.assert_allclose(
    [b.total, b.inherited, b.clipping, b.quantization, b.unevenness],
    [np.hypot(0.05, 1.0) / size, 0, 1 / size, 0.05 / size, 0],
    atol=1e-6,
  )
  np.testing.assert_allclose([b.dead, b.saturated], [1 / 3, 1 / 3], rtol=1e-6)


def test_phases_have_more_levels_and_the_same_clip():
  # T = 4 and periods of 2: heights 4/3 and 2/3, and 6 levels of 1/6. 0.7 from 0.5 sends 2/3, then
  # 4/3 and 2/3, which is 4 of them, as floor(6 * 0.7 + 0.5 * 3/2); 2.0 sends all.
  model, variables = network(1.0, 1.0, [0.0, 0.0, 0.0])
  x = np.array([[0.7, 2.0, -1.0]], np.float32)
  spiking = tcljax.SpikingConfig(time_steps=4, neuron=tcljax.Neuron(phase=2))
  b = tcljax.diagnose(model, variables, x, spiking)["b"]
  size = np.sqrt(0.7**2 + 2.0**2)
  np.testing.assert_allclose(
    [b.total, b.inherited, b.clipping, b.quantization, b.unevenness],
    [np.hypot(1 / 30, 1.0) / size, 0, 1 / size, 1 / 30 / size, 0],
    atol=1e-6,
  )
  np.testing.assert_allclose([b.dead, b.saturated], [1 / 3, 1 / 3], rtol=1e-6)


def test_a_neuron_that_sends_all_it_can_is_saturated_whatever_rounding_does():
  """127 levels in 7 steps: as a share of the most there is they may be rounded to less than 1."""
  rates = jnp.float32([[1 - 2**-24, 1.0, 0.99, 0.0]])
  found = Arrived([rates] * (len(PARTS) + 1), rates, jnp.ones(()))
  assert sums_of(found, np.ones(1, bool))["saturated"].tolist() == [1, 1, 0, 0]


def test_more_neurons_and_images_than_32_bits_count():
  """Nothing is summed over both on the device, and over batches not in its integers."""
  shape = jax.ShapeDtypeStruct((128, 2**25), jnp.float32)
  found = Arrived([shape] * (len(PARTS) + 1), shape, shape)
  sums = jax.eval_shape(sums_of, found, jax.ShapeDtypeStruct((128,), bool))
  assert sums["saturated"].shape == sums["spikes"].shape == (2**25,)
  squares = dict.fromkeys((*PARTS, "total", "activation"), np.float32(1))
  counts = np.int32([2**30, 0])
  of_batch = {"squares": squares, "spikes": np.float32([1, 0]), "saturated": counts}
  sums = None
  for _ in range(4):
    sums = added(sums, of_batch)
  assert diagnosis_of(sums, 2**32).saturated == 0.5


def test_spikes_that_came_too_early_can_be_taken_back():
  # a: currents 3, -1, 3, -1 and tau 4, from 2: binary it fires at steps 1 and 3, one too many.
  model, variables = network(1.0, 1.0, [-1.0, 2.0, 0.0], v_init=0.5)
  x = np.array([[0.5, 0.25, 0.0]], np.float32)
  binary, signed = (
    tcljax.diagnose(model, variables, x, tcljax.SpikingConfig(8, neuron=neuron))["a"]
    for neuron in (tcljax.Neuron(), tcljax.Neuron(signed=True))
  )
  assert binary.unevenness > 0 and signed.unevenness == 0
