"""Classes and margins by hand, of one output and of several; outputs that tell no classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import Dense, calibrated, inputs

import tcljax
from tcljax.simulation import outputs

T4 = tcljax.SpikingConfig(time_steps=4)


@pytest.mark.parametrize("numpy", [np, jnp])
def test_one_output_chooses_between_two_classes(numpy):
  z = numpy.array([[-2.0], [0.0], [0.5], [3.0]])
  np.testing.assert_array_equal(outputs.answers(z), [0, 0, 1, 1])
  np.testing.assert_array_equal(outputs.class_logits(z)[:, 1:], z)
  assert type(outputs.class_logits(z)) is type(z)  # what lies on the host stays there
  probability = jax.nn.softmax(outputs.class_logits(z))[:, 1]
  np.testing.assert_allclose(probability, jax.nn.sigmoid(z[:, 0]), rtol=1e-6)
  np.testing.assert_array_equal(outputs.margins(np.asarray(z)), [2, 0, 0.5, 3])


def test_several_outputs_are_taken_as_they_are():
  logits = np.array([[[1.0, 4.0, 2.0], [3.0, 3.0, 0.0]]])
  assert outputs.class_logits(logits) is logits
  np.testing.assert_array_equal(outputs.answers(logits), [[1, 0]])
  np.testing.assert_array_equal(outputs.margins(logits), [[2, 0]])


@pytest.mark.parametrize(
  "shape, message",
  [
    ((2, 8, 8, 5), r"shape \(2, 8, 8, 5\) for 2 inputs, expected \[batch, classes\]"),
    ((2,), r"shape \(2,\) for 2 inputs, expected"),
    ((1, 5), r"shape \(1, 5\) for 2 inputs, expected"),
    ((2, 0), r"shape \(2, 0\) for 2 inputs, expected"),
  ],
)
def test_an_output_that_tells_no_classes_is_told(shape, message):
  with pytest.raises(ValueError, match=message):
    outputs.check_classes(jax.ShapeDtypeStruct(shape, jnp.float32), 2)


def test_classes_are_counted_at_each_position():
  for width, classes in ((1, 2), (2, 2), (5, 5)):
    model = Dense(width)
    variables = model.init(jax.random.key(0), inputs())
    for places in ((), (4, 3)):
      x = jax.ShapeDtypeStruct((2, *places, 6), jnp.float32)
      [logits] = outputs.outputs_of_model(model, variables, x, "classes")
      assert logits.labels == (places, classes) and logits.name == ""
      [numbers] = outputs.outputs_of_model(model, variables, x, "quantities")
      assert numbers.labels == ((*places, width), 0)


@pytest.mark.parametrize("make", [tuple, list, lambda parts: {"b": parts[0], "a": [parts[1]]}])
def test_several_outputs_are_told_apart_by_their_places(make):
  class Several(Dense):
    def __call__(self, x):
      return make(super().__call__(x))

  model = Several(3, parts=2)
  variables = Dense(3).init(jax.random.key(0), inputs())
  x = jax.ShapeDtypeStruct((2, 6), jnp.float32)
  found = outputs.outputs_of_model(model, variables, x, "classes")
  names = [one.name for one in found]
  assert names in (["0", "1"], ["a/0", "b"]) and [one.shape for one in found] == [(3,), (3,)]
  kinds = make(("quantities", "classes"))
  assert {*outputs.outputs_of_model(model, variables, x, kinds)} == {
    one._replace(kind="quantities" if one.name in ("0", "b") else "classes") for one in found
  }


class Summed(Dense):
  """One number for each input, [B]; of quantities that is an output."""

  def __call__(self, x):
    return super().__call__(x)[..., 0]


def test_outputs_without_classes_are_told_unless_they_are_quantities():
  model, x = Summed(1), jax.ShapeDtypeStruct((2, 6), jnp.float32)
  variables = model.init(jax.random.key(0), inputs())
  assert outputs.outputs_of_model(model, variables, x, "quantities")[0].shape == ()
  with pytest.raises(ValueError, match=r"shape \(2,\) for 2 inputs, .*; are these quantities, giv"):
    outputs.outputs_of_model(model, variables, x, "classes")

  class Nothing(Dense):
    def __call__(self, x):
      return super().__call__(x)[..., :0]

  nothing = Nothing(1)
  for kind in outputs.OUTPUTS:
    with pytest.raises(ValueError, match=r"^the ANN's output has shape \(2, 0\) for 2 inputs"):
      outputs.outputs_of_model(nothing, variables, x, kind, "the ANN")


def test_what_looks_at_one_answer_for_each_input_refuses_maps():
  model, x = Dense(3), np.stack([inputs(8), -inputs(8)], axis=1)
  variables = calibrated(model)
  network = tcljax.convert(model, variables, (2, 6), T4)
  for call in (
    lambda: tcljax.choose_margin(network, [x], time_steps=2),
    lambda: tcljax.answer_early(network, x, 0.1, time_steps=2),
  ):
    with pytest.raises(ValueError, match=r"shape \(8, 2, 3\) for 8 inputs, expected \[batch, cl"):
      call()


@pytest.mark.parametrize(
  "images, message",
  [
    (inputs()[:, None], r"labels have shape \(32,\) and .*: give class numbers, integers \[N, 1\]"),
    (inputs()[:, :5], r"takes no inputs of shape \(batch, 5\): .* params/Dense_0/kernel"),
    (inputs()[:, 0], r"inputs of shape \(batch\): .* params/Dense_0/kernel"),
    (inputs().astype(str), r"images of shape \(32, 6\) and type <U32: give real numbers"),
    (inputs().astype(object), r"images of shape \(32, 6\) and type object: give real numbers"),
    (inputs().astype(complex), r"images of shape \(32, 6\) and type complex128: give real num"),
    (np.float32(1), r"images=1.0 must be an array of inputs, \[B, ...\]"),
    (inputs(31), "31 images have 32 labels: give one each"),
  ],
)
def test_images_that_do_not_fit_are_told(images, message):
  model, labels = Dense(3), np.zeros(32, np.int32)
  variables = calibrated(model)
  for call in (tcljax.evaluate, tcljax.tune):
    with pytest.raises(ValueError, match=message) as told:
      call(model, variables, images, labels, T4)
    assert "\n" not in str(told.value)


def test_a_map_is_the_mean_current_in_units_of_the_ann(tmp_path):
  """Simulated, diagnosed, converted, called, saved and loaded; positions are apart in a map."""
  model, x = Dense(3), np.stack([inputs(8), -inputs(8)], axis=1)
  variables, spiking = calibrated(model, method="maximum"), tcljax.SpikingConfig(256)
  clipped = model.clone(act=tcljax.TCL).apply(variables, x)
  simulated = tcljax.simulate(model, variables, x, spiking).logits
  assert simulated.shape == (8, 2, 3)
  np.testing.assert_allclose(simulated, clipped, atol=0.02)
  [alone] = tcljax.simulate(model, variables, x[3:4, 1], spiking).logits
  np.testing.assert_allclose(simulated[3, 1], alone, atol=1e-5)
  tcljax.save(tcljax.convert(model, variables, (2, 6), spiking), tmp_path / "made")
  np.testing.assert_allclose(tcljax.load(tmp_path / "made")(x), simulated, atol=1e-5)
  assert tcljax.diagnose(model, variables, x, spiking)["act1"].total < 0.02


def test_an_image_with_a_potential_that_is_not_finite_has_no_answer_anywhere():
  x = np.stack([inputs(8), -inputs(8)], axis=1)
  x[2, 0, 0] = np.nan
  simulated = tcljax.simulate(Dense(3), calibrated(Dense(3)), x, T4).logits
  np.testing.assert_array_equal(np.isnan(simulated).all((1, 2)), np.arange(8) == 2)
