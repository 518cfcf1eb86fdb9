"""Thresholds of networks of several inputs and outputs, calibrated and tuned."""

import numpy as np
import pytest
from several_arrays import (
  KINDS,
  T4,
  Joined,
  function,
  halves,
  inputs,
  joined,
  made,
  simulated,
  whole,
)

import tcljax

LABELS = np.arange(16) % 3


def tune(labels, outputs=KINDS, **options):
  """The metrics of each step, and the variables after them."""
  seen = []
  tuned = tcljax.tune(
    *(*made(), inputs(), labels, T4),
    **{"steps": 20, "batch_size": 16, "outputs": outputs, **options},
    on_metrics=lambda step, metrics: seen.append(metrics),
  )
  return seen, tuned


def simulate(variables):
  return simulated(variables, inputs())[0]


def shares(variables):
  """By output, squared errors of the spiking network as a share of the ANN's mean square."""
  found = simulate(variables)
  return {
    name: float(np.mean(np.square(found[name] - ann)) / np.mean(np.square(ann)))
    for name, ann in function(inputs()).items()
  }


def test_several_arrays_have_the_thresholds_of_one():
  variables = joined()
  found = tcljax.calibrate(Joined(parted=True), variables, [halves(whole())], T4)
  for name, tau in tcljax.thresholds(variables).items():
    np.testing.assert_array_equal(tcljax.thresholds(found)[name], tau)


def test_losses_of_all_outputs_are_added_up_each_by_its_kind():
  """By hand: the divergence of the classes, and the box's squares as a share of the ANN's."""
  seen, tuned = tune({"class": LABELS})
  softmax = lambda z: np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
  variables = made()[1]
  logits, ann = (np.asarray(of["class"]) for of in (simulate(variables), function(inputs())))
  p, q = softmax(ann), softmax(logits)
  divergence = np.mean(np.sum(p * np.log(p / q), axis=-1))
  before, after = shares(variables), shares(tuned)
  np.testing.assert_allclose(seen[0]["answer_loss"], divergence + before["box"], rtol=1e-4)
  np.testing.assert_allclose(seen[0]["accuracy"], 100 * np.mean(logits.argmax(-1) == LABELS))
  assert after["class"] < before["class"] and after["box"] < before["box"]


def test_targets_in_another_shape_are_told_by_their_output():
  with pytest.raises(ValueError, match=r"^labels\['box'\] have shape \(16,\): give targets in the"):
    tune({"class": LABELS, "box": LABELS})


def test_cross_entropy_is_for_one_output():
  with pytest.raises(
    ValueError, match=r"^objective='cross_entropy' takes a network with one output"
  ):
    tune({"class": LABELS, "box": LABELS}, "classes", objective="cross_entropy")
