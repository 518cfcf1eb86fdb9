"""Observers: what they may return, and what is told of anything else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import Dense, calibrated, inputs

import tcljax

MODEL = Dense(3)


@pytest.fixture(scope="module")
def simulate():
  return functools.partial(tcljax.simulate, MODEL, calibrated(MODEL), inputs())


@pytest.mark.parametrize("chunk", [1, 2, 4])  # T is 4: a single chunk is told like several
@pytest.mark.parametrize(
  "observe, message",
  [
    (lambda chunk: chunk.logits.mean(), r"a value of shape \(\) of {} steps: return arrays \[K"),
    (
      lambda chunk: {"a": [chunk.logits, 1.0]},
      r"a value of shape \(\) at \['a'\]\[1\] of {} steps",
    ),
    (lambda chunk: chunk.logits.swapaxes(0, 1), r"a value of shape \(32, {}, 3\) of"),
    (lambda chunk: chunk.logits[0], r"a value of shape \(32, 3\) of"),
    (lambda chunk: "spikes", "a value of type str of {} steps"),
    (lambda chunk: (chunk.logits, object()), r"a value of type object at \[1\]"),
    (lambda chunk: np.array(["a"] * len(chunk.logits)), "a value of type ndarray"),
  ],
)
def test_what_is_no_array_of_the_steps_is_told(simulate, chunk, observe, message):
  with pytest.raises(ValueError, match=f"^observe returns {message.format(chunk)}"):
    simulate(tcljax.SpikingConfig(4, chunk=chunk), observe=observe)


@pytest.mark.parametrize(
  "observe, message",
  [
    (None, "observe=None must be a function of a tcljax.Chunk"),
    ("spikes", "observe='spikes' must be"),
    (lambda: 1, "observe must be a function of a tcljax.Chunk, and cannot be called so: too many"),
    (lambda chunk, step: chunk, "cannot be called so: missing a required argument: 'step'"),
  ],
)
def test_what_cannot_be_called_is_told_before_anything_runs(simulate, observe, message):
  with pytest.raises(ValueError, match=message):
    simulate(tcljax.SpikingConfig(4), observe=observe)


def test_arrays_of_the_steps_in_any_tree_are_kept(simulate):
  found = simulate(
    tcljax.SpikingConfig(4, chunk=2),
    observe=lambda chunk: {"logits": chunk.logits, "more": [chunk.logits[..., 0], None], "no": ()},
  ).observed
  assert found["logits"].shape == (4, 32, 3) and found["more"][0].shape == (4, 32)
  assert found["more"][1] is None and found["no"] == ()
  every = simulate(tcljax.SpikingConfig(4), observe=lambda chunk: jnp.zeros(len(chunk.logits)))
  assert every.observed.shape == (4,)
  whole = simulate(tcljax.SpikingConfig(4, chunk=2), observe=lambda chunk: chunk).observed
  assert whole.spikes["act1"]["count"].shape == (4, 32)
  assert simulate(tcljax.SpikingConfig(4), observe=lambda chunk: None).observed is None


def test_gradients_are_of_reverse_mode_alone(simulate):
  """As `simulate` and docs/your-own-network.md say."""
  run = lambda x: tcljax.simulate(MODEL, calibrated(MODEL), x, tcljax.SpikingConfig(4)).logits
  x = jnp.asarray(inputs(2))
  assert jax.jacrev(run)(x).shape == (2, 3, 2, 6)
  with pytest.raises(TypeError, match="can't apply forward-mode autodiff"):
    jax.jvp(run, (x,), (x,))
  with pytest.raises(TypeError, match="can't apply forward-mode autodiff"):
    jax.jacfwd(lambda v: tcljax.integrate(x, v, 1.0)[1])(x[0])
  assert (
    "Forward mode" in tcljax.simulate.__doc__ and "reverse mode only" in tcljax.integrate.__doc__
  )
