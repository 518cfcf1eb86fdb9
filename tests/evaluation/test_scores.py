"""Figures of maps and quantities by hand, over all images in any batches, with labels or none."""

import jax
import numpy as np
import pytest
from small_networks import Dense, calibrated, inputs

import tcljax
from tcljax.evaluation import scores
from tcljax.layers.activations import TCL
from tcljax.simulation.outputs import Output

T4 = tcljax.SpikingConfig(time_steps=4)


def maps(count=11):
  """Inputs of 2 x 3 positions, [N, 2, 3, 6]."""
  return np.random.default_rng(1).normal(size=(count, 2, 3, 6)).astype(np.float32)


def logits_of(answers, classes=3):
  return np.eye(classes, dtype=np.float32)[np.asarray(answers)]


def test_classes_by_hand():
  """Two images of two positions; a step in front of the second network's answers."""
  ann, labels = logits_of([[0, 1], [2, 2]]), np.array([[0, 0], [2, 1]])
  found = scores.class_sums(logits_of([[[0, 0], [1, 2]]]), ann, labels)
  np.testing.assert_array_equal(found["agreement"], [[1, 1]])
  np.testing.assert_array_equal(found["correct"], [[2, 0]])
  np.testing.assert_array_equal(found["counts"][0, 0], [[2, 0, 0], [2, 0, 0], [2, 0, 0]])
  np.testing.assert_array_equal(found["counts"][0, 1], [[0, 0, 0], [0, 1, 1], [0, 1, 1]])
  total = scores.over_images(found, np.array([True, True]), axis=1)
  # class 0: 2 of 2; classes 1 and 2: none of 2 each
  np.testing.assert_allclose(scores.mean_iou(np.asarray(total["counts"])), [100 / 3])
  [first] = scores.over_images(found, np.array([True, False]), axis=1)["counts"]
  assert scores.mean_iou(np.asarray(first)) == 100  # the others are in no label and no answer
  assert set(scores.class_sums(ann, ann, None)) == {"agreement"}
  assert set(scores.class_sums(ann[:, 0], ann[:, 0], labels[:, 0])) == {"agreement", "correct"}


def test_confusions_by_hand():
  # Three images and one that fills up. After 1, 2 and 3 steps.
  taken_for = np.array([[0, 0, 2, 1], [0, 1, 2, 1], [1, 1, 2, 1]])
  labels, mask = np.array([0, 1, 1, 0]), np.array([True, True, True, False])
  found = scores.confusion(taken_for, labels, mask, 3)
  assert found.tolist() == [
    [[1, 0, 0], [1, 0, 1], [0, 0, 0]],
    [[1, 0, 0], [0, 1, 1], [0, 0, 0]],
    [[0, 1, 0], [0, 1, 1], [0, 0, 0]],
  ]


def test_what_can_be_confused():
  one = lambda *shape, kind="classes", path=(): Output(path, shape, kind)
  assert scores.confusion_of([one(10)]) and scores.confusion_of([one(1)])
  assert scores.confusion_of([one(10), one(4, kind="quantities", path=("box",))])
  for none in ([one(4, kind="quantities")], [one(8, 8, 3)], [one(3), one(4)], [one(2000)]):
    assert scores.confusion_of(none) is None


def test_quantities_by_hand():
  ann, targets = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[3.0, 3.0], [0.0, 1.0]])
  found = scores.quantity_sums(np.array([[[3.0, 2.0], [1.0, 0.0]]]), ann, targets)
  np.testing.assert_array_equal(found["error"], [[4, 1]])
  np.testing.assert_array_equal(found["scale"], [[25, 0]])
  np.testing.assert_array_equal(found["target_error"], [[1, 2]])


def by_numpy(answers, labels, classes):
  """Mean IoU over all positions together."""
  found = []
  for c in range(classes):
    both, either = (answers == c) & (labels == c), (answers == c) | (labels == c)
    found += [both.sum() / either.sum()] if either.any() else []
  return 100 * np.mean(found)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("batch_size", [8, 16])
def test_maps_are_measured_over_all_positions_of_all_images(width, batch_size):
  """Of a single output at each position, by its sign."""
  model, x = Dense(width), maps()
  variables = calibrated(model)
  answers = lambda z: np.asarray(z).argmax(-1) if width > 1 else np.asarray(z)[..., 0] > 0
  ann = answers(model.apply(variables, x))
  labels = np.where(np.arange(66).reshape(11, 2, 3) % 5, ann, 0).astype(np.int32)
  found = tcljax.evaluate(model, variables, x, labels, T4, batch_size=batch_size)
  clipped = answers(model.clone(act=TCL).apply(variables, x))
  np.testing.assert_allclose(found.ann, 100 * np.mean(ann == labels))
  np.testing.assert_allclose(found.clipped, 100 * np.mean(clipped == labels))
  classes = max(2, width)
  np.testing.assert_allclose(found.mean_iou["ann"], by_numpy(ann, labels, classes))
  np.testing.assert_allclose(found.mean_iou["clipped"], by_numpy(clipped, labels, classes))
  for t in (1, 4):
    snn = answers(tcljax.simulate(model, variables, x, tcljax.SpikingConfig(t)).logits)
    np.testing.assert_allclose(found.snn[t - 1], 100 * np.mean(snn == labels))
    np.testing.assert_allclose(found.agreement[t - 1], 100 * np.mean(snn == ann))
    np.testing.assert_allclose(found.mean_iou["snn"][t - 1], by_numpy(snn, labels, classes))
  assert 0 < found.agreement[0] < 100 and found.error is None and not found.target_error


@pytest.mark.parametrize("shape", [(6,), (2, 3, 6)])
def test_quantities_are_measured_by_their_distance(shape):
  model, x = Dense(3), np.random.default_rng(1).normal(size=(11, *shape)).astype(np.float32)
  variables = calibrated(model)
  ann = np.asarray(model.apply(variables, x))
  targets = ann + 2
  found = tcljax.evaluate(
    model, variables, x, targets.tolist(), T4, outputs="quantities", batch_size=8
  )
  rms = lambda a: np.sqrt(np.mean(np.square(a)))
  np.testing.assert_allclose(found.target_error["ann"], 2, rtol=1e-5)
  clipped = np.asarray(model.clone(act=TCL).apply(variables, x))
  np.testing.assert_allclose(found.target_error["clipped"], rms(clipped - targets), rtol=1e-5)
  for t in (1, 4):
    snn = np.asarray(tcljax.simulate(model, variables, x, tcljax.SpikingConfig(t)).logits)
    np.testing.assert_allclose(found.error[t - 1], rms(snn - ann) / rms(ann), rtol=1e-5)
    np.testing.assert_allclose(found.target_error["snn"][t - 1], rms(snn - targets), rtol=1e-5)
  assert np.isnan([found.ann, found.clipped, *found.snn, *found.agreement]).all()
  assert not found.mean_iou


def test_without_labels_the_ann_is_what_is_compared_with():
  model, x = Dense(3), inputs()
  variables = calibrated(model)
  labels = np.asarray(model.apply(variables, x).argmax(-1))
  labelled = tcljax.evaluate(model, variables, x, labels, T4)
  for data, outputs in ((x, "classes"), (maps(), "classes"), (x, "quantities")):
    found = tcljax.evaluate(model, variables, data, None, T4, outputs=outputs)
    assert np.isnan([found.ann, found.clipped, *found.snn]).all()
    assert not found.mean_iou and not found.target_error
    text = repr(found)
    assert "nan" not in text and "None" not in text and "{}" not in text and "ann" not in text
    assert ("agreement" in text, "error" in text) == (outputs == "classes", outputs != "classes")
    if data is x and outputs == "classes":
      np.testing.assert_array_equal(found.agreement, labelled.snn)


def test_an_ann_that_answers_nothing_but_zeros():
  totals = {"ann": {"scale": np.float64(0)}, "snn": {"error": np.array([0.0, 2.0])}}
  found = scores.quantity_figures(totals, 3, 2)["error"]
  np.testing.assert_array_equal(found, [0, np.inf])


@pytest.mark.parametrize(
  "labels, outputs, message",
  [
    (np.zeros((11, 2), int), "classes", r"integers \[N, 2, 3\]; the network answers once for each"),
    (np.zeros((11, 2, 3, 1), int), "classes", r"integers \[N, 2, 3\]; of one column labels\[:, :"),
    (np.zeros((11, 2, 3, 3), int), "classes", r"integers \[N, 2, 3\]; of one-hot labels, labels.a"),
    (np.zeros((11, 2, 3)), "classes", r"integers \[N\]; of whole numbers, labels.astype\(int\)"),
    (np.full((11, 2, 3), 3), "classes", "labels run from 3 to 3, the network has classes 0 to 2"),
    (np.zeros((11, 2, 3)), "quantities", r"shape of the network's outputs, \[N, 2, 3, 3\]"),
    (np.zeros((7, 2, 3, 3)), "quantities", "11 images have 7 labels: give one each"),
    (1.5, "quantities", r"labels=1.5 must be an array of targets, \[N, ...\]"),
    (["a"] * 11, "quantities", "labels of shape .* and type <U1: give real numbers"),
    (None, "boxes", "outputs='boxes' is unknown: choose one of classes, quantities"),
  ],
)
def test_labels_that_do_not_fit_are_told(labels, outputs, message):
  model = Dense(3)
  variables = calibrated(model)
  for door in (tcljax.evaluate, tcljax.tune):
    with pytest.raises(ValueError, match=message) as told:
      door(model, variables, maps(), labels, T4, outputs=outputs)
    assert "\n" not in str(told.value)


def test_a_reference_with_other_positions_is_told():
  model = Dense(3)
  variables = calibrated(model)

  class Flat(Dense):
    def __call__(self, x):
      return super().__call__(x).reshape(x.shape[0], -1)

  with pytest.raises(ValueError, match=r"reference's output has shape \(18,\) .* \(2, 3, 3\)"):
    tcljax.evaluate(model, variables, maps(), None, T4, reference=(Flat(3), variables))


def test_squares_of_16_bits_are_added_in_32():
  """Squares of bfloat16 would keep three digits."""
  ann = jax.numpy.full((1, 500), 1.5, jax.numpy.bfloat16)
  np.testing.assert_allclose(scores.quantity_sums(ann, ann, None)["scale"], [1125])
