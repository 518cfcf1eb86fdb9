"""Neurons with phases: heights that halve, what a period says in binary, and what stays behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.maths import clipping, neurons, spikes
from tcljax.maths.spikes import Neuron

PERIODS = pytest.mark.parametrize("phase", [2, 3, 4, 8])


def of_grid(phase):
  """A neuron and V_th in whole numbers: its smallest spike has the height `phase`."""
  neuron, threshold = Neuron(phase=phase), np.float32(2**phase - 1)
  smallest = threshold * np.float32(neuron.grain)
  assert smallest == phase
  return neuron, threshold, phase


def heights_sent(fired, neuron, smallest, step=0):
  """By step what was sent, in the units of currents."""
  return np.asarray(spikes.worth_of(fired, neuron, step)) * smallest


@PERIODS
def test_heights_halve_and_are_the_threshold_on_the_mean(phase):
  heights = np.array(Neuron(phase=phase).heights)
  np.testing.assert_allclose(heights[1:] / heights[:-1], 0.5)
  np.testing.assert_allclose(heights.mean(), 1)
  assert Neuron().heights == (1.0,) and Neuron(burst=3).most == 3 and Neuron(phase=4).most == 3.75


@pytest.mark.bits
@PERIODS
@pytest.mark.parametrize("step", ["traced", 0])
def test_a_period_says_what_was_there_before_it_in_binary(phase, step):
  """At the very multiples of the smallest height, a little below them, and above all that fits."""
  neuron, threshold, smallest = of_grid(phase)
  most = 2**phase - 1
  for below in (0, 1):
    number = np.arange(most + 5)
    start = jnp.asarray(number * smallest - below, jnp.float32)
    run = jax.jit(lambda start, step: neurons.integrate(
      jnp.zeros((phase, len(start))), start, threshold, neuron, step=step
    ))  # fmt: skip
    found, left = run(start, 0) if step else neurons.integrate(
      jnp.zeros((phase, len(start))), start, threshold, neuron
    )  # fmt: skip
    said = np.clip(number - below, 0, most)
    bits = (said[None] >> np.arange(phase)[::-1, None]) & 1
    np.testing.assert_array_equal(found, bits)
    np.testing.assert_array_equal(left, start - said * smallest)


@pytest.mark.bits
@PERIODS
def test_what_is_sent_is_what_was_received_less_what_is_left(rng, phase):
  neuron, threshold, smallest = of_grid(phase)
  currents = jnp.asarray(rng.integers(-(2**phase), 2 ** (phase + 1), (3 * phase, 200)), jnp.float32)
  start = jnp.asarray(rng.integers(-3, 9, 200), jnp.float32)
  found, left = neurons.integrate(currents, start, threshold, neuron)
  sent = heights_sent(found, neuron, smallest).sum(axis=0)
  np.testing.assert_array_equal(sent, start - left + currents.sum(axis=0))
  assert set(np.unique(found)) == {0, 1}


@pytest.mark.bits
@PERIODS
@pytest.mark.parametrize("numerator", [0, 1, 2], ids=["v=0", "v=1/2", "v=1"])
def test_the_closed_form_where_currents_come_before_periods(rng, phase, numerator):
  """In integers; the initial potential is so many halves of the smallest height."""
  neuron, threshold, smallest = of_grid(phase)
  most = 2**phase - 1
  received = 2 * rng.integers(-most, 2 * smallest * most, 2_000)  # twice that of a period
  currents = np.zeros((4 * phase, 2_000), np.float32)
  currents[::phase] = received / 2
  start = numerator * smallest / 2
  found, _ = neurons.integrate(currents, np.float32(start), threshold, neuron)
  for periods in range(1, 5):
    count = spikes.worth_of(found[: periods * phase], neuron).sum(axis=0)
    closed = (periods * received + numerator * smallest) // (2 * smallest)
    closed = np.clip(closed, 0, periods * most)
    np.testing.assert_array_equal(count, closed)
    assert clipping.levels_of(periods * phase, phase=phase) == periods * most
    rate = clipping.quantized_clip(
      jnp.asarray(received / 2 / phase + 1e-4, jnp.float32),
      threshold,
      periods * phase,
      start / threshold,
      phase=phase,
    )
    np.testing.assert_allclose(rate, closed * smallest / (periods * phase), rtol=1e-5, atol=1e-5)
  assert 0.1 < (closed == 4 * most).mean() < 0.9


@PERIODS
@pytest.mark.parametrize("v_init", [0.0, 0.5, 1.0])
def test_a_constant_current_leaves_less_than_that_of_a_period(rng, phase, v_init):
  """After each period from 0 to the smallest height and the currents of all its steps but one."""
  neuron, threshold, smallest = of_grid(phase)
  current = jnp.asarray(rng.uniform(0, threshold, 2_000), jnp.float32)
  found, v = [], v_init * threshold
  for period in range(6):
    currents = jnp.broadcast_to(current, (phase, 2_000))
    fired, v = neurons.integrate(currents, v, threshold, neuron, step=period * phase)
    found.append(heights_sent(fired, neuron, smallest))
    assert (v > -1e-3).all() and (v < smallest + (phase - 1) * current + 1e-3).all()
  assert np.concatenate(found).max() == smallest * 2 ** (phase - 1)  # the highest come, in time


def test_a_neuron_that_sends_all_it_can_sends_its_threshold():
  found, _ = neurons.integrate_and_fire(jnp.full((6, 1), 10.0), 2.0, 0.0, Neuron(phase=3))
  assert found.sum() == 6
  assert heights_sent(found, Neuron(phase=3), 2.0 * 3 / 7).sum() == pytest.approx(6 * 2.0)


@PERIODS
def test_matches_a_loop_in_numpy(rng, phase):
  neuron = Neuron(phase=phase)
  currents = rng.normal(0.3, 1.5, (3 * phase - 1, 4, 6)).astype(np.float32)
  threshold = rng.uniform(0.5, 2, (1, 6)).astype(np.float32)
  v, expected = np.zeros((4, 6), np.float32), []
  for step, current in enumerate(currents):
    height = threshold * np.float32(phase * 2 ** (phase - 1 - step % phase) / (2**phase - 1))
    v = v + current
    expected.append(v >= height)
    v = (v - expected[-1] * height).astype(np.float32)
  found, final = neurons.integrate_and_fire(currents, threshold, 0.0, neuron)
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_allclose(final, v, rtol=1e-5, atol=1e-5)


def test_running_in_two_parts_equals_running_at_once(rng):
  neuron = Neuron(phase=4)
  currents = jnp.asarray(rng.normal(0.2, 1, (12, 50)), jnp.float32)
  whole, v_whole = neurons.integrate_and_fire(currents, 1.0, 0.5, neuron)
  first, v = neurons.integrate_and_fire(currents[:5], 1.0, 0.5, neuron)
  second, v = neurons.integrate(currents[5:], v, 1.0, neuron, step=5)
  np.testing.assert_array_equal(whole, jnp.concatenate([first, second]))
  np.testing.assert_array_equal(v_whole, v)


def test_the_gradient_is_in_units_of_the_threshold_of_the_step():
  # V_th = 3 makes the heights 4 and 2. v = 3: u = 3/4 - 1 and 3/2 - 1, so that h is 3/4 and 1/2;
  # d/dv = h / height, and to V_th, of which the heights are 4/3 and 2/3: -h v / height^2 * (4/3)
  count = lambda v, tau, step: neurons.if_step(v, jnp.zeros(()), tau, Neuron(phase=2), step=step)[1]
  of = jax.grad(count, argnums=(0, 1))
  found = [of(jnp.float32(3.0), jnp.float32(3.0), step) for step in (0, 1, 2)]
  first = (3 / 16, -3 / 4 * 3 / 16 * 4 / 3)
  np.testing.assert_allclose(found, [first, (1 / 4, -1 / 2 * 3 / 4 * 2 / 3), first], rtol=1e-6)


@pytest.mark.parametrize("surrogate", ["triangle", "arctan"])
def test_gradient_is_that_of_the_steps_one_after_another(rng, surrogate):
  """The gradient of `integrate` is written by hand; that of a loop over `if_step` is not."""
  neuron = Neuron(surrogate=surrogate, width=0.7, phase=3)
  currents = jnp.asarray(rng.normal(0.3, 1.2, (8, 5, 4)), jnp.float32)
  start, threshold = jnp.full((5, 1), 0.3), jnp.asarray(rng.uniform(0.5, 1.5, 4), jnp.float32)
  on_spikes, on_last = (
    jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((8, 5, 4), (5, 4))
  )

  def loop(currents, v, threshold):
    v, found = jnp.broadcast_to(v, currents.shape[1:]), []
    for step, current in enumerate(currents, 2):
      v, fired = neurons.if_step(v, current, threshold[None], neuron, step=step)
      found.append(fired)
    return jnp.stack(found), v

  def scan(currents, v, threshold):
    return neurons.integrate(currents, v, threshold[None], neuron, step=2)

  def gradient(run):
    def loss(*inputs):
      found, v = run(*inputs)
      return (found * on_spikes).sum() + (v * on_last).sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(currents, start, threshold)

  for mine, expected in zip(gradient(scan), gradient(loop), strict=True):
    np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0.1


def test_neurons_without_phases_look_at_no_step():
  """So nothing is computed for them."""
  run = lambda x, step: neurons.integrate(x, 0.0, 1.0, Neuron(burst=2), step=step)
  program = str(jax.make_jaxpr(run)(jnp.ones((4, 2)), 3))
  assert program == str(jax.make_jaxpr(lambda x, _: run(x, 0))(jnp.ones((4, 2)), 3))


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"phase": 0}, "phase=0 must be a whole number of steps from 1, all alike, to 8"),
    ({"phase": 9}, "phase=9 must be a whole number"),
    ({"phase": 4.0}, r"phase=4\.0 must be a whole number"),
    ({"phase": True}, "phase=True must be a whole number"),
    ({"phase": 4, "reset": "hard"}, "reset='hard' forgets .*, with phase=4: take reset='soft'"),
    ({"phase": 4, "burst": 2}, "phase=4 goes with one spike .* burst=2 and signed=False are not"),
    ({"phase": 4, "signed": True}, "phase=4 goes with one spike .* signed=True are not: take"),
  ],
)
def test_neurons_that_cannot_be_are_refused_in_one_line(fields, message):
  with pytest.raises(ValueError, match=message) as told:
    Neuron(**fields)
  assert "\n" not in str(told.value)


@pytest.mark.parametrize("step", [-1, 0.5])
def test_steps_are_counted_from_0(step):
  with pytest.raises(ValueError, match=f"step={step} must be"):
    neurons.integrate(jnp.ones((4, 2)), 0.0, 1.0, Neuron(phase=2), step=step)


def test_a_closed_form_is_of_whole_periods():
  with pytest.raises(ValueError, match="time_steps=6 is no multiple of phase=4: choose one"):
    clipping.quantized_clip(jnp.ones(3), 1.0, 6, phase=4)


def test_they_have_a_name_and_are_not_binary():
  assert Neuron(phase=4).alphabet == "phase-4" and not Neuron(phase=4).is_binary
  assert Neuron(phase=np.int64(1)) == Neuron() and type(Neuron(phase=np.int64(2)).phase) is int
