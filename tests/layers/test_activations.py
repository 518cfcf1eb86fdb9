"""The activations share their variables, and the spiking one is the quantized one in time."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import calibrate_plainly

import tcljax
from tcljax.layers.activations import TCL, Quantized, ReLU
from tcljax.layers.integrate_and_fire import IF


class Net(nn.Module):
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="hidden")(nn.Dense(6, name="first")(x))
    return nn.Dense(3, name="second")(x)


@pytest.fixture
def net_and_variables():
  model = Net(act=functools.partial(TCL, per_channel=True, threshold=0.7, v_init=0.25))
  return model, model.init(jax.random.key(0), jnp.ones((1, 4)))


def test_one_set_of_variables_serves_all_three(net_and_variables, rng):
  model, variables = net_and_variables
  x = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
  hidden = x @ variables["params"]["first"]["kernel"]

  def out(a):
    return a @ variables["params"]["second"]["kernel"]

  np.testing.assert_allclose(
    model.clone(act=ReLU).apply(variables, x), out(jnp.maximum(hidden, 0)), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(
    model.apply(variables, x), out(jnp.clip(hidden, 0, 0.7)), rtol=1e-5, atol=1e-6
  )
  for steps in (1, 3, 8):
    logits = tcljax.simulate(model, variables, x, tcljax.SpikingConfig(time_steps=steps)).logits
    rate = tcljax.quantized_clip(hidden, 0.7, steps, v_init=0.25)
    np.testing.assert_allclose(logits, out(rate), rtol=1e-5, atol=1e-5)


def test_init_makes_thresholds_a_layer_or_a_channel(net_and_variables):
  _, variables = net_and_variables
  np.testing.assert_allclose(tcljax.thresholds(variables)["hidden"], np.full(6, 0.7), rtol=1e-6)
  np.testing.assert_array_equal(variables["clipping"]["hidden"]["v_init"], np.full(6, 0.25))
  variables = Net(act=TCL).init(jax.random.key(0), jnp.ones((1, 4)))
  assert variables["clipping"]["hidden"]["raw_threshold"].shape == ()
  assert "clipping" not in Net().init(jax.random.key(0), jnp.ones((1, 4)))


def test_a_name_is_required():
  class Unnamed(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return self.act()(x)

  for act in (ReLU, TCL, IF):
    with pytest.raises(ValueError, match=r"write self.act\(name='act1'\)"):
      Unnamed(act=act).init(jax.random.key(0), jnp.ones((1, 4)))


class Neurons(nn.Module):
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="only")(x)


class Bounded(nn.Module):
  """ReLU6 in all but the number."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="only", bound=0.75)(x)


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_a_bound_is_the_largest_threshold(rng, tau):
  x = jnp.asarray(rng.uniform(-0.5, 1.5, size=(5, 3)), jnp.float32)
  np.testing.assert_array_equal(Bounded().apply({}, x), jnp.clip(x, 0, 0.75))
  held = {"raw_threshold": tcljax.raw_from_threshold(jnp.full(3, tau)), "v_init": jnp.full(3, 0.5)}
  variables, effective = {"clipping": {"only": held}}, np.float32(min(tau, 0.75))
  run = lambda act: Bounded(act=act).apply(variables, x)
  np.testing.assert_allclose(run(TCL), jnp.clip(x, 0, effective), rtol=1e-6)
  expected = tcljax.quantized_clip(x, effective, 4)
  np.testing.assert_allclose(run(functools.partial(Quantized, time_steps=4)), expected, rtol=1e-6)
  spiking = tcljax.SpikingConfig(time_steps=4)
  found = tcljax.simulate(Bounded(), variables, x, spiking).logits
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  # A threshold beyond its bound comes down if that is better.
  target = lambda v: jnp.square(Bounded(act=TCL).apply(v, x) - 0.1).mean()
  assert (jax.grad(target)(variables)["clipping"]["only"]["raw_threshold"] > 0).all()


@pytest.mark.parametrize("bound", [0, -6.0, float("nan"), float("inf"), 1e300, 1e-45, True])
def test_a_bound_is_a_finite_number_above_0(bound):
  for act in (ReLU, TCL, IF):
    with pytest.raises(ValueError, match=r"bound=.* must be a finite number above 0, such as 6.0$"):
      act(name="only", bound=bound)
  with pytest.raises(ValueError, match="bound='6' must be a number"):
    ReLU(name="only", bound="6")
  assert type(ReLU(name="only", bound=np.int32(6)).bound) is float


@pytest.mark.parametrize("chunk", [1, 2, 3, 6])
@pytest.mark.parametrize("per_channel", [False, True])
def test_instalments_of_the_initial_potential_come_before_their_steps(rng, chunk, per_channel):
  x = jnp.asarray(rng.uniform(-0.5, 1.0, size=(5, 2, 3)), jnp.float32)
  parts = jnp.asarray(rng.uniform(-0.5, 1.5, size=(4, 3) if per_channel else (4,)), jnp.float32)
  tau = np.float32([0.5, 0.8, 1.1] if per_channel else 0.8)
  variables = {
    "clipping": {"only": {"raw_threshold": tcljax.raw_from_threshold(tau), "v_init": parts}}
  }
  charges = tau * np.asarray(parts).reshape(4, 1, 1, -1)
  currents = jnp.stack([x] * 6).at[1:4].add(charges[1:] / 4)
  tau = jnp.broadcast_to(tau, x.shape)
  expected, _ = tcljax.integrate(currents, x * 0 + charges[0], tau)
  found = tcljax.simulate(
    Neurons(),
    variables,
    x,
    tcljax.SpikingConfig(time_steps=6, chunk=chunk),
    observe=lambda chunk: chunk.spikes["only"]["count"],
    rates=True,
  )
  np.testing.assert_array_equal(found.observed, expected.sum(axis=(2, 3)))
  np.testing.assert_allclose(found.logits, tau * expected.mean(axis=0), rtol=1e-5)
  np.testing.assert_allclose(found.rates["only"]["current"], x, rtol=1e-5, atol=1e-6)


def test_one_instalment_is_the_initial_potential(net_and_variables, rng):
  model, variables = net_and_variables
  x = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
  spiking = tcljax.SpikingConfig(time_steps=6)
  held = variables["clipping"]["hidden"]
  alone = {**variables, "clipping": {"hidden": {**held, "v_init": held["v_init"][None]}}}
  np.testing.assert_array_equal(
    tcljax.simulate(model, variables, x, spiking).logits,
    tcljax.simulate(model, alone, x, spiking).logits,
  )


def test_instalments_add_up_in_the_quantized_activation(rng):
  # All currents and their instalments stay below tau, so that no neuron has more than it can fire.
  x = jnp.asarray(rng.uniform(-0.3, 0.6, size=(7, 3)), jnp.float32)
  parts = jnp.asarray(rng.uniform(0.1, 0.4, size=(3, 3)), jnp.float32)
  variables = {
    "clipping": {"only": {"raw_threshold": tcljax.raw_from_threshold(jnp.ones(3)), "v_init": parts}}
  }
  for steps in (2, 3, 8):
    spiking = tcljax.simulate(
      Neurons(), variables, x, tcljax.SpikingConfig(time_steps=steps)
    ).logits
    reference = Neurons(act=functools.partial(Quantized, time_steps=steps)).apply(variables, x)
    np.testing.assert_allclose(spiking, reference, atol=1e-5)


@pytest.mark.slow
def test_every_instalment_has_a_gradient(rng):
  x = jnp.asarray(rng.uniform(0, 1, size=(9, 3)), jnp.float32)
  made = calibrate_plainly(Neurons(), {}, x, per_channel=True, instalments=4)
  np.testing.assert_array_equal(made["clipping"]["only"]["v_init"], np.full((4, 3), 0.5))

  def loss(variables):
    spiking = tcljax.SpikingConfig(time_steps=4)
    return jnp.square(tcljax.simulate(Neurons(), variables, x, spiking).logits).sum()

  assert jnp.all(jnp.abs(jax.grad(loss)(made)["clipping"]["only"]["v_init"]) > 1e-3)


def test_missing_and_misfit_thresholds_are_told(net_and_variables):
  model, variables = net_and_variables
  with pytest.raises(ValueError, match="no threshold for activation 'hidden'"):
    model.apply({"params": variables["params"]}, jnp.ones((1, 4)))
  clipping = {"hidden": {"raw_threshold": jnp.ones(5), "v_init": jnp.ones(5)}}
  with pytest.raises(ValueError, match=r"has 6 channels, but its thresholds have shape \(5,\)"):
    model.apply({**variables, "clipping": clipping}, jnp.ones((1, 4)))


def test_potentials_stay_in_float32(net_and_variables):
  model, variables = net_and_variables
  snn = model.clone(act=IF)
  x = jnp.ones((2, 4))
  _, state = snn.apply(variables, x, mutable=["membrane"])
  np.testing.assert_allclose(state["membrane"]["hidden"]["v"], np.full((2, 6), 0.25 * 0.7))
  neurons = IF(name="hidden")
  scoped = {"clipping": variables["clipping"]["hidden"], "membrane": state["membrane"]["hidden"]}
  spikes, after = neurons.apply(scoped, jnp.ones((2, 6), jnp.bfloat16), mutable=["membrane"])
  assert spikes.dtype == jnp.bfloat16 and after["membrane"]["v"].dtype == jnp.float32


class Pooled(nn.Module):
  of: str
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="only", max_pool=tcljax.MaxPool(2, of=self.of))(x)


of_kinds = functools.partial(pytest.mark.parametrize, "neuron", ids=lambda neuron: neuron.alphabet)
MORE = [tcljax.Neuron(burst=4), tcljax.Neuron(signed=True), tcljax.Neuron(burst=3, signed=True)]


@of_kinds(MORE)
@pytest.mark.parametrize("per_channel", [False, True])
def test_tau_is_the_clip_whatever_neurons_can_send(rng, neuron, per_channel):
  """At a constant current a rate times tau is the quantized clip, and with T the clip."""
  x = jnp.asarray(rng.uniform(-1, 3, size=(50, 3)), jnp.float32)
  act = functools.partial(TCL, per_channel=per_channel, threshold=1.5)
  variables = Neurons(act=act).init(jax.random.key(0), x)
  for steps in (1, 5, 64):
    spiking = tcljax.SpikingConfig(time_steps=steps, neuron=neuron)
    found = tcljax.simulate(Neurons(), variables, x, spiking).logits
    assert spiking.levels == steps * neuron.burst
    act = functools.partial(Quantized, time_steps=steps, burst=neuron.burst)
    expected = Neurons(act=act).apply(variables, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(np.unique(np.round(expected / 1.5, 4))) <= 1 + spiking.levels
  np.testing.assert_allclose(found, Neurons(act=TCL).apply(variables, x), atol=1.5 / 64)


@pytest.mark.parametrize("phase", [2, 3])
def test_tau_is_the_clip_of_phases_too(rng, phase):
  """Where a period's current comes before it, the rate is the quantized clip; else it is near."""
  x, neuron = jnp.asarray(rng.uniform(0, 3, size=(50, 3)), jnp.float32), tcljax.Neuron(phase=phase)
  act = functools.partial(TCL, per_channel=True, threshold=1.5)
  variables = Neurons(act=act).init(jax.random.key(0), x)
  for periods in (1, 4):
    steps = periods * phase
    frames = jnp.zeros((steps, *x.shape)).at[::phase].set(phase * x)
    spiking = tcljax.SpikingConfig(steps, neuron=neuron, encoding="frames")
    found = tcljax.simulate(Neurons(), variables, frames, spiking).logits
    act = functools.partial(Quantized, time_steps=steps, phase=phase)
    np.testing.assert_allclose(found, Neurons(act=act).apply(variables, x), atol=1e-5)
    assert spiking.levels == periods * (2**phase - 1)
  steps = 64 * phase
  found = tcljax.simulate(
    Neurons(), variables, x, tcljax.SpikingConfig(steps, neuron=neuron)
  ).logits
  np.testing.assert_allclose(found, Neurons(act=TCL).apply(variables, x), atol=1.5 * phase / steps)


@of_kinds([*MORE, tcljax.Neuron(phase=3)])
@pytest.mark.parametrize("of", ["spikes", "currents"])
def test_what_passes_a_gate_is_the_maximum_of_what_was_sent(rng, neuron, of):
  """Of signed neurons too, where it may shrink; and it does not depend on the chunk.

  A chunk of two steps begins within a period of three.
  """
  frames = jnp.asarray(rng.normal(0.3, 1, size=(6, 5, 4, 4, 2)), jnp.float32)
  variables = Pooled(of, act=TCL).init(jax.random.key(0), frames[0])

  def run(chunk):
    spiking = tcljax.SpikingConfig(6, chunk, neuron, encoding="frames")
    observe = lambda chunk: (chunk.logits, chunk.spikes["only"])
    return tcljax.simulate(Pooled(of), variables, frames, spiking, observe=observe, rates=True)

  whole, parts = run(6), run(2)
  jax.tree.map(np.testing.assert_array_equal, whole.observed, parts.observed)
  sent = whole.rates["only"]["spikes"] / neuron.most
  assert sent.min() >= 0
  if of == "spikes":
    sent = sent.reshape(5, 2, 2, 2, 2, 2).max(axis=(2, 4))
  np.testing.assert_allclose(whole.logits, sent, atol=1e-6)
  answers, spikes = whole.observed
  passed = np.diff(answers * np.arange(1, 7).reshape(6, 1, 1, 1, 1), axis=0)
  assert (passed < -1e-3).any() == neuron.signed
  assert ("active" in spikes) == (neuron.burst > 1)
  active = spikes.get("active", spikes["count"])
  assert (spikes["count"] >= active).all()
  assert (spikes["count"] > active).any() == (neuron.burst > 1)
