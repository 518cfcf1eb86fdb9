"""Converted networks compute what the model does, take other arrays, and can be tuned."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import randomized
from running import calibrate_plainly

import tcljax


def test_simulates_what_the_model_does(vgg, images, network):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images, per_channel=True, percentile=99)
  expected = tcljax.simulate(model, variables, images, network.spiking).logits
  np.testing.assert_allclose(network(images), expected, rtol=1e-3, atol=1e-3)


def test_within_its_delay_it_answers_with_the_mean_of_all_steps(network, images):
  """As `evaluate` measures it; the margin of early exit is chosen on the same answers."""
  spiking = tcljax.SpikingConfig(time_steps=6, delay=4)
  late = dataclasses.replace(network, spiking=spiking)
  answers = tcljax.simulate(
    late.model, late.variables, images, spiking, observe=lambda chunk: chunk.logits
  ).observed
  for t in (1, 4, 5, 6):
    np.testing.assert_allclose(late(images, time_steps=t), answers[t - 1], rtol=1e-5, atol=1e-5)
  early = tcljax.answer_early(late, images, np.inf, time_steps=3)
  np.testing.assert_allclose(early.logits, answers[2], rtol=1e-5, atol=1e-5)
  assert np.isfinite(tcljax.choose_margin(late, [images], time_steps=3, changed=100))


def test_a_loaded_network_can_be_calibrated_tuned_and_converted_again(network, images):
  labels = np.arange(16) % 10
  variables = calibrate_plainly(network.model, network.variables, images)
  tuned = tcljax.tune(
    network.model, variables, images, labels, network.spiking, steps=2, batch_size=8
  )
  again = tcljax.convert(network.model, tuned, network.input_shape)
  assert again.graph == network.graph


def test_what_became_of_each_operation_of_the_model_is_told(network, tmp_path):
  lines = tcljax.explain(network).splitlines()[1:]
  nodes = {node.name: node for node in network.graph.nodes}
  told = [line.split()[-1].rstrip(",") for line in lines]
  assert {name for name in nodes if name.split(":")[0] in ("conv", "dense")} <= {*told}
  populations = [line for line in lines if line.startswith("neurons")]
  assert [line.split()[-1] for line in populations] == network.graph.populations()
  assert any(" folded " in line and "norm" in line for line in lines)
  # One that was read again knows its own operations.
  loaded = tcljax.load(tcljax.save(network, tmp_path / "net"))
  told = [line.split() for line in tcljax.explain(loaded).splitlines()[1:]]
  assert [(words[0], words[-1]) for words in told] == [(n.op, n.name) for n in nodes.values()]
  fates = {name: fate for _, fate, name in told}
  assert all(fates[name] in ("population", "pooling") for name in network.graph.populations())
  assert fates["conv:1"] == "affine"


def test_other_types_of_input_are_taken(network, images):
  expected = network(images)
  np.testing.assert_allclose(network(images.tolist()), expected, rtol=1e-6)
  whole = np.rint(images).astype(np.int8)
  np.testing.assert_array_equal(network(whole), network(whole.astype(np.float32)))


def test_numpy_integers_are_taken(vgg, images, tmp_path):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images)
  network = tcljax.convert(
    model, variables, np.array([8, 8, 3]), tcljax.SpikingConfig(time_steps=np.int64(3))
  )
  assert tcljax.load(tcljax.save(network, tmp_path / "net")).spiking.time_steps == 3


def test_errors(vgg, images, network):
  model, variables = vgg
  with pytest.raises(ValueError, match="no collection 'clipping'"):
    tcljax.convert(model, variables, (8, 8, 3))
  with pytest.raises(ValueError, match="no threshold for activation 'act1_1'"):
    tcljax.convert(model, {**variables, "clipping": {}}, (8, 8, 3))
  clipping = calibrate_plainly(model, variables, images)["clipping"]
  misfit = {**clipping, "act1_1": {"raw_threshold": np.ones(5), "v_init": np.ones(5)}}
  with pytest.raises(ValueError, match="'act1_1' has 8 channels, but its thresholds have shape"):
    tcljax.convert(model, {**variables, "clipping": misfit}, (8, 8, 3))
  with pytest.raises(ValueError, match="input_shape=192 must be a sequence of integers"):
    tcljax.convert(model, {**variables, "clipping": clipping}, 192)
  with pytest.raises(ValueError, match="spiking=8 must be"):
    tcljax.convert(model, {**variables, "clipping": clipping}, (8, 8, 3), 8)
  with pytest.raises(ValueError, match=r"inputs have shape \(16, 8, 8\), expected \(batch, 8,"):
    network(images[..., 0])
  with pytest.raises(ValueError, match=r"expected \(batch, 8, 8, 3\): give a batch, of one input"):
    network(images[0])
  with pytest.raises(ValueError, match="steps=0"):
    network(images, time_steps=0)


def test_an_input_shape_with_the_batch_in_it_is_told_by_the_first_call(rng):
  model, x = Layered(), rng.normal(size=(8, 6)).astype(np.float32)
  variables = tcljax.calibrate(model, model.init(jax.random.key(0), x), [x])
  network = tcljax.convert(model, variables, (1, 6))
  with pytest.raises(ValueError, match=r"expected \(batch, 1, 6\): convert it anew, with"):
    network(x)


def test_frames_without_a_batch_are_told(rng):
  model, x = Layered(), rng.normal(size=(8, 6)).astype(np.float32)
  spiking = tcljax.SpikingConfig(time_steps=8, encoding="frames")
  variables = model.init(jax.random.key(0), x)
  variables = tcljax.calibrate(model, variables, [x[:, None]], spiking)
  network = tcljax.convert(model, variables, (6,), spiking)
  with pytest.raises(
    ValueError, match=r"batch, 6\): give a batch of sequences, of one x\[:, None\]"
  ):
    network(x)
  assert network(x[:, None]).shape == (1, 3)


class Inner(nn.Module):
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="b")(nn.Dense(16)(x))


class Outer(nn.Module):
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(Inner(act=self.act, name="a")(x))


def outer(rng):
  x = rng.normal(size=(32, 6)).astype(np.float32)
  return Outer(), tcljax.calibrate(Outer(), Outer().init(jax.random.key(0), x), [x]), x


def test_thresholds_of_no_activation_are_left_out(rng, tmp_path):
  model, variables, x = outer(rng)
  more = {**variables["clipping"], "old": variables["clipping"]["a"]["b"]}
  network = tcljax.convert(model, {**variables, "clipping": more}, (6,))
  assert set(network.variables["clipping"]) == {"a.b"}
  loaded = tcljax.load(tcljax.save(network, tmp_path / "net"))
  np.testing.assert_array_equal(loaded(x), tcljax.convert(model, variables, (6,))(x))


def test_two_thresholds_by_one_name_are_told(rng):
  model, variables, _ = outer(rng)
  more = {**variables["clipping"], "a.b": {"raw_threshold": 50.0, "v_init": 0.5}}
  with pytest.raises(ValueError, match=r"2 thresholds by the name 'a\.b', as a dot .* leave dots"):
    tcljax.convert(model, {**variables, "clipping": more}, (6,))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_thresholds_of_16_bits_are_the_same_everywhere(rng, tmp_path, dtype):
  model, variables, x = outer(rng)
  coarse = {
    **variables,
    "clipping": jax.tree.map(lambda a: a.astype(dtype), variables["clipping"]),
  }
  network = tcljax.convert(model, coarse, (6,))
  loaded = tcljax.load(tcljax.save(network, tmp_path / "net"))
  np.testing.assert_array_equal(loaded(x), network(x))
  simulated = tcljax.simulate(model, coarse, x, network.spiking).logits
  np.testing.assert_allclose(simulated, network(x), rtol=1e-4, atol=1e-5)


def test_a_network_is_printed_without_its_arrays(network):
  assert repr(network) == (
    f"SpikingNetwork(input_shape=(8, 8, 3), spiking={network.spiking!r}, "
    "metadata={'name': 'test'})"
  )


class Layered(nn.Module):
  """A function after the neurons, and a layer of its own precision."""

  function: object = lambda x: x
  dtype: object = jnp.float32
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Dense(16, dtype=self.dtype)(x))
    return nn.Dense(3)(self.function(x))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_layer_of_16_bits_is_converted(rng, dtype):
  x = rng.normal(size=(16, 5)).astype(np.float32)
  model = Layered(dtype=dtype)
  variables = calibrate_plainly(model, randomized(model, x), x)
  network = tcljax.convert(model, variables, (5,), tcljax.SpikingConfig(256))
  clipped = np.asarray(model.clone(act=tcljax.TCL).apply(variables, x))
  assert np.abs(network(x) - clipped).max() < 0.05 * np.abs(clipped).max()


def test_a_model_that_does_otherwise_with_many_inputs_is_refused(rng):
  x = rng.normal(size=(3, 5)).astype(np.float32)
  model = Layered(lambda x: x if len(x) < 5 else 2 * x)
  variables = calibrate_plainly(model, randomized(model, x), x)
  with pytest.raises(ValueError, match="differs from the model on random inputs"):
    tcljax.convert(model, variables, (5,))


@pytest.mark.parametrize(
  "make, message",
  [
    (
      lambda network, path: network.model,
      "is of type GraphNetwork and must be a tcljax.SpikingNet",
    ),
    (lambda network, path: network.variables, "is of type dict and must be .*: make one by tcljax"),
    (lambda network, path: None, "=None must be a tcljax.SpikingNetwork"),
    (lambda network, path: str(path), "='.*net' must be a .*: read it first, by tcljax.load"),
    (lambda network, path: path, "is of type PosixPath and must be .*: read it first, by tcljax.l"),
    (lambda network, path: tcljax.SpikingNetwork, "is the class SpikingNetwork and must be"),
  ],
)
def test_what_is_no_spiking_network_is_told(network, images, tmp_path, make, message):
  given = make(network, tmp_path / "net")
  for door in (
    lambda: tcljax.save(given, tmp_path / "net"),
    lambda: tcljax.answer_early(given, images, 0.1),
    lambda: tcljax.choose_margin(given, [images]),
  ):
    with pytest.raises(ValueError, match=f"^network{'' if message[0] == '=' else ' '}{message}"):
      door()
  assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
  "call",
  [
    lambda model, v, x, t: tcljax.calibrate(model, v, [x]),
    lambda model, v, x, t: tcljax.convert(model, v, (8, 8, 3)),
    lambda model, v, x, t: tcljax.diagnose(model, v, x, t),
    lambda model, v, x, t: tcljax.evaluate(model, v, x, np.zeros(16, np.int32), t),
    lambda model, v, x, t: tcljax.simulate(model, v, x, t),
    lambda model, v, x, t: tcljax.tune(model, v, x, np.zeros(16, np.int32), t, batch_size=8),
  ],
)
def test_a_spiking_network_is_told_where_a_model_is_wanted(network, images, call):
  for model, variables, message in (
    (network, network.variables, "^model is of type Spiking.*: of a SpikingNetwork give network.m"),
    (network.variables, network.variables, "^model is of type dict and must be an instance of a F"),
    (None, network.variables, "^model=None must be an instance of a Flax Linen module"),
    (network.model, network, "^variables is of type SpikingNetwork .*, as model.init gives them;"),
    (network.model, images, "^variables is of type ndarray and must be collections by name"),
  ):
    with pytest.raises(ValueError, match=message) as raised:
      call(model, variables, images, network.spiking)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("graph", None, "graph=None must be that of a network from tcljax.convert"),
    ("variables", None, "variables=None must be collections by name"),
    ("input_shape", 8, r"input_shape=8 must be a tuple, such as \(28, 28, 1\)"),
    ("spiking", 8, "spiking=8 must be a tcljax.SpikingConfig"),
    ("metadata", "cifar10", "metadata='cifar10' must be a dictionary"),
  ],
)
def test_fields_of_another_kind_are_told(network, field, value, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(network, **{field: value})


def test_networks_are_compared_by_identity(network):
  """Their fields hold arrays, of which == is no truth value."""
  again = dataclasses.replace(network)
  assert network == network and network != again and network != 1 and network is not None
  assert network in [again, network] and network not in [again]
  assert len({network: 1, again: 2}) == 2 and hash(network) == hash(network)
