"""What networks of several inputs and outputs reach, by output and overall."""

import jax
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


@pytest.fixture(scope="module")
def answers():
  """Of the spiking network after each step, by output, [T, B, ...]."""
  return jax.tree.map(np.asarray, simulated(made()[1], inputs())[1])


@pytest.fixture(scope="module")
def found():
  targets = {"class": LABELS, "box": np.asarray(function(inputs())["box"]) + 2}
  return tcljax.evaluate(*made(), inputs(), targets, T4, outputs=KINDS, batch_size=8)


def test_each_output_has_its_error_against_the_ann_and_all_have_their_mean(found, answers):
  errors = {}
  for name, ann in jax.tree.map(np.asarray, function(inputs())).items():
    distance = np.square(answers[name] - ann).sum(axis=(1, 2)) / np.square(ann).sum()
    errors[name] = np.sqrt(distance)
    np.testing.assert_allclose(found.by_output[name]["error"], errors[name], rtol=1e-4)
  overall = np.sqrt((errors["class"] ** 2 + errors["box"] ** 2) / 2)
  np.testing.assert_allclose(found.error, overall, rtol=1e-4)


def test_the_only_output_of_a_kind_gives_its_figures(found, answers):
  correct = 100 * (answers["class"].argmax(axis=-1) == LABELS).mean(axis=1)
  np.testing.assert_allclose(found.snn, correct, rtol=1e-5)
  np.testing.assert_allclose(found.by_output["class"]["snn"], correct, rtol=1e-5)
  ann = np.asarray(function(inputs())["class"]).argmax(axis=-1)
  np.testing.assert_allclose(found.ann, 100 * np.mean(ann == LABELS), rtol=1e-5)
  np.testing.assert_allclose(found.target_error["ann"], 2, rtol=1e-3)
  assert set(found.by_output["box"]) == {"error", "target_error"}
  assert "'box': {'error': {1: " in repr(found) and "nan" not in repr(found)


def test_two_outputs_of_classes_have_their_accuracies_apart():
  labels = {"box": np.arange(16) % 4}
  found = tcljax.evaluate(*made(), inputs(), labels, T4)
  assert np.isnan([found.ann, found.clipped, *found.snn, *found.agreement]).all()
  assert 0 <= found.by_output["box"]["ann"] <= 100 and "ann" not in found.by_output["class"]


def test_several_inputs_are_diagnosed_as_one_also_where_preprocess_makes_them():
  one = tcljax.diagnose(Joined(), joined(), whole(), T4)
  for x, options in ((halves(whole()), {}), (whole(), {"preprocess": halves})):
    several = tcljax.diagnose(Joined(parted=True), joined(), x, T4, **options)
    assert one == several and list(one) == ["a", "b"]
  cut = lambda x: (x[:, :2], x[:3, 2:])
  with pytest.raises(ValueError, match=r"^preprocess\[1\] makes an array of shape \(3, 4\) of 128"):
    tcljax.diagnose(Joined(parted=True), joined(), whole(), T4, preprocess=cut)


@pytest.mark.parametrize(
  "labels, outputs, message",
  [
    (LABELS, KINDS, r"labels belongs to no output: the outputs are \['box'\], \['class'\]"),
    ({"clas": LABELS}, KINDS, r"labels\['clas'\] belongs to no output: the outputs are \['box'\]"),
    (
      {"class": LABELS[:5]},
      KINDS,
      r"16 images have 5 labels for output \['class'\]: give one each",
    ),
    ({"class": LABELS + 1}, KINDS, r"labels\['class'\] run from 1 to 3, the network has classes"),
    ({"class": LABELS * 1.0}, KINDS, r"labels\['class'\] have shape .*: give class numbers"),
    (None, {"class": "classes"}, r"outputs\['box'\] is missing: choose one of classes, quantities"),
    (None, {**KINDS, "x": "classes"}, r"outputs\['x'\] belongs to no output: the outputs are"),
    (None, {**KINDS, "box": "boxes"}, r"outputs\['box'\]='boxes' is unknown: choose one of"),
  ],
)
def test_labels_and_kinds_that_do_not_fit_are_told_by_output(labels, outputs, message):
  for door in (tcljax.evaluate, tcljax.tune):
    with pytest.raises(ValueError, match=f"^{message}"):
      door(*made(), inputs(), labels, T4, outputs=outputs)


class _Wrapped(Joined):
  """Takes two arrays, and answers with one."""

  parted: bool = True

  def __call__(self, x):
    return super().__call__(x)[0]


def test_a_reference_that_answers_otherwise_is_told():
  with pytest.raises(
    ValueError, match=r"^the reference answers with one array, the model with 0, 1"
  ):
    tcljax.evaluate(
      *(Joined(parted=True), joined(), whole(), None, T4),
      preprocess=halves,
      reference=(_Wrapped(), joined()),
    )
