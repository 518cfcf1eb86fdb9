"""Accuracies and spikes: each image counts once, and the figures are those of the simulation."""

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest
from running import calibrate_plainly
from small_networks import Dense, calibrated, inputs

import tcljax
from tcljax.data import Split
from tcljax.evaluation import accuracy, measurement
from tcljax.evaluation.accuracy import reported_time_steps
from tcljax.layers.activations import TCL, ReLU


@pytest.fixture(scope="module")
def case(vgg):
  model, variables = vgg
  rng = np.random.default_rng(3)
  images = rng.normal(size=(37, 8, 8, 3)).astype(np.float32)
  variables = calibrate_plainly(model, variables, images, percentile=95)
  # The labels are the ANN's own answers but for 7 images. The last, which fills the last batch, is
  # right, so that counting it twice would show.
  answers = np.asarray(model.apply(variables, images).argmax(-1))
  labels = np.where(np.arange(37) >= 7, answers, (answers + 1) % 10).astype(np.int32)
  return model, variables, images, labels


@pytest.mark.parametrize(
  "batch_size", [8, *[pytest.param(n, marks=pytest.mark.slow) for n in (16, 64)]]
)
def test_every_image_counts_once_whatever_the_batch(case, batch_size):
  model, variables, images, labels = case
  spiking = tcljax.SpikingConfig(time_steps=6)
  found = tcljax.evaluate(model, variables, images, labels, spiking, batch_size=batch_size)
  assert found.images == 37
  np.testing.assert_allclose(found.ann, 100 * 30 / 37)
  assert list(found.confusion) == [1, 2, 4, 6]
  for t, counts in found.confusion.items():
    assert counts.sum(axis=1).tolist() == np.bincount(labels, minlength=10).tolist()
    np.testing.assert_allclose(100 * np.trace(counts) / 37, found.snn[t - 1])
  clipped = model.clone(act=TCL).apply(variables, images).argmax(-1)
  np.testing.assert_allclose(found.clipped, 100 * np.mean(clipped == labels))
  ann = model.apply(variables, images).argmax(-1)
  for steps in (1, 2, 6):
    config = tcljax.SpikingConfig(time_steps=steps)
    answers = tcljax.simulate(model, variables, images, config).logits.argmax(-1)
    np.testing.assert_allclose(found.snn[steps - 1], 100 * np.mean(answers == labels))
    np.testing.assert_allclose(found.agreement[steps - 1], 100 * np.mean(answers == ann))


def test_one_compilation_serves_a_whole_evaluation(case, monkeypatch):
  model, variables, images, labels = case
  neuron = tcljax.Neuron(width=0.7)  # which no other test has compiled
  spiking = tcljax.SpikingConfig(time_steps=3, neuron=neuron)
  monkeypatch.setattr(measurement, "simulate", chex.assert_max_traces(measurement.simulate, n=1))
  first = tcljax.evaluate(model, variables, images, labels, spiking, batch_size=8)  # 5 batches
  again = tcljax.evaluate(model, variables, images[:30], labels[:30], spiking, batch_size=8)
  assert (first.images, again.images) == (37, 30)
  with pytest.raises(AssertionError, match="traced > 1 times"):
    tcljax.evaluate(model, variables, images, labels, spiking, batch_size=16)


def test_spikes_are_those_of_the_simulation(case):
  model, variables, images, labels = case
  spiking = tcljax.SpikingConfig(time_steps=5)
  found = tcljax.evaluate(model, variables, images, labels, spiking, batch_size=16)
  spikes = tcljax.simulate(
    model, variables, images, spiking, observe=lambda chunk: chunk.spikes
  ).observed
  total = sum(np.asarray(s).sum(axis=1) for s in jax.tree.leaves(spikes))
  neurons = 512 + 512 + 256 + 32
  np.testing.assert_allclose(found.spikes_per_neuron, total.cumsum() / (37 * neurons), rtol=1e-5)
  np.testing.assert_allclose(
    found.firing_rates["act_dense1"],
    np.asarray(spikes["act_dense1"]["count"]).sum() / (37 * 32 * 5),
    rtol=1e-5,
  )


@pytest.mark.slow
def test_poisson_input_does_not_depend_on_the_batch_size(case):
  model, variables, images, labels = case
  spiking = tcljax.SpikingConfig(time_steps=4, encoding="poisson")
  a, b = (
    tcljax.evaluate(model, variables, images, labels, spiking, batch_size=n, seed=5)
    for n in (8, 32)
  )
  np.testing.assert_allclose(a.spikes_per_neuron, b.spikes_per_neuron, rtol=1e-4)
  c = tcljax.evaluate(model, variables, images, labels, spiking, batch_size=8, seed=6)
  assert not np.allclose(a.spikes_per_neuron, c.spikes_per_neuron, rtol=1e-6)


def test_a_model_with_a_list_as_field(rng):
  class Layers(nn.Module):
    features: list
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      for i, width in enumerate(self.features):
        x = self.act(name=f"act{i}")(nn.Dense(width)(x))
      return x

  model, x = Layers([6, 4]), rng.normal(size=(10, 3)).astype(np.float32)
  variables = tcljax.calibrate(model, model.init(jax.random.key(0), x), [x])
  labels = np.asarray(model.apply(variables, x).argmax(-1))
  assert tcljax.evaluate(model, variables, x, labels, tcljax.SpikingConfig()).ann == 100


def test_one_output_is_a_binary_classifier():
  """Signs are what is compared: here 20 of the 32 labels are the ANN's answers."""
  model, x, spiking = Dense(1), inputs(), tcljax.SpikingConfig(time_steps=8)
  variables = calibrated(model)
  ann = np.asarray(model.apply(variables, x))[:, 0] > 0
  labels = np.where(np.arange(32) < 20, ann, ~ann).astype(np.int32)
  assert 0 < ann.sum() < 32
  found = tcljax.evaluate(model, variables, x, labels, spiking)
  np.testing.assert_allclose(found.ann, 100 * 20 / 32)
  clipped = np.asarray(model.clone(act=TCL).apply(variables, x))[:, 0] > 0
  np.testing.assert_allclose(found.clipped, 100 * np.mean(clipped == labels))
  for t in (1, 2, 8):
    config = tcljax.SpikingConfig(time_steps=t)
    snn = np.asarray(tcljax.simulate(model, variables, x, config).logits)[:, 0] > 0
    np.testing.assert_allclose(found.snn[t - 1], 100 * np.mean(snn == labels))
    np.testing.assert_allclose(found.agreement[t - 1], 100 * np.mean(snn == ann))
  assert found.agreement[0] < 100
  plain = accuracy.accuracy(
    model, variables, Split(x, labels), batch_size=32, preprocess=lambda x: x
  )
  np.testing.assert_allclose(plain, 100 * 20 / 32)


def test_an_answer_that_is_not_finite_is_told_of_each_network():
  """The largest of numbers that are none is some class too."""
  model, labels = Dense(3), np.zeros(32, np.int32)
  variables = calibrated(model)
  reference = model, variables
  broken = {**variables, "clipping": {"act1": {**variables["clipping"]["act1"]}}}
  broken["clipping"]["act1"]["v_init"] = np.float32(np.inf)  # which the clip does not know
  for name, given in (
    ("spiking", broken),
    ("clipped", {**variables, "params": jax.tree.map(lambda a: a * np.nan, variables["params"])}),
  ):
    with pytest.raises(ValueError, match=rf"the {name} network's output is not finite for 32 of"):
      tcljax.evaluate(model, given, inputs(), labels, tcljax.SpikingConfig(4), reference=reference)


def test_a_reference_with_other_classes_is_told():
  model, other = Dense(3), Dense(5)
  reference = other, other.init(jax.random.key(0), inputs())
  with pytest.raises(ValueError, match="the reference tells 5 classes apart, the model 3"):
    tcljax.evaluate(
      model,
      calibrated(model),
      inputs(),
      np.zeros(32, np.int32),
      tcljax.SpikingConfig(4),
      reference=reference,
    )


def test_an_evaluation_prints_in_a_line():
  steps = np.arange(1, 11)
  found = accuracy.Evaluation(9, 200 / 3, 50.0, steps / 3, steps * 1.0, steps / 10, {"a/b": 0.125})
  assert repr(found) == (
    "Evaluation(images=9, ann=66.67, clipped=50.00, "
    "snn={1: 0.33, 2: 0.67, 4: 1.33, 8: 2.67, 10: 3.33}, "
    "agreement={1: 1.00, 2: 2.00, 4: 4.00, 8: 8.00, 10: 10.00}, "
    "spikes_per_neuron={1: 0.10, 2: 0.20, 4: 0.40, 8: 0.80, 10: 1.00}, firing_rates={'a/b': 0.12})"
  )


def test_bad_data(case):
  model, variables, images, labels = case
  with pytest.raises(ValueError, match="37 images have 5 labels"):
    tcljax.evaluate(model, variables, images, labels[:5], tcljax.SpikingConfig())
  one_hot = np.eye(10, dtype=np.int32)[labels]
  for wrong in (one_hot, labels[:, None], labels + 0.5):
    with pytest.raises(ValueError, match="give class numbers, integers"):
      tcljax.evaluate(model, variables, images, wrong, tcljax.SpikingConfig())
  with pytest.raises(ValueError, match="labels run from 1 to 10, the network has classes 0 to 9"):
    tcljax.evaluate(model, variables, images, labels % 2 * 9 + 1, tcljax.SpikingConfig())
  with pytest.raises(ValueError, match=r"spiking=8 must be a tcljax.SpikingConfig"):
    tcljax.evaluate(model, variables, images, labels, 8)
  with pytest.raises(ValueError, match="batch_size=-3 must be at least 1"):
    tcljax.evaluate(model, variables, images, labels, tcljax.SpikingConfig(), batch_size=-3)
  broken = images.copy()
  broken[3] = 3e38
  with pytest.raises(ValueError, match="output is not finite for 1 of the 37 images"):
    tcljax.evaluate(model, variables, broken, labels, tcljax.SpikingConfig())
  broken[3] = np.nan
  with pytest.raises(ValueError, match=f"images holds {broken[3].size} NaN or infinite numbers of"):
    tcljax.evaluate(model, variables, broken, labels, tcljax.SpikingConfig())
  with pytest.raises(ValueError, match="no images to evaluate on"):
    tcljax.evaluate(model, variables, images[:0], labels[:0], tcljax.SpikingConfig())


@pytest.mark.parametrize("steps, reported", [(1, [1]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])])
def test_reported_time_steps(steps, reported):
  assert reported_time_steps(steps) == reported


def test_evaluations_and_splits_are_compared_by_identity(case):
  """Their fields hold arrays, of which == is no truth value."""
  model, variables, images, labels = case
  one, other = (
    tcljax.evaluate(model, variables, images[:8], labels[:8], tcljax.SpikingConfig(2))
    for _ in range(2)
  )
  assert one == one and one != other and len({one, other}) == 2
  np.testing.assert_array_equal(one.snn, other.snn)
  one, other = (Split(images, labels) for _ in range(2))
  assert one == one and one != other and len({one, other}) == 2
