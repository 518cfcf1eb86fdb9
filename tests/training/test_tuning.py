"""`tune` moves thresholds and nothing else, and tells what it cannot use."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import calibrate_plainly
from small_networks import Dense, calibrated, inputs
from states import bits

import tcljax
from tcljax.layers.collections import thresholds_by_path, with_thresholds
from tcljax.maths.clipping import raw_from_threshold
from tcljax.simulation.settings import SpikingConfig


@pytest.fixture(scope="module")
def to_tune(case):
  """A network that tells its inputs apart, with thresholds far too high for a few steps."""
  model, variables, images, _ = case
  head = variables["params"]["head"]
  params = {**variables["params"], "head": {**head, "kernel": 4 * head["kernel"]}}
  return calibrate_plainly(
    model, {**variables, "params": params}, images, method="maximum", per_channel=True
  )


ADAM = tcljax.OptimizerConfig("adamw", learning_rate=0.05)


def test_tuning_moves_thresholds_and_nothing_else(case, to_tune):
  model, _, images, labels = case
  variables = to_tune
  frozen = {c: bits(variables[c]) for c in ("params", "batch_stats")}
  seen = []
  tuned = tcljax.tune(
    model,
    variables,
    images,
    labels,
    SpikingConfig(time_steps=4),
    steps=20,
    batch_size=32,
    optimizer=ADAM,
    on_metrics=lambda step, metrics: seen.append((step, metrics["loss"])),
  )
  for collection, before in frozen.items():
    assert bits(tuned[collection]) == before
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).min()), variables["clipping"], tuned["clipping"]
  )
  assert min(jax.tree.leaves(moved)) > 0  # every threshold and every initial potential
  assert [step for step, _ in seen] == list(range(1, 21))
  losses = [loss for _, loss in seen]
  assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_tuning_knows_no_unit():
  """A network whose activations are 1,024 times as large is tuned in the same way."""
  model = Dense(width=3)
  variables = calibrated(model)
  first, last = sorted(variables["params"])
  layers = variables["params"]
  large = {
    first: jax.tree.map(lambda a: 1024 * a, layers[first]),
    last: {**layers[last], "kernel": layers[last]["kernel"] / 1024},
  }
  held = thresholds_by_path(variables)[("act1",)]
  raised = held._replace(raw_threshold=raw_from_threshold(1024 * held.tau))
  taus = {}
  for scale, given in [
    (1, variables),
    (1024, with_thresholds({**variables, "params": large}, {("act1",): raised})),
  ]:
    tuned = tcljax.tune(model, given, inputs(), None, SpikingConfig(4), steps=20, batch_size=16)
    taus[scale] = thresholds_by_path(tuned)[("act1",)].tau / scale
  assert np.abs(taus[1] / held.tau - 1).max() > 0.05
  np.testing.assert_allclose(taus[1024], taus[1], rtol=0.01)


def test_frozen_dicts_are_taken(case):
  model, variables, images, labels = case
  tuned = tcljax.tune(model, flax.core.freeze(variables), images, labels, steps=1)
  assert set(tuned) == {"params", "batch_stats", "clipping"}


def test_bad_tuning_input(case):
  model, variables, images, labels = case
  with pytest.raises(ValueError, match="batch_size=0 holds no example: choose 8 or a multiple"):
    tcljax.tune(model, variables, images, batch_size=0)
  with pytest.raises(ValueError, match=r"outputs=\{'a': 'classes'\}, and the network has one outp"):
    tcljax.tune(model, variables, images, outputs={"a": "classes"})
  with pytest.raises(ValueError, match="batch_size=12 cannot be split over 8 devices"):
    tcljax.tune(model, variables, images, labels, batch_size=12)
  with pytest.raises(ValueError, match="batch_size=72 is more than the 64 training images there"):
    tcljax.tune(model, variables, images, labels, batch_size=72)
  with pytest.raises(ValueError, match="batch_size=32 is more than the 16 training images there"):
    tcljax.tune(model, variables, images[:16], labels[:16])
  with pytest.raises(ValueError, match="objective='mse' is unknown"):
    tcljax.tune(model, variables, images, labels, objective="mse")
  with pytest.raises(ValueError, match=r"run tcljax\.calibrate first"):
    tcljax.tune(model, {"params": variables["params"]}, images, labels)
  with pytest.raises(ValueError, match="labels run from 1 to 10"):
    tcljax.tune(model, variables, images, labels % 2 * 9 + 1)
  with pytest.raises(ValueError, match=r"optimizer='adamw' must be a tcljax.OptimizerConfig"):
    tcljax.tune(model, variables, images, labels, optimizer="adamw")
  with pytest.raises(ValueError, match=r"optimizer\.name='lamb' is for trained weights"):
    tcljax.tune(model, variables, images, labels, optimizer=tcljax.OptimizerConfig("lamb", 1e-3))
  with pytest.raises(ValueError, match="steps=-2 must be at least 1"):
    tcljax.tune(model, variables, images, labels, steps=-2)
  with pytest.raises(ValueError, match="minutes=nan must be finite"):
    tcljax.tune(model, variables, images, labels, minutes=float("nan"))
  with pytest.raises(ValueError, match=r"at=\(4, 0\): 0 is no number .* to time_steps=8"):
    tcljax.tune(model, variables, images, labels, at=(4, 0))
  with pytest.raises(ValueError, match=r"at=\(4, 6\): 6 must be a multiple of phase=4, as answers"):
    phased = tcljax.SpikingConfig(8, neuron=tcljax.Neuron(phase=4))
    tcljax.tune(model, variables, images, labels, phased, at=(4, 6))
  with pytest.raises(ValueError, match="at=4 must be a sequence"):
    tcljax.tune(model, variables, images, labels, at=4)
  with pytest.raises(ValueError, match="minutes=inf must be finite"):
    tcljax.tune(model, variables, images, labels, minutes=float("inf"))
  with pytest.raises(tcljax.TrainingDiverged, match="at step 1; are all inputs finite"):
    tcljax.tune(model, variables, np.full_like(images, 3e38), labels, steps=2)
  with pytest.raises(ValueError, match=f"^images holds {images.size} NaN or infinite numbers of "):
    tcljax.tune(model, variables, images * np.nan, labels, steps=2)
  for broken, name in (("params", "^params/conv1_1/bias"), ("clipping", "act1_1")):
    held = {**variables, broken: jax.tree.map(lambda a: a * np.nan, variables[broken])}
    with pytest.raises(ValueError, match=name):
      tcljax.tune(model, held, images, labels, steps=2)
  with pytest.raises(ValueError, match="64 images have 5 labels"):
    tcljax.tune(model, variables, images, labels[:5])
  with pytest.raises(ValueError, match="no images to train on"):
    tcljax.tune(model, variables, images[:0], labels[:0])


class TestOneOutput:
  """Of a network with one output, a binary classifier or a regression."""

  labels = np.arange(32, dtype=np.int32) % 2
  run = staticmethod(
    functools.partial(tcljax.tune, spiking=SpikingConfig(time_steps=4), steps=25, optimizer=ADAM)
  )

  @pytest.mark.parametrize("objective", ["distillation", "squared_error", "cross_entropy"])
  def test_every_objective_sees_its_errors(self, objective):
    model, seen = Dense(1, scale=3.0), []
    variables = calibrated(model, method="maximum")
    labels = np.asarray(model.apply(variables, inputs())[:, 0] > 0, np.int32)
    tuned = self.run(
      model,
      variables,
      inputs(),
      labels,
      objective=objective,
      on_metrics=lambda step, metrics: seen.append(metrics),
    )
    assert seen[0]["loss"] > 1e-3 and seen[-1]["loss"] < 0.9 * seen[0]["loss"]
    assert seen[0]["accuracy"] < 100  # before tuning some signs differ from the ANN's
    assert bits(tuned["clipping"]) != bits(variables["clipping"])

  def test_labels_are_0_and_1(self):
    model = Dense(1)
    for wrong in (self.labels + 1, self.labels - 1):
      with pytest.raises(ValueError, match=r"labels run from -?\d to \d, .* has classes 0 to 1"):
        self.run(model, calibrated(model), inputs(), wrong)
    with pytest.raises(ValueError, match=r"integers \[N\]; of one column labels\[:, 0\]"):
      self.run(model, calibrated(model), inputs(), self.labels[:, None])

  def test_an_objective_that_sees_no_error_is_told(self):
    """All outputs are far above 0, as those of a regression may be: their sigmoids are all 1."""
    model = Dense(1)
    variables = calibrated(model)
    variables["params"]["Dense_1"]["bias"] = np.full(1, 60.0, np.float32)
    with pytest.warns(
      UserWarning, match="nothing was learned: the loss by 'distillation' was .*outp"
    ):
      self.run(model, variables, inputs(), self.labels)
    tuned = self.run(model, variables, inputs(), self.labels, objective="squared_error")
    assert bits(tuned["clipping"]) != bits(variables["clipping"])


@pytest.mark.parametrize(
  "options",
  [
    {"optimizer": tcljax.OptimizerConfig("sgd", learning_rate=0.0)},
    {"optimizer": tcljax.OptimizerConfig("adamw", 0.02, warmup_steps=5), "steps": 1},
  ],
  ids=["no learning rate", "nothing but warm-up"],
)
def test_an_optimizer_that_moves_nothing_is_told(options):
  model = Dense(3)
  variables = calibrated(model)
  labels = np.zeros(32, np.int32)
  with pytest.warns(UserWarning, match="nothing was learned: no step moved a threshold, with loss"):
    tcljax.tune(model, variables, inputs(), labels, SpikingConfig(2), **{"steps": 3, **options})


def test_a_time_for_few_steps_is_told():
  model = Dense(3)
  with pytest.warns(
    UserWarning, match=r"^1 tuning steps fit into 1e-09 minutes; fewer than 20 hard"
  ):
    tcljax.tune(
      model, calibrated(model), inputs(), np.zeros(32, np.int32), SpikingConfig(2), minutes=1e-9
    )


class TestMapsAndQuantities:
  """Outputs of 2 x 3 positions."""

  x = np.random.default_rng(1).normal(size=(32, 2, 3, 6)).astype(np.float32)

  def run(self, *given, **options):
    model, seen = Dense(3, scale=3.0), []
    variables = calibrated(model, method="maximum")
    tuned = tcljax.tune(
      *(model, variables, self.x, *given),
      spiking=SpikingConfig(time_steps=4),
      **{"steps": 30, "optimizer": ADAM, **options},
      on_metrics=lambda step, metrics: seen.append(metrics),
    )
    assert bits(tuned["clipping"]) != bits(variables["clipping"])
    for loss in ("loss", "answer_loss"):
      assert min(metrics[loss] for metrics in seen) < 0.95 * seen[0][loss]
    return model, variables, seen

  def first_outputs(self, model, variables):
    """Of the first batch, which is all images in some order."""
    snn = tcljax.simulate(model, variables, self.x, SpikingConfig(time_steps=4)).logits
    return np.asarray(snn), np.asarray(model.apply(variables, self.x))

  def test_maps_without_labels_learn_the_divergence_at_each_position(self):
    model, variables, seen = self.run()
    snn, ann = (np.asarray(jax.nn.log_softmax(z)) for z in self.first_outputs(model, variables))
    divergence = np.sum(np.exp(ann) * (ann - snn), axis=-1).mean()
    np.testing.assert_allclose(seen[0]["answer_loss"], divergence, rtol=1e-4)
    assert "accuracy" not in seen[0]

  def test_labels_of_maps_are_learned_and_counted_at_each_position(self):
    labels = np.random.default_rng(2).integers(0, 3, self.x.shape[:-1])
    model, variables, seen = self.run(labels, objective="cross_entropy")
    snn, _ = self.first_outputs(model, variables)
    picked = np.take_along_axis(np.asarray(jax.nn.log_softmax(snn)), labels[..., None], axis=-1)
    np.testing.assert_allclose(seen[0]["answer_loss"], -picked.mean(), rtol=1e-4)
    np.testing.assert_allclose(seen[0]["accuracy"], 100 * np.mean(snn.argmax(-1) == labels))

  @pytest.mark.parametrize("objective", ["distillation", "squared_error"])
  def test_quantities_learn_the_squared_error(self, objective):
    model, variables, seen = self.run(outputs="quantities", objective=objective)
    snn, ann = self.first_outputs(model, variables)
    np.testing.assert_allclose(seen[0]["answer_loss"], np.mean((snn - ann) ** 2), rtol=1e-4)
    assert "accuracy" not in seen[0]

  def test_targets_of_quantities_are_looked_at_by_nothing(self):
    _, _, seen = self.run(np.zeros((32, 2, 3, 3)), outputs="quantities")
    assert "accuracy" not in seen[0]

  def test_labels_are_needed_where_they_are_learned(self):
    with pytest.raises(ValueError, match="objective='cross_entropy' learns labels: give them, or"):
      self.run(objective="cross_entropy")
    with pytest.raises(ValueError, match="objective='cross_entropy' is one of classes: outputs="):
      self.run(objective="cross_entropy", outputs="quantities")
