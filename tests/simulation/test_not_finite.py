"""What is not finite in an input or a weight reaches the answer; it never becomes silence."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import alive

import tcljax
from tcljax.kernels import fire
from tcljax.models import VGG
from tcljax.models.pooling import POOLINGS


@pytest.fixture(scope="module", params=POOLINGS)
def network(request, images):
  model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=request.param)
  variables = alive(model, images, per_channel=True, instalments=2)
  return tcljax.convert(model, variables, (8, 8, 3), tcljax.SpikingConfig(time_steps=6))


_INFINITE = [pytest.param(value, marks=pytest.mark.slow) for value in (np.inf, -np.inf)]


@pytest.mark.parametrize("value", [np.nan, *_INFINITE])
def test_an_image_has_no_finite_answer_and_others_keep_theirs(network, images, value):
  bad = np.array(images)
  bad[3, 2, 5, 1] = value
  others = np.arange(len(images)) != 3
  for answer in (
    network,
    lambda x: tcljax.answer_early(network, x, margin=np.inf).logits,
    lambda x: tcljax.simulate(network.model, network.variables, x, network.spiking).logits,
  ):
    good, found = np.asarray(answer(images)), np.asarray(answer(bad))
    assert np.isnan(found[3]).any()
    np.testing.assert_array_equal(found[others], good[others])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_potentials_of_what_is_not_finite_stay_so(value, reset):
  currents = jnp.array([[0.5, 0.5], [0.7, value], [0.5, 0.5]])
  spikes, v = tcljax.integrate_and_fire(currents, 1.0, 0.0, tcljax.Neuron(reset))
  np.testing.assert_array_equal(spikes[:, 0], [0, 1, 0])
  np.testing.assert_array_equal(np.isfinite(v), [True, False])
  given = currents[:, None, None], jnp.zeros((1, 1, 2)), jnp.ones(2), jnp.zeros((3, 1))
  for interpret in (True, False):
    _, v, *_ = fire.fire(*given, tcljax.Neuron(reset), unit=True, interpret=interpret)
    np.testing.assert_array_equal(np.isfinite(v[0, 0]), [True, False])


def test_a_weight_reaches_the_answers_of_a_simulation(images):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables = alive(model, images)
  bad = jax.tree.map(np.array, variables)
  bad["params"]["conv1_1"]["kernel"][0, 0, 0, 0] = np.nan
  found = tcljax.simulate(model, bad, images, tcljax.SpikingConfig(4)).logits
  assert np.isnan(found).all()


@pytest.mark.parametrize(
  "path, value, message",
  [
    (
      ("params", "conv1_1", "kernel"),
      np.nan,
      "kernel of 'conv:1' holds .* NaN or infinite numbers",
    ),
    (
      ("params", "conv1_1", "kernel"),
      np.inf,
      "kernel of 'conv:1' holds .* NaN or infinite numbers",
    ),
    (("batch_stats", "norm1_1", "var"), np.nan, "kernel of 'conv:1' holds"),
    (("clipping", "act1_1", "raw_threshold"), -110.0, "'act1_1' has a threshold of 0"),
    (
      ("clipping", "act1_1", "raw_threshold"),
      -np.inf,
      "'act1_1' has a threshold that is not finite",
    ),
    (("clipping", "act1_1", "v_init"), np.nan, "v_init of 'act1_1' holds"),
  ],
)
def test_convert_refuses_what_is_no_number(images, path, value, message):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables = jax.tree.map(np.array, alive(model, images, per_channel=True))
  collection, module, name = path
  variables[collection][module][name][..., 0] = value
  with pytest.raises(ValueError, match=message):
    tcljax.convert(model, variables, (8, 8, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_margin_is_chosen_on_what_is_not_finite(images, value):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=(6,))
  variables = alive(model, images)
  network = tcljax.convert(model, variables, (8, 8, 3), tcljax.SpikingConfig(time_steps=4))
  bad = np.array(images)
  bad[2, 3, 3, 0] = value
  with pytest.raises(ValueError, match="output is not finite for some of the inputs"):
    tcljax.choose_margin(network, [bad])


def test_a_spiking_network_that_overflows_has_no_accuracy(images):
  # Its ANN and the clipped one stay finite: only sums over time leave the range of float32.
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables = alive(model, images)
  kernel = variables["params"]["conv1_1"]
  current = np.abs(nn.Conv(4, (3, 3)).apply({"params": {**kernel, "bias": np.zeros(4)}}, images))
  huge = np.float32(np.array(images) * (2e38 / current.max()))
  labels, spiking = np.zeros(len(images), np.int32), tcljax.SpikingConfig(time_steps=8)
  assert np.isfinite(model.clone(act=tcljax.TCL).apply(variables, huge)).all()
  with pytest.raises(ValueError, match="spiking network's output is not finite"):
    tcljax.evaluate(model, variables, huge, labels, spiking)


@pytest.mark.parametrize("raw", [-200.0, np.nan, np.inf])
def test_every_door_refuses_a_threshold_that_is_none(images, raw):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables = jax.tree.map(np.array, alive(model, images, per_channel=True))
  variables["clipping"]["act1_1"]["raw_threshold"][1] = raw
  labels, spiking = np.zeros(len(images), np.int32), tcljax.SpikingConfig(2)
  for door in (
    lambda: tcljax.simulate(model, variables, images, spiking),
    lambda: tcljax.evaluate(model, variables, images, labels, spiking),
    lambda: tcljax.diagnose(model, variables, images, spiking),
    lambda: tcljax.tune(model, variables, images, labels, spiking, steps=1, batch_size=8),
    lambda: tcljax.convert(model, variables, (8, 8, 3)),
  ):
    with pytest.raises(ValueError, match=r"'act1_1' has a threshold (of 0|that is not finite)"):
      door()


def test_a_diagnosis_of_what_is_not_finite_is_refused(images):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables = alive(model, images)
  with pytest.raises(ValueError, match="images holds 3072 NaN or infinite numbers of"):
    tcljax.diagnose(model, variables, np.array(images) * np.nan, tcljax.SpikingConfig(2))
  large = lambda images: 1e38 * images
  with pytest.raises(ValueError, match="activation 'act1_1' is not finite on these images"):
    tcljax.diagnose(model, variables, images, tcljax.SpikingConfig(2), preprocess=large)


def test_poisson_input_that_is_not_finite_has_no_finite_answer(images):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables, keys = alive(model, images), jax.random.split(jax.random.key(0), 3)
  spiking = tcljax.SpikingConfig(4, encoding="poisson")
  network = tcljax.convert(model, variables, (8, 8, 3), spiking)
  bad = np.array(images[:3])
  bad[0, 1, 2, 0], bad[2, 1, 2, 0] = np.nan, np.inf
  for answer in (
    lambda x: tcljax.simulate(model, variables, x, spiking, keys=keys).logits,
    lambda x: network(x, keys=keys),
    lambda x: tcljax.answer_early(network, x, margin=np.inf, keys=keys).logits,
  ):
    good, found = answer(images[:3]), answer(bad)
    assert np.isnan(found).any(axis=1).tolist() == [True, False, True]
    np.testing.assert_array_equal(found[1], good[1])


def test_a_potential_that_is_not_finite_is_no_part_of_a_diagnosis(images):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables = alive(model, images)
  held = variables["clipping"]["act1_1"]
  broken = {"act1_1": {**held, "v_init": np.full(np.shape(held["v_init"]), np.nan)}}
  with pytest.raises(ValueError, match="activation 'act1_1' is not finite on these images"):
    tcljax.diagnose(model, {**variables, "clipping": broken}, images, tcljax.SpikingConfig(2))


def test_integers_are_simulated_as_the_numbers_that_they_are(images):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables = alive(model, images)
  x = np.full((2, 8, 8, 3), -128, np.int8)
  keys = jax.random.split(jax.random.key(0), 2)
  for encoding in ("poisson", "constant"):
    spiking = tcljax.SpikingConfig(4, encoding=encoding)
    found, expected = (
      tcljax.simulate(model, variables, one, spiking, keys=keys).logits
      for one in (jnp.asarray(x), jnp.asarray(x, jnp.float32))
    )
    np.testing.assert_array_equal(found, expected)
    assert np.abs(expected).max() > 0


def test_no_inputs_are_told(images):
  model = tcljax.CNN(num_classes=5, stages=((4,),), dense=())
  variables, none = alive(model, images), np.zeros((0, 8, 8, 3), np.float32)
  network = tcljax.convert(model, variables, (8, 8, 3))
  for door in (
    lambda: tcljax.simulate(model, variables, none, tcljax.SpikingConfig(2)),
    lambda: tcljax.answer_early(network, none, 0.1),
    lambda: tcljax.choose_margin(network, [none]),
  ):
    with pytest.raises(ValueError, match="holds an empty batch, of shape"):
      door()
