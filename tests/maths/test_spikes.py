"""Neurons that send bursts, or take back what they have sent: by hand, and by what they come to."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.maths import clipping, neurons
from tcljax.maths.spikes import Neuron

BURST, SIGNED, BOTH = Neuron(burst=4), Neuron(signed=True), Neuron(burst=3, signed=True)
KINDS = pytest.mark.parametrize("neuron", [BURST, SIGNED, BOTH], ids=lambda n: n.alphabet)


def column(values):
  return jnp.array(values)[:, None]


def run_by_hand(neuron, currents, v=0.0):
  spikes, v = neurons.integrate(column(currents), v, 1.0, neuron)
  return spikes[:, 0].tolist(), v.tolist()


def test_a_burst_sends_what_fits_into_the_potential_and_keeps_the_rest():
  # 2.5 is two spikes and a half; 0.5 + 5.5 = 6 is four, the most, and 2 wait; they come next
  assert run_by_hand(BURST, [2.5, 5.5, 0.0, -1.0]) == ([2, 4, 2, 0], [-1.0])


def test_a_signed_neuron_takes_back_what_it_has_sent_and_no_more():
  # -1 finds nothing to take back; 2.5 - 1 is a spike and a half; -1 makes -0.5, which takes it
  # back and leaves 0.5; -3 makes -2.5, and nothing is left to be taken back
  assert run_by_hand(SIGNED, [-1.0, 2.5, -1.0, -3.0, 0.0]) == ([0, 1, -1, 0, 0], [-2.5])


def test_it_is_zero_and_not_below_it_that_takes_nothing_back():
  assert run_by_hand(SIGNED, [1.0, 0.0, -0.25]) == ([1, 0, -1], [0.75])


def test_a_signed_burst_takes_back_several_at_once():
  # 3 are sent; 0.5 - 2 = -1.5 needs two to be at zero or above; -9.5 then takes back the last one
  assert run_by_hand(BOTH, [3.5, -2.0, -10.0]) == ([3, -2, -1], [-8.5])


def test_what_was_sent_before_can_be_taken_back():
  take_back = lambda sent: neurons.integrate(column([-0.5]), 0.0, 1.0, SIGNED, sent)[0].tolist()
  assert take_back(0.0) == [[0]] and take_back(1.0) == [[-1]]
  one = neurons.if_step(jnp.zeros(2), jnp.full(2, -0.5), 1.0, SIGNED, jnp.array([0.0, 3.0]))
  assert one[1].tolist() == [0, -1] and one[0].tolist() == [-0.5, 0.5]


@pytest.mark.bits
@pytest.mark.parametrize("neuron", [SIGNED, BURST, BOTH], ids=lambda n: n.alphabet)
@pytest.mark.parametrize("numerator", [0, 1], ids=["v_init=0", "v_init=1/2"])
def test_counts_at_a_constant_current_equal_the_closed_form(rng, neuron, numerator):
  """In integers, on a grid that is exact; negative spikes are never needed there."""
  grid, count = 256, 5_000
  run = jax.jit(
    lambda x, height: neurons.integrate_and_fire(
      jnp.broadcast_to(x, (32, *x.shape)), height, numerator / 2, neuron
    )[0].cumsum(axis=0)
  )
  x = rng.integers(-grid, 3 * grid, count)
  height = rng.integers(1, grid, count)
  counts = np.asarray(run(x.astype(np.float32) / grid, height.astype(np.float32) / grid))
  for steps in range(1, 33):
    closed = (2 * steps * x + numerator * height) // (2 * height)
    closed = np.clip(closed, 0, steps * neuron.burst)
    np.testing.assert_array_equal(counts[steps - 1], closed)
  assert (counts[-1] == 32 * neuron.burst).mean() > 0.1


def test_the_closed_form_is_the_quantized_clip(rng):
  x = jnp.asarray(rng.uniform(-1, 3, 500), jnp.float32)
  spikes, _ = neurons.integrate_and_fire(jnp.broadcast_to(x, (6, 500)), 2.0 / 4, 0.5, BURST)
  rate = 0.5 * spikes.sum(axis=0) / 6
  np.testing.assert_allclose(clipping.quantized_clip(x, 2.0, 6, 0.5, burst=4), rate, rtol=1e-6)
  assert rate.max() == 2.0 and len(np.unique(rate)) == 25  # 0 to 24 spikes


@KINDS
def test_matches_a_loop_in_numpy(rng, neuron):
  currents = rng.normal(0.3, 1.5, (15, 4, 6)).astype(np.float32)
  threshold = rng.uniform(0.5, 2, (1, 6)).astype(np.float32)
  v, sent, expected = np.zeros((4, 6), np.float32), np.zeros((4, 6)), []
  for current in currents:
    v = v + current
    fired = np.clip(np.floor(v / threshold), 0, neuron.burst)
    if neuron.signed:
      fired -= np.minimum(np.clip(np.ceil(-v / threshold), 0, neuron.burst), sent)
    v, sent = (v - fired * threshold).astype(np.float32), sent + fired
    assert sent.min() >= 0
    expected.append(fired)
  spikes, final = neurons.integrate_and_fire(currents, threshold, 0.0, neuron)
  np.testing.assert_array_equal(spikes, expected)
  np.testing.assert_allclose(final, v, rtol=1e-5, atol=1e-5)
  assert np.max(expected) == neuron.burst or neuron.burst == 4
  assert (np.min(expected) < 0) == neuron.signed


@KINDS
def test_running_in_two_parts_equals_running_at_once(rng, neuron):
  currents = jnp.asarray(rng.normal(0.2, 1, (12, 50)), jnp.float32)
  whole, v_whole = neurons.integrate_and_fire(currents, 1.0, 0.5, neuron)
  first, v = neurons.integrate_and_fire(currents[:5], 1.0, 0.5, neuron)
  second, v = neurons.integrate(currents[5:], v, 1.0, neuron, first.sum(axis=0))
  np.testing.assert_array_equal(whole, jnp.concatenate([first, second]))
  np.testing.assert_array_equal(v_whole, v)


def test_the_gradient_of_a_burst_by_hand():
  # triangle of width 1, threshold 2, v = 3: u = 0.5 from the first spike, -0.5 from the second,
  # h = 0.5 for both, and nothing for the third: d/dv = (0.5 + 0.5) / 2, d/dtau = -1 * 3 / 4
  count = lambda v, tau: neurons.if_step(v, jnp.zeros(()), tau, BURST)[1]
  to_v, to_tau = jax.grad(count, argnums=(0, 1))(jnp.float32(3.0), jnp.float32(2.0))
  np.testing.assert_allclose((to_v, to_tau), (0.5, -0.75), rtol=1e-6)


@pytest.mark.parametrize("sent, slope", [(0.0, 0.0), (1.0, 0.75)])
def test_the_gradient_of_a_negative_spike_by_hand(sent, slope):
  # v = -0.5 is a quarter of the threshold below zero: h = 0.75 where there is one to take back
  count = lambda v: neurons.if_step(v, jnp.zeros(()), jnp.float32(2.0), SIGNED, sent)[1]
  np.testing.assert_allclose(jax.grad(count)(jnp.float32(-0.5)), slope / 2, rtol=1e-6)


@KINDS
@pytest.mark.parametrize("surrogate", ["triangle", "arctan"])
def test_gradient_is_that_of_the_steps_one_after_another(rng, neuron, surrogate):
  """The gradient of `integrate` is written by hand; that of a loop over `if_step` is not."""
  neuron = Neuron("soft", surrogate, 0.7, neuron.burst, neuron.signed)
  currents = jnp.asarray(rng.normal(0.3, 1.2, (9, 5, 4)), jnp.float32)
  start, threshold = jnp.full((5, 1), 0.3), jnp.asarray(rng.uniform(0.5, 1.5, 4), jnp.float32)
  sent = jnp.asarray(rng.integers(0, 2, (5, 4)), jnp.float32)
  on_spikes, on_last = (
    jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((9, 5, 4), (5, 4))
  )

  def loop(currents, v, threshold, sent):
    v, spikes = jnp.broadcast_to(v, currents.shape[1:]), []
    for current in currents:
      v, fired = neurons.if_step(v, current, threshold[None], neuron, sent)
      sent = sent + fired
      spikes.append(fired)
    return jnp.stack(spikes), v

  def scan(currents, v, threshold, sent):
    return neurons.integrate(currents, v, threshold[None], neuron, sent)

  def gradient(run):
    def loss(*inputs):
      spikes, v = run(*inputs)
      return (spikes * on_spikes).sum() + (v * on_last).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(currents, start, threshold, sent)

  *found, to_sent = gradient(scan)
  for mine, expected in zip(found, gradient(loop)[:3], strict=True):
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0.1
  assert not to_sent.any()


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"burst": 0}, "burst=0 must be a whole number of spikes from 1, a binary neuron, to 16"),
    ({"burst": 17}, "burst=17 must be a whole number"),
    ({"burst": 2.0}, r"burst=2\.0 must be a whole number"),
    ({"burst": True}, "burst=True must be a whole number"),
    ({"signed": 1}, "signed=1 must be True or False"),
    ({"signed": "no"}, "signed='no' must be True or False"),
    ({"reset": "hard", "burst": 4}, "reset='hard' forgets .* burst=4 and signed=False: take"),
    ({"reset": "hard", "signed": True}, "reset='hard' forgets .* signed=True: take reset='soft'"),
  ],
)
def test_neurons_that_cannot_be_are_refused_in_one_line(fields, message):
  with pytest.raises(ValueError, match=message) as told:
    Neuron(**fields)
  assert "\n" not in str(told.value)


def test_numbers_of_numpy_become_those_of_python():
  """Which JSON can hold, as they are written with a network."""
  given = Neuron(width=np.float32(0.5), burst=np.int64(4), signed=np.bool_(True))
  fields = {"reset": "soft", "surrogate": "triangle", "width": 0.5, "burst": 4, "signed": True}
  assert json.dumps(dataclasses.asdict(given)) == json.dumps({**fields, "phase": 1})


def test_sent_has_the_shape_of_the_neurons():
  with pytest.raises(ValueError, match=r"sent has shape \(2,\), which does not broadcast to"):
    neurons.integrate(jnp.ones((4, 2, 3)), 0.0, 1.0, SIGNED, jnp.ones(2))


def test_what_neurons_can_send_has_a_name():
  names = [Neuron(burst=b, signed=s).alphabet for b, s in ((1, False), (4, False), (1, True))]
  assert [*names, Neuron(burst=4, signed=True).alphabet] == [
    "binary",
    "burst-4",
    "signed",
    "signed burst-4",
  ]
  assert [n.is_binary for n in (Neuron(), BURST, SIGNED, BOTH)] == [True, False, False, False]
  assert type(Neuron(burst=np.int64(4)).burst) is int
