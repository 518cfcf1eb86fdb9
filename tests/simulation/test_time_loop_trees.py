"""Networks of several inputs and outputs are simulated as their twins of one array."""

import functools

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
from tcljax.maths.encoding import inputs_of_steps


def concatenated(parts):
  return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("encoding", ["constant", "frames"])
def test_several_arrays_are_simulated_as_one(encoding):
  spiking = tcljax.SpikingConfig(time_steps=4, chunk=2, delay=1, encoding=encoding)
  x = np.stack([whole() * t for t in (0.5, 1, 2, 0.5)]) if encoding == "frames" else whole()
  variables = joined()
  run = lambda parted: jax.jit(
    lambda x: tcljax.simulate(
      Joined(parted), variables, x, spiking, observe=lambda chunk: chunk.logits, rates=True
    )
  )
  one, several = run(False)(x), run(True)(halves(x))
  same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
  same(concatenated(several.logits), one.logits)
  same(concatenated(several.observed), one.observed)
  jax.tree.map(same, several.rates, one.rates)


def test_of_poisson_input_each_array_has_spikes_of_its_own():
  x, keys = whole(), jax.random.split(jax.random.key(0), 16)
  take = lambda x: inputs_of_steps(x, keys, 1, 3, "poisson")
  one, (same, other) = take(x), take((x, x))
  np.testing.assert_array_equal(same, one)
  assert 0.2 < np.mean(np.asarray(other) != np.asarray(one)) < 0.8
  many = np.asarray(inputs_of_steps((x, x), keys, 0, 500, "poisson")[1]).reshape(500, 16, 6)
  np.testing.assert_allclose(many.mean(axis=0), x, atol=0.4)


def test_an_input_that_is_not_finite_spoils_all_answers_of_its_example_alone():
  x = inputs()
  x["vector"][3, 1] = np.nan
  logits, _ = simulated(made()[1], x)
  for name in KINDS:
    broken = np.isnan(logits[name]).all(axis=-1)
    np.testing.assert_array_equal(np.flatnonzero(broken), [3])
    assert np.isfinite(np.delete(logits[name], 3, axis=0)).all()


def test_with_steps_a_traced_function_of_a_dictionary_is_reached():
  model, variables = made()
  found = tcljax.simulate(model, variables, inputs(), tcljax.SpikingConfig(time_steps=512)).logits
  clipped = model.clone(act=tcljax.TCL).apply(variables, inputs())
  ann = function(inputs())
  for name in KINDS:
    error = np.abs(found[name] - clipped[name]).max() / np.abs(ann[name]).max()
    assert found[name].shape == ann[name].shape and error < 0.02


IMAGE, VECTOR = inputs()["image"], inputs()["vector"]


@pytest.mark.parametrize(
  "x, message",
  [
    ({"image": IMAGE}, "x has no 'vector': give a dictionary of 'image', 'vector'"),
    ({**inputs(), "more": VECTOR}, r"x\['more'\] is not taken: give a dictionary of 'image', 'vec"),
    ((IMAGE, VECTOR), "x is a tuple of 2: give a dictionary of 'image', 'vector'"),
    (IMAGE, "x is one array: give a dictionary of 'image', 'vector'"),
    ({}, "is a dict without arrays: give at least one"),
    (
      {"image": IMAGE, "vector": VECTOR[:5]},
      r"\['vector'\] has 5 rows and \w+\['image'\] 16: give",
    ),
    ({"image": IMAGE, "vector": VECTOR[:, :2]}, r"'vector': \(\d+, 2\)}"),
    (
      {"image": IMAGE, "vector": VECTOR.astype(str)},
      r"\['vector'\] of shape .*: give real numbers",
    ),
    ({"image": IMAGE[:0], "vector": VECTOR[:0]}, "empty batch|no images"),
  ],
)
def test_what_does_not_fit_is_told_by_its_leaf(x, message):
  model, variables = made()
  for door in (
    lambda: tcljax.simulate(model, variables, x, T4),
    lambda: tcljax.calibrate(model, variables, [x], T4),
    lambda: tcljax.tune(model, variables, x, None, T4, steps=1, batch_size=8, outputs=KINDS),
    lambda: tcljax.evaluate(model, variables, x, None, T4, outputs=KINDS),
    lambda: tcljax.diagnose(model, variables, x, T4),
  ):
    with pytest.raises(ValueError, match=message) as told:
      door()
    assert "\n" not in str(told.value)
