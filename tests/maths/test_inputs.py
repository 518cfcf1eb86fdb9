"""Images, class numbers, keys and seeds that are none, told in one line at each public door."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import torch
from flax import traverse_util
from running import calibrate_plainly

import tcljax
from tcljax.maths.inputs import as_labels, as_numbers
from tcljax.runs.config import RunConfig

T4 = tcljax.SpikingConfig(4)
POISSON = tcljax.SpikingConfig(4, encoding="poisson")
LABELS = np.arange(8) % 3
KEYS = jax.random.split(jax.random.key(0), 8)


class Centring(nn.Module):
  """What models do first to images of bytes; a difference of uint8 would wrap."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(self.act(name="a")(nn.Dense(5)((x - 3) * 100)))


def images(dtype=np.float32):
  return np.random.default_rng(3).integers(0, 8, (8, 4)).astype(dtype)


def with_one(value, dtype):
  x = images(dtype)
  x[2, 1] = value
  return x


@pytest.fixture(scope="module")
def case():
  model = Centring()
  variables = calibrate_plainly(model, model.init(jax.random.key(0), images()), images())
  return model, variables, tcljax.convert(model, variables, (4,), T4)


# What each public function that takes images makes of them; all are arrays or trees of them.
DOORS = {
  "simulate": lambda m, v, n, x: tcljax.simulate(m, v, x, T4).logits,
  "call": lambda m, v, n, x: n(x),
  "answer_early": lambda m, v, n, x: tcljax.answer_early(n, x, 0.1).logits,
  "choose_margin": lambda m, v, n, x: tcljax.choose_margin(n, [x]),
  "calibrate": lambda m, v, n, x: tcljax.thresholds(tcljax.calibrate(m, v, [x])),
  "diagnose": lambda m, v, n, x: vars(tcljax.diagnose(m, v, x, T4)["a"]),
  "evaluate": lambda m, v, n, x: vars(tcljax.evaluate(m, v, x, LABELS, T4)),
  "tune": lambda m, v, n, x: tcljax.thresholds(
    tcljax.tune(m, v, x, LABELS, T4, steps=1, batch_size=8, objective="squared_error")
  ),
}
NO_IMAGES = {
  "a large int64": (with_one(2**40, np.int64), r"1099511627776 does not fit into int32, in which"),
  "a low int64": (
    with_one(-(2**31) - 1, np.int64),
    "-2147483649 does not fit into int32.*floating",
  ),
  "a large uint64": (with_one(2**63, np.uint64), "9223372036854775808 does not fit into uint32"),
  "a large float64": (
    with_one(1e300, np.float64),
    r"1e\+300 does not fit into float32.*scale them",
  ),
  "a low float64": (
    with_one(-1e39, np.float64),
    r"-1e\+39 does not fit into float32, in which JAX",
  ),
  "complex": (images(np.complex64), r"of shape \(8, 4\) and type complex64: give real numbers"),
  "complex of JAX": (jnp.asarray(images()) + 1j, "and type complex64: give real numbers"),
  "objects": (images(object), r"of shape \(8, 4\) and type object: give real numbers"),
  "texts": (images(str), "and type <U21: give real numbers|and type <U32: give real numbers"),
  "texts of any length": (
    images(str).astype(np.dtypes.StringDType()),
    r"and type StringDType\(\): give real numbers",
  ),
  "dates": (images(np.int64).astype("M8[s]"), r"and type datetime64\[s\]: give real numbers"),
  "durations": (images(np.int64).astype("m8[s]"), r"and type timedelta64\[s\]: give real numbers"),
  "128 bits": (images(np.longdouble), "give real numbers of at most 64 bits"),
  "records": (np.zeros((8, 4), [("a", "f4")]), r"and type \[\('a', '<f4'\)\]: give real numbers"),
  "masked": (
    np.ma.masked_array(images(), images() > 5),
    "some entries are masked: fill them, .fil",
  ),
  "keys": (jax.random.split(jax.random.key(0), (8, 4)), "and type key<fry>: give real numbers"),
  "sparse": (scipy.sparse.csr_matrix(images()), "of type csr_matrix: give an array of numbers"),
  "with a gradient": (
    torch.ones(8, 4, requires_grad=True),
    "of type Tensor: give an array of numb",
  ),
}


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


@pytest.mark.parametrize("door", [tcljax.evaluate, tcljax.tune, tcljax.diagnose])
def test_what_a_function_makes_of_images_is_told(case, door):
  model, variables, _ = case
  labels = () if door is tcljax.diagnose else (LABELS,)
  for found, message in (
    (lambda x, *key: x + 1j, "and type complex64: give real numbers"),
    (lambda x, *key: jax.random.split(jax.random.key(0), x.shape), "type key<fry>: give real num"),
  ):
    with pytest.raises(ValueError, match=rf"^preprocess\(images\) .*{message}"):
      door(model, variables, images(), *labels, T4, preprocess=found)


@pytest.mark.parametrize(
  "labels, message",
  [
    (np.ma.masked_array(LABELS, LABELS > 1), "some entries are masked: fill them, .filled"),
    ([0, 1, np.ma.masked, 0, 1, 2, 0, 1], "some entries are masked"),
    (LABELS + 0.5, r"of whole numbers, labels.astype\(int\)"),
    (LABELS > 0, r"of whole numbers, labels.astype\(int\)"),
    (LABELS.astype(complex), "type complex128: give class numbers, integers"),
    (LABELS.astype(str), r"of names, np.unique\(labels, return_inverse=True\)\[1\]"),
    (LABELS.astype("M8[s]"), r"type datetime64\[s\]: give class numbers, integers"),
    (LABELS.astype("m8[s]"), r"type timedelta64\[s\]: give class numbers, integers"),
    (LABELS[:, None], r"of one column labels\[:, 0\]"),
    (np.eye(3, dtype=int)[LABELS], r"of one-hot labels, labels.argmax\(-1\)"),
    (2, r"have shape \(\) and type int64: give class numbers"),
    ([[0, 1], [2]], "of type list: give an array of numbers; NumPy says: "),
    ({0, 1}, "of type set: give an array of numbers"),
    ([2**70] * 8, "type object: give class numbers, integers"),
    (KEYS, "of type PRNGKeyArray: give an array of numbers"),
    (np.where(LABELS > 1, 2**40, LABELS), "run from 0 to 1099511627776, the network has classes"),
    (LABELS.astype(np.uint64) + 2**63, "run from 9223372036854775808 to 9223372036854775810"),
    (LABELS - 1, "run from -1 to 1, the network has classes 0 to 2"),
  ],
)
def test_labels_that_are_none_are_told(case, labels, message):
  model, variables, _ = case
  for door in (tcljax.evaluate, tcljax.tune):
    with pytest.raises(ValueError, match=rf"^labels\b.*{message}") as told:
      door(model, variables, images(), labels, T4)
    assert "\n" not in str(told.value)


def test_labels_of_any_order_of_bytes_or_without_a_masked_entry_are_taken():
  for labels in (LABELS.astype(">i4"), np.ma.masked_array(LABELS, False), jnp.asarray(LABELS)):
    found = as_labels(labels)
    assert type(found) is np.ndarray and found.dtype.isnative
    np.testing.assert_array_equal(found, LABELS)


KEYED = {
  "simulate": lambda m, v, n, keys: tcljax.simulate(m, v, images(), n.spiking, keys=keys),
  "call": lambda m, v, n, keys: n(images(), keys=keys),
  "answer_early": lambda m, v, n, keys: tcljax.answer_early(n, images(), 0.1, keys=keys),
}


@pytest.mark.parametrize("spiking", [T4, POISSON], ids=["constant", "poisson"])
@pytest.mark.parametrize("door", KEYED)
def test_keys_that_are_none_are_told_whatever_the_encoding(case, door, spiking):
  model, variables, _ = case
  network = tcljax.SpikingNetwork(case[2].graph, case[2].variables, (4,), spiking)
  rows = jax.random.key_data(KEYS)
  for keys, message in (
    (5, "of type int are no random keys: give one for each input, such as jax.random.split"),
    ("a", "of type str are no random keys"),
    (list(KEYS), "of type list are no random keys"),
    (np.ones(8), r"of shape \(8,\) and type float64 are no random keys"),
    (np.arange(8), r"of shape \(8,\) and type int64 are no random keys"),
    (rows.astype(np.int32), r"of shape \(8, 2\) and type int32 are no random keys"),
    (np.asarray(rows, np.uint64), r"of shape \(8, 2\) and type uint64 are no random keys"),
    (rows[:, :1], r"of shape \(8, 1\) and type uint32 are no random keys"),
    (rows[0], r"of shape \(2,\) and type uint32 are no random keys"),
    (np.ma.masked_array(np.asarray(rows), True), "some entries are masked"),
    (KEYS[0], r"has shape \(\) and must be \[B\], one random key for each example"),
    (KEYS[:3], r"has shape \(3,\) and must have that of the batch of x, \(8,\)"),
    (KEYS.reshape(8, 1), r"has shape \(8, 1\) and must have that of the batch of x, \(8,\)"),
    (rows[:7], r"has shape \(7, 2\) and must have that of the batch of x, \(8, 2\)"),
  ):
    with pytest.raises(ValueError, match=rf"^keys\b.*{message}") as told:
      KEYED[door](model, variables, network, keys)
    assert "\n" not in str(told.value)


def test_keys_of_a_margin_are_keys(case):
  network = tcljax.SpikingNetwork(case[2].graph, case[2].variables, (4,), POISSON)
  for keys in (5, np.ones(8), LABELS, jax.random.key_data(KEYS)[:, :1]):
    with pytest.raises(ValueError, match="batches holds a tuple of 2: give inputs alone, without"):
      tcljax.choose_margin(network, [(images(), keys)])
  with pytest.raises(ValueError, match=r"keys has shape \(7,\) and must have that of the batch"):
    tcljax.choose_margin(network, [(images(), KEYS[:7])])
  margins = [
    tcljax.choose_margin(network, [(images(), keys)]) for keys in (KEYS, jax.random.key_data(KEYS))
  ]
  assert margins[0] == margins[1]


@pytest.mark.parametrize(
  "seed, message",
  [
    (2**70, "=1180591620717411303424 must be below 4294967296"),
    (2**32, "=4294967296 must be below 4294967296"),
    (-1, "=-1 must be at least 0"),
    (1.5, "=1.5 must be a whole number, at least 0"),
    ("a", "='a' must be a whole number, at least 0"),
    (None, "=None must be a whole number, at least 0"),
    (np.float32(2), "=.*2.* must be a whole number, at least 0"),
    ([1], r"=\[1\] must be a whole number, at least 0"),
    (np.ones((2, 2), int), r"=array\(\[\[1, 1\], \[1, 1\]\]\) must be a whole number"),
    (jax.random.key(0), "=.*key<fry>.* must be a whole number, at least 0"),
  ],
)
def test_seeds_that_are_none_are_told_by_one_rule(case, seed, message):
  model, variables, _ = case
  for door in (
    lambda: tcljax.evaluate(model, variables, images(), LABELS, POISSON, seed=seed),
    lambda: tcljax.tune(model, variables, images(), LABELS, T4, seed=seed),
    lambda: RunConfig(seed=seed),
  ):
    with pytest.raises(ValueError, match=f"^seed{message}") as told:
      door()
    assert "\n" not in str(told.value)


def test_a_seed_of_numpy_or_jax_is_the_seed_of_python(case):
  model, variables, _ = case

  def tuned(seed):
    return tcljax.thresholds(
      tcljax.tune(model, variables, images(), LABELS, POISSON, steps=1, batch_size=8, seed=seed)
    )["a"]

  def evaluated(seed):
    return tcljax.evaluate(model, variables, images(), LABELS, POISSON, seed=seed).spikes_per_neuron

  for found in (tuned, evaluated):
    for seed, same in ((3, jnp.int32(3)), (2**32 - 1, np.int64(2**32 - 1))):
      np.testing.assert_array_equal(found(seed), found(same))


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


@pytest.mark.parametrize(
  "door", ["simulate", "calibrate", "diagnose", "evaluate", "tune", "convert"]
)
@pytest.mark.parametrize("path", ["params/Dense_0/kernel", "clipping/a/raw_threshold"])
def test_weights_and_thresholds_that_are_none_are_told_by_their_path(case, path, door):
  model, variables, network = case
  call = DOORS.get(door, lambda m, v, n, x: tcljax.convert(m, v, (4,)))
  replaced = door == "calibrate" and path.startswith("clipping")
  for x, message in NO_IMAGES.values():
    if isinstance(x, (np.ndarray, jax.Array)):
      held = traverse_util.flatten_dict(variables, sep="/") | {path: x}
      told = pytest.raises(ValueError, match=rf"^{path}\b.*({message})")
      with contextlib.nullcontext() if replaced else told:
        call(model, traverse_util.unflatten_dict(held, sep="/"), network, images())


def test_a_reference_of_complex_weights_is_told(case):
  model, variables, _ = case
  reference = model, jax.tree.map(lambda a: a + 1j, variables)
  with pytest.raises(
    ValueError, match=r"^clipping/a/\w+ of shape \(\) and type complex64: give real"
  ):
    tcljax.evaluate(model, variables, images(), LABELS, T4, reference=reference)
