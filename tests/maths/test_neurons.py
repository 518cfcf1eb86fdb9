"""Neurons by hand, against loops and the closed form, and their gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.maths import neurons, surrogates
from tcljax.maths.spikes import RESETS, Neuron


@pytest.fixture(params=[False, True], ids=["plain", "jitted"])
def maybe_jit(request):
  return jax.jit if request.param else lambda f: f


def test_soft_reset_trace_by_hand(maybe_jit):
  # threshold 1, v starts at 0.5:
  #   0.5+0.75=1.25 fires -> 0.25;  0.25+0.25=0.5 no;  0.5+0.5=1.0 fires (>=) -> 0
  currents = jnp.array([[0.75], [0.25], [0.5]])
  spikes, v = maybe_jit(lambda c: neurons.integrate_and_fire(c, 1.0, 0.5))(currents)
  np.testing.assert_array_equal(spikes[:, 0], [1, 0, 1])
  np.testing.assert_array_equal(v, [0.0])


def test_hard_reset_trace_by_hand(maybe_jit):
  # the surplus of the first spike is lost: 1.25 fires -> 0;  0.25 no;  0.75 no
  currents = jnp.array([[0.75], [0.25], [0.5]])
  hard = Neuron(reset="hard")
  spikes, v = maybe_jit(lambda c: neurons.integrate_and_fire(c, 1.0, 0.5, hard))(currents)
  np.testing.assert_array_equal(spikes[:, 0], [1, 0, 0])
  np.testing.assert_array_equal(v, [0.75])


def test_negative_currents_are_kept_and_delay_the_spike():
  # threshold 2, start 0: -1 -> -1;  +2 -> 1;  +1 -> 2 fires -> 0
  spikes, v = neurons.integrate_and_fire(jnp.array([[-1.0], [2.0], [1.0]]), 2.0, 0.0)
  np.testing.assert_array_equal(spikes[:, 0], [0, 0, 1])
  np.testing.assert_array_equal(v, [0.0])


@pytest.mark.bits
@pytest.mark.parametrize("numerator", [0, 1], ids=["v_init=0", "v_init=1/2"])
def test_counts_equal_the_closed_form_for_all_steps_to_64(rng, numerator):
  # Currents and thresholds on a dyadic grid are exact in float32, and the closed form
  # floor(T x / tau + v_init) is computed in integers.
  grid = 256
  run = jax.jit(
    lambda x, tau: neurons.integrate_and_fire(
      jnp.broadcast_to(x, (64, *x.shape)), tau, numerator / 2
    )[0].cumsum(axis=0)
  )
  for steps in range(1, 65):
    x = rng.integers(-grid, 3 * grid, 10_000)
    tau = rng.integers(1, 2 * grid, 10_000)
    counts = np.asarray(run(x.astype(np.float32) / grid, tau.astype(np.float32) / grid))[steps - 1]
    closed = np.clip((2 * steps * x + numerator * tau) // (2 * tau), 0, steps)
    np.testing.assert_array_equal(counts, closed)


def test_integer_currents_keep_the_initial_potential():
  spikes, _ = neurons.integrate_and_fire(np.ones((3, 1), np.int32), 2.0, 0.5)
  np.testing.assert_array_equal(spikes[:, 0], [1, 0, 1])
  spikes, v = neurons.integrate(np.ones((3, 1), np.int32), np.ones(1, np.int32), jnp.float32(1.5))
  np.testing.assert_array_equal(spikes[:, 0], [1, 1, 0])
  np.testing.assert_array_equal(v, [1.0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("way", ["integrate_and_fire", "integrate", "if_step"])
def test_counts_of_few_bits_are_exact(rng, dtype, way):
  """Each current is exact in few bits, and so is the count: sums are in float32."""
  steps, grid = 2000, 128
  x = rng.integers(0, grid, 100)
  currents = jnp.broadcast_to(jnp.asarray(x / grid, dtype), (steps, 100))
  start = jnp.full(100, 0.5, dtype)
  if way == "if_step":
    step = lambda v, current: neurons.if_step(v, current, dtype(1))
    v, spikes = jax.lax.scan(step, start.astype(jnp.float32), currents)
  elif way == "integrate":
    spikes, v = neurons.integrate(currents, start, dtype(1))
  else:
    spikes, v = neurons.integrate_and_fire(currents, dtype(1), dtype(0.5))
  assert spikes.dtype == dtype and v.dtype == jnp.float32
  counts = np.asarray(spikes, np.float64).sum(axis=0)
  np.testing.assert_array_equal(counts, (2 * steps * x + grid) // (2 * grid))


def test_a_spike_of_few_bits_is_compared_in_float32():
  # 1 in bfloat16 is below 1.001, which rounds to 1
  assert neurons.spike(jnp.bfloat16(1), 1.001) == 0
  assert neurons.spike(jnp.bfloat16(1), 1.001).dtype == jnp.bfloat16
  assert neurons.spike(jnp.bfloat16(1), 0.999) == 1


def test_float64_stays_where_it_is_enabled(rng):
  with jax.enable_x64(True):
    spikes, v = neurons.integrate_and_fire(rng.normal(0.3, 1, (6, 4)), 1.0)
    assert spikes.dtype == v.dtype == jnp.float64
    spikes, v = neurons.integrate_and_fire(jnp.ones((6, 4), jnp.float32), np.float32(1.0), 0.5)
    assert spikes.dtype == v.dtype == jnp.float32


def test_soft_reset_conserves_charge(rng):
  # On a dyadic grid the identity spikes * tau = v[0] - v[T] + sum of currents is exact.
  currents = rng.integers(-64, 128, (20, 500)).astype(np.float32) / 64
  spikes, v = neurons.integrate_and_fire(currents, 0.75, 0.5)
  np.testing.assert_array_equal(0.75 * spikes.sum(axis=0), 0.375 - v + currents.sum(axis=0))


def test_matches_a_loop_in_numpy(rng):
  currents = rng.normal(0.3, 1, (15, 4, 6)).astype(np.float32)
  threshold = rng.uniform(0.5, 2, (1, 6)).astype(np.float32)
  for reset in RESETS:
    v = np.broadcast_to(0.25 * threshold, (4, 6)).copy()
    expected = []
    for current in currents:
      v += current
      fired = v >= threshold
      v = np.where(fired, v - threshold if reset == "soft" else 0, v).astype(np.float32)
      expected.append(fired)
    spikes, final = neurons.integrate_and_fire(currents, threshold, 0.25, Neuron(reset))
    np.testing.assert_array_equal(spikes, expected)
    np.testing.assert_allclose(final, v, rtol=1e-6)


def test_running_in_two_parts_equals_running_at_once(rng):
  currents = jnp.asarray(rng.normal(0.3, 1, (12, 50)), jnp.float32)
  whole, v_whole = neurons.integrate_and_fire(currents, 1.0)
  first, v = neurons.integrate_and_fire(currents[:5], 1.0)
  second, v = neurons.integrate(currents[5:], v, 1.0)
  np.testing.assert_array_equal(whole, jnp.concatenate([first, second]))
  np.testing.assert_array_equal(v_whole, v)


# h(u) at u = 1/4 (v = 2.5, threshold 2) with width 1/2, by hand:
#   triangle (1 - 0.5) / 0.5 = 1;  rectangle 1 / (2 * 0.5) = 1
#   sigmoid s(0.5) s(-0.5) / 0.5;  arctan 1 / (2 * 0.5 * (1 + (pi/4)^2))
_SIGMOID = 1 / (1 + math.exp(-0.5)) * (1 - 1 / (1 + math.exp(-0.5))) / 0.5


_BY_HAND = {
  "triangle": 1.0,
  "rectangle": 1.0,
  "sigmoid": _SIGMOID,
  "arctan": 1 / (1 + (math.pi / 4) ** 2),
}


@pytest.mark.parametrize("surrogate", surrogates.SURROGATES)
def test_surrogate_gradients_by_hand(surrogate, maybe_jit):
  grad = maybe_jit(jax.grad(lambda v, tau: neurons.spike(v, tau, surrogate, 0.5), argnums=(0, 1)))
  to_v, to_threshold = grad(2.5, 2.0)
  # d/dv = h / tau and d/dtau = -h v / tau^2
  np.testing.assert_allclose(to_v, _BY_HAND[surrogate] / 2, rtol=1e-6)
  np.testing.assert_allclose(to_threshold, -_BY_HAND[surrogate] * 2.5 / 4, rtol=1e-6)


def test_gradient_through_two_steps_by_hand():
  # triangle of width 1, threshold 1, start 0, currents x = 0.75 twice; loss = both spikes.
  #   step 1: v = 0.75, u = -0.25, h = 0.75, s1 = 0, v stays 0.75
  #   step 2: v = 1.5,  u = 0.5,  h = 0.5, s2 = 1
  #   ds1/dx = 0.75;  dv1/dx = 1 - 0.75 (reset) = 0.25;  ds2/dx = 0.5 * (1 + 0.25)
  #   ds1/dtau = -0.75 * 0.75;  dv1/dtau = -(s1 + tau ds1/dtau) = 0.5625
  #   ds2/dtau = 0.5 * (0.5625 - 1.5)
  def loss(x, tau):
    return neurons.integrate_and_fire(jnp.stack([x, x])[:, None], tau, 0.0)[0].sum()

  to_x, to_threshold = jax.grad(loss, argnums=(0, 1))(0.75, 1.0)
  np.testing.assert_allclose(to_x, 0.75 + 0.5 * 1.25, rtol=1e-6)
  np.testing.assert_allclose(to_threshold, -0.5625 + 0.5 * (0.5625 - 1.5), rtol=1e-6)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", surrogates.SURROGATES)
def test_gradient_is_that_of_the_steps_one_after_another(rng, reset, surrogate, maybe_jit):
  """The gradient of `integrate` is written by hand; that of a loop over `if_step` is not."""
  neuron = Neuron(reset, surrogate, 0.7)
  currents = jnp.asarray(rng.normal(0.3, 0.6, (9, 5, 4)), jnp.float32)
  start, threshold = jnp.full((5, 1), 0.3), jnp.asarray(rng.uniform(0.5, 1.5, 4), jnp.float32)
  on_spikes, on_last = (
    jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((9, 5, 4), (5, 4))
  )

  def loop(currents, v, threshold):
    v, spikes = jnp.broadcast_to(v, currents.shape[1:]), []
    for current in currents:
      v, fired = neurons.if_step(v, current, threshold[None], neuron)
      spikes.append(fired)
    return jnp.stack(spikes), v

  def scan(currents, v, threshold):
    return neurons.integrate(currents, v, threshold[None], neuron)

  def gradient(run):
    def loss(*inputs):
      spikes, v = run(*inputs)
      return (spikes * on_spikes).sum() + (v * on_last).sum()

    return maybe_jit(jax.grad(loss, argnums=(0, 1, 2)))(currents, start, threshold)

  for found, expected in zip(gradient(scan), gradient(loop), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0.1


def test_gradient_to_the_threshold_is_that_of_scale():
  # A spike depends on v / tau alone, so v ds/dv + tau ds/dtau = 0 (Euler).
  v = jnp.linspace(0.1, 3, 50)
  to_v, to_threshold = jax.vmap(jax.grad(neurons.spike, argnums=(0, 1)), (0, None))(v, 1.3)
  np.testing.assert_allclose(v * to_v + 1.3 * to_threshold, 0, atol=1e-6)
  assert np.abs(to_v).max() > 0.5


def shaped(*shape):
  return jnp.ones(shape)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: neurons.spike(1.0, 1.0, "step"), "surrogate='step' is unknown: choose one of tri"),
    (lambda: surrogates.surrogate_derivative(0.0, width=0), "width=0 must be positive"),
    (lambda: neurons.spike(1.0, 1.0, width=-1.0), "width=-1.0 must be positive"),
    (lambda: Neuron(reset="none"), "reset='none' is unknown: choose one of soft, hard"),
    (lambda: Neuron(surrogate="step"), "surrogate='step' is unknown: choose one of triangle"),
    (lambda: Neuron(width=0), "width=0 must be positive"),
    (lambda: Neuron(width="1"), "width='1' must be positive"),
    (
      lambda: neurons.if_step(shaped(1), shaped(1), 1.0, "hard"),
      r"neuron='hard' must be a tcljax.Neuron, such as Neuron\(reset='hard'\)",
    ),
    (
      lambda: neurons.integrate_and_fire(shaped(2, 3), 1.0, neuron="soft"),
      "neuron='soft' must be a tcljax.Neuron",
    ),
    (
      lambda: neurons.if_step(shaped(2, 3), shaped(3), 1.0),
      r"current has shape \(3,\) and must have that of v, \(2, 3\)",
    ),
    (
      lambda: neurons.spike(shaped(3), shaped(2, 3)),
      r"threshold has shape \(2, 3\), which does not broadcast to that of v, \(3,\)",
    ),
    (
      lambda: neurons.integrate(shaped(), 0.0, 1.0),
      r"currents has shape \(\) and must be \[T, B, \.\.\.\]",
    ),
    (
      lambda: neurons.integrate(shaped(4, 2, 3), shaped(4, 2, 3), 1.0),
      r"v has shape \(4, 2, 3\), which does not broadcast to that of one step of currents, \(2,",
    ),
    (
      lambda: neurons.integrate(shaped(4, 2, 3), shaped(2, 3), shaped(2)),
      r"threshold has shape \(2,\), which does not broadcast to",
    ),
    (
      lambda: neurons.integrate_and_fire(shaped(4, 2, 3), 1.0, shaped(2)),
      r"v_init has shape \(2,\), which does not broadcast to",
    ),
    (
      lambda: neurons.integrate_and_fire(shaped(4, 2, 3), shaped(4), 0.5),
      r"threshold has shape \(4,\), which does not broadcast to",
    ),
  ],
)
def test_errors_name_the_argument_and_the_remedy_in_one_line(call, message):
  for run in (call, lambda: jax.eval_shape(call)):  # plain, and while it is traced
    with pytest.raises(ValueError, match=message) as told:
      run()
    assert "\n" not in str(told.value)


def test_a_neuron_can_be_compared_hashed_and_stored():
  assert tcljax.Neuron(width=np.float32(0.5)) == Neuron("soft", "triangle", 0.5)
  assert type(Neuron(width=np.float32(0.5)).width) is type(Neuron(width=1).width) is float
  assert len({Neuron(), Neuron(reset="hard"), Neuron()}) == 2


def test_layers_of_the_same_shapes_are_traced_once():
  currents, v = jnp.ones((4, 2, 3)), jnp.zeros((2, 3))
  layer = lambda currents: tcljax.integrate(currents, v, 1.0)[0]
  traced = jax.make_jaxpr(lambda currents: layer(layer(currents)))(currents)
  inner = [eqn.params["jaxpr"] for eqn in traced.eqns if eqn.params.get("name") == "_through_time"]
  assert len(inner) == 2 and inner[0] is inner[1]
