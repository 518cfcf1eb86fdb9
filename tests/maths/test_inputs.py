"""Images and numbers that are none, told in one line at each public door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from doors import DOORS, NO_IMAGES, T4, images, made, with_one

import tcljax
from tcljax.maths.inputs import as_numbers


@pytest.fixture(scope="module")
def case():
  return made()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("data", NO_IMAGES)
def test_images_that_are_none_are_told_at_every_door(case, data, door):
  x, message = NO_IMAGES[data]
  with pytest.raises(ValueError, match=rf"^(x|inputs|images|batches)\b.*({message})") as told:
    DOORS[door](*case, x)
  assert "\n" not in str(told.value)


LISTS = {
  "masked in a list": (list(np.ma.masked_array(images(), images() > 5)), "some entries are masked"),
  "one masked": ([[1, 2, np.ma.masked, 4]] * 8, "some entries are masked"),
  "ragged": ([[1, 2, 3, 4], [1]], "of type list: give an array of numbers; NumPy says: "),
  "arrays of unlike shapes": (
    [images(), images()[:, :2]],
    r"is a list of arrays whose shapes differ: where .* give them in a tuple, of a list x tuple\(x",
  ),
  "a large int": ([[1, 2, 3, 2**40]] * 8, "1099511627776 does not fit into int32"),
  "a larger int": ([[1, 2, 3, 2**70]] * 8, r"of shape \(8, 4\) and type object: give real numbers"),
  "none": (None, "of type NoneType: give an array of numbers"),
  "a number": (3, "=3 must be an array of inputs"),
}


@pytest.mark.parametrize("door", ["call", "answer_early", "diagnose", "evaluate", "tune"])
@pytest.mark.parametrize("data", LISTS)
def test_lists_that_are_no_images_are_told_where_lists_are_taken(case, data, door):
  x, message = LISTS[data]
  with pytest.raises(ValueError, match=rf"^(inputs|images)\b.*{message}") as told:
    DOORS[door](*case, x)
  assert "\n" not in str(told.value)


@pytest.mark.parametrize("door", DOORS)
def test_booleans_integers_and_any_order_of_bytes_are_the_numbers_they_stand_for(case, door):
  def same(given, meant):
    jax.tree.map(np.testing.assert_array_equal, *(DOORS[door](*case, x) for x in (given, meant)))

  same(images(np.uint8), images())  # less 3, of which bytes would make 253 to 255
  same(images() > 3, (images() > 3).astype(np.float32))
  for given in (images(np.int64), images(">f4"), np.ma.masked_array(images(), False)):
    same(given, images())
  same(torch.from_numpy(images(np.float64)), images())


def test_a_number_of_python_still_gives_way_to_the_type_of_an_array():
  assert as_numbers("x", 0.5) == 0.5 and type(as_numbers("x", 0.5)) is float
  assert (jnp.bfloat16(2) * tcljax.threshold_from_raw(0.5)).dtype == jnp.bfloat16
  assert (jnp.bfloat16(2) * tcljax.threshold_from_raw(np.float32(0.5))).dtype == jnp.float32


def test_where_jax_keeps_64_bits_nothing_is_too_large():
  with jax.enable_x64(True):
    for x in (with_one(2**40, np.int64), with_one(1e300, np.float64)):
      np.testing.assert_array_equal(as_numbers("x", x), x)
  finite = with_one(np.finfo(np.float32).max, np.float64)
  for x in (finite, with_one(np.nan, np.float64), with_one(-np.inf, np.float64)):
    assert as_numbers("x", x) is x


def test_traced_inputs_are_told_by_their_type(case):
  model, variables, network = case
  for call in (lambda x: tcljax.simulate(model, variables, x, T4).logits, network):
    jax.eval_shape(call, jax.ShapeDtypeStruct((8, 4), np.int32))
    assert jax.eval_shape(lambda x, call=call: call(x), images()).shape == (8, 3)
    with pytest.raises(ValueError, match="and type complex64: give real numbers"):
      jax.eval_shape(call, jax.ShapeDtypeStruct((8, 4), np.complex64))
  rows = jax.eval_shape(lambda x: network([x, x]), jax.ShapeDtypeStruct((4,), np.float32))
  assert rows.shape == (2, 3)


@pytest.mark.parametrize(
  "function",
  [
    lambda x: tcljax.clip(x, 2.0),
    lambda x: tcljax.quantized_clip(x, 2.0, 4),
    lambda x: tcljax.integrate(x, 0.0, 1.0),
    lambda x: tcljax.integrate(jnp.ones((2, 8, 4)), x, 1.0),
    lambda x: tcljax.if_step(jnp.ones((8, 4)), x, 1.0),
    lambda x: tcljax.integrate_and_fire(x, 1.0),
    lambda x: tcljax.integrate_and_fire(jnp.ones((2, 8, 4)), x),
    lambda x: tcljax.spike(x, 1.0),
    lambda x: tcljax.surrogate_derivative(x),
    lambda x: tcljax.raw_from_threshold(x),
    lambda x: tcljax.threshold_from_raw(x),
  ],
)
def test_numbers_that_are_none_are_told_by_the_mathematics(function):
  for x, message in NO_IMAGES.values():
    with pytest.raises(ValueError, match=rf"^(x|v|u|raw|threshold|currents?)\b.*({message})"):
      function(x)
