"""How a simulation begins: at rest, and with the currents that are the same in every step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import Everything, everything
from programs import how_often

import tcljax
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths.encoding import inputs_of_steps
from tcljax.simulation import time_loop
from tcljax.simulation.beginning import begin


class Shortcut(nn.Module):
  """Two layers of neurons, and a way around the first; "jit" and "remat" make it a program."""

  kind: str = ""
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    layer = {"": _Layer, "jit": nn.jit(_Layer), "remat": nn.remat(_Layer)}[self.kind]
    h = layer(self.act, name="first")(x)
    h = self.act(name="second")(nn.Dense(6)(h) + nn.Dense(6, name="around")(x))
    return nn.Dense(3)(h.reshape(x.shape[0], 2, 3).sum(axis=1))


class _Layer(nn.Module):
  act: object

  @nn.compact
  def __call__(self, x):
    return self.act(name="act")(nn.Dense(6)(x))


class Stacked(nn.Module):
  """Three equal layers, written once."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    layers = nn.scan(
      _Same,
      {True: 0},
      split_rngs={"params": True},
      length=3,
      metadata_params={"partition_name": ""},
    )
    x, _ = layers(self.act, name="layers")(nn.Dense(6)(x), None)
    return nn.Dense(3)(x)


class _Same(nn.Module):
  act: object

  @nn.compact
  def __call__(self, x, _):
    return self.act(name="act")(nn.Dense(6)(x)), None


def given(model, shape=(8, 5)):
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  variables = model.clone(act=tcljax.TCL).init(jax.random.key(0), x)
  return variables, x


def names(model, variables, x):
  """The neurons whose currents are the same in every step."""
  begun = begin(model.clone(act=IF), variables, x, ["membrane"])
  found = begun.constant.get("constant_currents", {})
  paths = jax.tree_util.tree_leaves_with_path(found)
  return {"/".join(key.key for key in path[:-1]) for path, _ in paths}


@pytest.mark.parametrize(
  "model, shape, expected",
  [
    (tcljax.CNN(3, stages=((4, 4),), dense=(5,)), (8, 4, 4, 1), {"act1_1"}),
    (Everything(), (8, 8, 8, 2), {"gate", "maximum", "currents"}),
    (Shortcut(), (8, 5), {"first/act"}),
    # What is within a program of its own is not looked into.
    (Shortcut("jit"), (8, 5), set()),
    (Shortcut("remat"), (8, 5), set()),
    (Stacked(), (8, 5), set()),
  ],
  ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:.*max")
def test_neurons_whose_currents_no_step_changes(model, shape, expected):
  variables, x = given(model, shape)
  assert names(model, variables, x) == expected


def test_only_what_is_given_back_is_computed():
  model = tcljax.CNN(3, stages=((4, 4),), dense=(5,), act=IF)
  variables, x = given(model, (8, 4, 4, 1))
  run = lambda variables, x: begin(model, variables, x, ["membrane"])
  assert how_often("conv_general_dilated", run, variables, x) == 1  # of two
  assert how_often("dot_general", run, variables, x) == 0  # of two


@pytest.mark.parametrize("kind", ["", "jit", "remat"])
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_a_constant_input_is_a_sequence_of_equal_frames(kind, chunk):
  check_frames(Shortcut(kind), *given(Shortcut(kind)), tcljax.Neuron(), chunk)


@pytest.mark.parametrize(
  "neuron",
  [
    tcljax.Neuron(),
    tcljax.Neuron(reset="hard"),
    tcljax.Neuron(burst=2),
    tcljax.Neuron(signed=True),
    tcljax.Neuron(phase=2),
  ],
  ids=str,
)
def test_equal_frames_of_every_operation(neuron):
  network, images = everything()
  check_frames(network.model, network.variables, images, neuron, 4)


def check_frames(model, variables, x, neuron, chunk):
  """Answers, rates and gradients are those of x as a frame of each step."""
  weights = {name: held for name, held in variables.items() if name in ("params", "clipping")}

  def loss(weights, x, encoding):
    spiking = tcljax.SpikingConfig(4, chunk, neuron=neuron, encoding=encoding)
    done = tcljax.simulate(model, {**variables, **weights}, x, spiking, rates=True)
    means = [(a**2).mean() for a in jax.tree.leaves((done.logits, done.rates))]
    return sum(means), (done.logits, done.rates)

  run = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
  found = run(weights, x, "constant")
  expected = run(weights, np.broadcast_to(x, (4, *x.shape)), "frames")
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)
  assert max(abs(a).max() for a in jax.tree.leaves(found[1]["params"])) > 1e-3


@pytest.mark.parametrize("pooling", ["average", "before"])
@pytest.mark.parametrize("chunk", [1, 512])
def test_gradients_of_16_bits_are_added_up_in_32(chunk, pooling):
  """Over many chunks, and over many steps of one; the mean current of all is linear."""

  def gradient(dtype):
    model = tcljax.CNN(3, stages=((4,),), dense=(5,), dtype=dtype, pooling=pooling)
    variables, x = given(model, (2, 4, 4, 1))
    spiking = tcljax.SpikingConfig(512, chunk)

    def mean(x):
      return tcljax.simulate(model, variables, x, spiking, rates=True).rates["act1_1"]["current"]

    return jax.jit(jax.grad(lambda x: mean(x).sum()))(x)

  exact = gradient("float32")
  np.testing.assert_allclose(gradient("bfloat16"), exact, atol=0.02 * abs(exact).max())


def test_gradients_can_be_differentiated_again():
  model = Shortcut()
  variables, x = given(model)

  def loss(x, encoding):
    spiking = tcljax.SpikingConfig(4, 2, encoding=encoding)
    return (tcljax.simulate(model, variables, x, spiking).logits ** 2).sum()

  frames = lambda x: loss(jnp.broadcast_to(x, (4, *x.shape)), "frames")
  found, expected = (
    jax.jvp(jax.grad(function), (x,), (x,))
    for function in (functools.partial(loss, encoding="constant"), frames)
  )
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)
  assert abs(found[1]).max() > 0


@pytest.mark.parametrize("chunk", [2, 4])
def test_forward_mode_is_told_by_jax(chunk):
  model = Shortcut()
  variables, x = given(model)
  run = lambda x: tcljax.simulate(model, variables, x, tcljax.SpikingConfig(4, chunk)).logits
  with pytest.raises(TypeError, match="forward-mode"):
    jax.jvp(run, (x,), (x,))


class Written(nn.Module):
  """What the second layer takes was written by the first, and is then read."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    held = jax.new_ref(jnp.zeros((len(x), 6)))
    held[...] = self.act(name="a")(nn.Dense(6)(x))
    return nn.Dense(3)(self.act(name="b")(nn.Dense(6)(held[...])))


def test_what_is_written_and_read_is_not_looked_into():
  variables, x = given(Written())
  assert names(Written(), variables, x) == set()


class Counted(nn.Module):
  """Looks at a number, and at what is no array, among its variables."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    layers = int(self.variable("meta", "layers", lambda: 2).value)
    name = self.variable("meta", "name", lambda: "act").value
    for i in range(layers):
      x = self.act(name=f"{name}{i}")(nn.Dense(6)(x))
    return x


def test_variables_that_are_no_arrays():
  model, x = Counted(), np.ones((4, 3), np.float32)
  variables = model.clone(act=tcljax.TCL).init(jax.random.key(0), x)
  assert names(model, variables, x) == {"act0"}
  assert tcljax.simulate(model, variables, x, tcljax.SpikingConfig(4, 2)).logits.shape == (4, 6)


@pytest.mark.parametrize("encoding", ["poisson", "frames"])
def test_inputs_that_change_give_no_such_currents(encoding, monkeypatch):
  model = Shortcut()
  variables, x = given(model)
  taken = []
  apply = nn.Module.apply

  def noted(self, variables, *args, **kwargs):
    taken.append("constant_currents" in variables)
    return apply(self, variables, *args, **kwargs)

  monkeypatch.setattr(nn.Module, "apply", noted)
  keys = jax.random.split(jax.random.key(0), len(x))
  for one in (encoding, "constant"):
    given_x = np.broadcast_to(x, (4, *x.shape)) if one == "frames" else x
    spiking = tcljax.SpikingConfig(4, encoding=one)
    taken.clear()
    tcljax.simulate(model, variables, given_x, spiking, keys=keys)
    assert any(taken) == (one == "constant")


def test_the_first_layer_does_not_look_at_the_steps(monkeypatch):
  model = tcljax.CNN(3, stages=((4, 4),), dense=(5,))
  variables, x = given(model, (8, 4, 4, 1))
  run = lambda: tcljax.simulate(model, variables, x, tcljax.SpikingConfig(4, 2)).logits
  expected = run()
  assert np.isfinite(expected).all()

  def spoilt(x, keys, step, number, encoding):
    """NaN, but in the single step with which a simulation begins."""
    every = inputs_of_steps(x, keys, step, number, encoding)
    return every if number == 1 else every * jnp.nan

  monkeypatch.setattr(time_loop, "inputs_of_steps", spoilt)
  np.testing.assert_array_equal(run(), expected)


def test_a_network_may_begin_where_it_is_made():
  """`init` leaves no currents, which later calls would take for those of every step."""
  act = IF(name="act", chunk=2)
  assert "constant_currents" not in act.init(jax.random.key(0), jnp.ones((4, 3)))


def test_neurons_that_are_called_by_hand_look_at_each_input():
  act, state = IF(name="act"), {"clipping": {"raw_threshold": jnp.float32(0.54), "v_init": 0.0}}
  for step, current in enumerate((0.0, 0.0, 2.0)):
    spikes, state = act.apply(state, jnp.full((4, 3), current), mutable=True)
    state = {name: held for name, held in state.items() if name not in ("spikes", "totals")}
    assert bool(spikes.any()) == (step == 2)


class FixedBatch(nn.Module):
  """Takes eight examples, and no steps folded into them."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(self.act(name="act")(nn.Dense(6)(x)).reshape(8, 6))


@pytest.mark.parametrize("chunk", [2, 4])
def test_a_network_that_fails_after_the_beginning_is_told_in_one_line(chunk):
  variables, x = given(FixedBatch())
  with pytest.raises(ValueError, match=r"runs with tcljax\.ReLU, and not with another") as told:
    tcljax.simulate(FixedBatch(), variables, x, tcljax.SpikingConfig(4, chunk))
  assert "\n" not in str(told.value)
