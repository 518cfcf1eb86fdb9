"""The ways to pool of models: one network in each activation, simulated, counted, calibrated."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import alive, simulated

import tcljax
from tcljax.layers.activations import TCL, Quantized
from tcljax.models import VGG, ResNet
from tcljax.models.pooling import POOLINGS
from tcljax.simulation.chunks import count_neurons

MAXIMA = ("before", "gate")


@pytest.fixture(scope="module", params=POOLINGS)
def network(request, images):
  model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=request.param)
  return model, alive(model, images, per_channel=True)


@pytest.mark.bits
def test_chunk_sizes_agree_to_the_last_spike(network, images):
  results = [simulated(*network, images, time_steps=8, chunk=chunk).observed for chunk in (1, 2, 4)]
  assert sum(float(s.sum()) for s in jax.tree.leaves(results[0][1])) > 1000
  for logits, spikes in results[1:]:
    jax.tree.map(np.testing.assert_array_equal, results[0][1], spikes)
    np.testing.assert_allclose(logits, results[0][0], rtol=1e-5, atol=1e-5)


def test_neurons_are_counted_calibrated_and_diagnosed_before_they_gate(network, images):
  model, variables = network
  maxima_before = model.pooling == "before"
  sizes = {
    "act1_1": 64 if maxima_before else 256,
    "act2_1": 24 if maxima_before else 96,
    "act_dense1": 8,
  }
  assert count_neurons(model, variables, (8, 8, 3)) == sizes
  spiking = tcljax.SpikingConfig(time_steps=8)
  found = tcljax.diagnose(model, variables, images, spiking)
  assert list(found) == list(sizes)
  # The first layer sees constant currents.
  assert found["act1_1"].inherited < 1e-5 and found["act1_1"].total < 0.3
  result = tcljax.evaluate(model, variables, images, np.zeros(16, np.int32), spiking)
  spikes = simulated(model, variables, images, time_steps=8).observed[1]
  for name, count in sizes.items():
    np.testing.assert_allclose(
      result.firing_rates[name], spikes[name]["count"].mean() / count, rtol=1e-5
    )


@pytest.mark.slow
def test_maxima_before_and_after_a_relu_are_the_same_network(images):
  models = [VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=p) for p in MAXIMA]
  variables = alive(models[0], images)
  for act in (tcljax.ReLU, TCL, functools.partial(Quantized, time_steps=4)):
    before, after = (jax.jit(model.clone(act=act).apply)(variables, images) for model in models)
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)
  average = models[0].clone(pooling="average", act=act)
  assert np.abs(average.apply(variables, images) - before).max() > 0.1


@pytest.mark.slow
def test_maxima_of_spikes_and_of_currents_come_to_the_clipped_network(images):
  errors = {}
  for pooling in MAXIMA:
    model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=pooling)
    variables = alive(model, images)
    clipped = jax.jit(model.clone(act=TCL).apply)(variables, images)
    errors[pooling] = [
      float(
        jnp.abs(simulated(model, variables, images, time_steps=steps).logits - clipped).max()
        / jnp.abs(clipped).max()
      )
      for steps in (8, 512)
    ]
  for found in errors.values():
    assert found[1] < 0.02 < 0.1 < found[0]


class MaximumInTheModel(nn.Module):
  """The same layers with the pooling of currents given to an activation, or in the model."""

  of: str | None
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Conv(6, (3, 3))(x))
    x = nn.Conv(6, (3, 3), name="second")(x)
    if self.of:
      x = self.act(name="b", max_pool=tcljax.MaxPool(2, of=self.of))(x)
    else:
      x = self.act(name="b")(nn.max_pool(x, (2, 2), (2, 2)))
    return nn.Dense(5)(x.reshape(x.shape[0], -1))


@pytest.mark.filterwarnings("ignore:the model takes a maximum")
def test_a_maximum_in_the_model_stays_away_from_the_ann_and_diagnosis_says_so(images):
  variables = alive(MaximumInTheModel("currents"), images)
  clipped = MaximumInTheModel(None, TCL).apply(variables, images)
  errors, pooling = {}, {}
  for of in ("currents", "spikes", None):
    model = MaximumInTheModel(of)
    np.testing.assert_allclose(model.clone(act=TCL).apply(variables, images), clipped, atol=1e-5)
    found = simulated(model, variables, images, time_steps=256).logits
    errors[of] = float(jnp.abs(found - clipped).max() / jnp.abs(clipped).max())
    of_b = tcljax.diagnose(model, variables, images, tcljax.SpikingConfig(256))["b"]
    pooling[of] = of_b.pooling
    assert of is not None or of_b.pooling > 2 * of_b.inherited
  assert errors["currents"] < 0.03 and errors["spikes"] < 0.03 and errors[None] > 0.1
  assert pooling["currents"] < 1e-4 and pooling["spikes"] < 1e-4 and pooling[None] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("pooling", MAXIMA)
def test_gradients_reach_all_thresholds_through_maxima_whatever_the_chunk(images, pooling):
  model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=pooling)
  variables = alive(model, images, instalments=2)

  def loss(clipping, chunk):
    spiking = tcljax.SpikingConfig(time_steps=4, chunk=chunk)
    return jnp.square(
      tcljax.simulate(model, {**variables, "clipping": clipping}, images, spiking).logits
    ).mean()

  gradient = jax.jit(jax.grad(loss), static_argnums=1)
  found = [gradient(variables["clipping"], chunk) for chunk in (1, 4)]
  assert all(float(jnp.abs(g).max()) > 1e-5 for g in jax.tree.leaves(found[0]))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), *found)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_stem_of_a_resnet_pools_overlapping_windows(images, pooling):
  model = ResNet(num_classes=5, blocks=(1,), widths=(4,), stem="imagenet", pooling=pooling)
  x = np.tile(images, (1, 2, 2, 1))
  variables = alive(model, x)
  made = tcljax.convert(model, variables, (16, 16, 3), tcljax.SpikingConfig(time_steps=6))
  np.testing.assert_allclose(
    made(x), simulated(model, variables, x, time_steps=6).logits, rtol=1e-4, atol=1e-4
  )


def test_an_unknown_pooling_is_told(images):
  for model in (
    VGG(num_classes=5, stages=((4,),), dense=(), pooling="max"),
    ResNet(num_classes=5, blocks=(1,), widths=(4,), pooling="max"),
  ):
    with pytest.raises(ValueError, match="pooling='max' is unknown: choose one of average, before"):
      model.init(jax.random.key(0), images)
  model = ResNet(num_classes=5, blocks=(1,), widths=(4,), pooling="gate")
  with pytest.raises(ValueError, match="pooling='gate' is of stem='imagenet', and stem='cifar'"):
    model.init(jax.random.key(0), images)
