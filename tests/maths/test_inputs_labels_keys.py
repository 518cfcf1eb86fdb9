"""Class numbers, random keys and seeds that are none, told in one line at each public door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from doors import KEYS, LABELS, POISSON, T4, images, made

import tcljax
from tcljax.maths.inputs import as_labels
from tcljax.runs.config import RunConfig


@pytest.fixture(scope="module")
def case():
  return made()


@pytest.mark.parametrize(
  "labels, message",
  [
    (np.ma.masked_array(LABELS, LABELS > 1), "some entries are masked: fill them, .filled"),
    ([0, 1, np.ma.masked, 0, 1, 2, 0, 1], "some entries are masked"),
    (np.eye(3), r"labels.astype\(int\); of one-hot labels, labels.argmax"),
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
    found = as_labels("labels", labels)
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
