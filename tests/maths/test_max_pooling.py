import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from running import calibrate_plainly

import tcljax
from tcljax.graph import trace
from tcljax.layers.activations import TCL, Quantized
from tcljax.maths.max_pooling import MaxPool, gate, max_pool
from tcljax.models import VGG, ResNet
from tcljax.models.pooling import POOLINGS
from tcljax.simulation.time_loop import count_neurons

MAXIMA = ("before", "gate")


@pytest.mark.parametrize(
  "pool",
  [
    MaxPool(1),
    MaxPool(2),
    MaxPool(3),
    MaxPool(3, 2, 1),
    MaxPool(2, stride=1),
    MaxPool(4, padding=3),
  ],
  ids=str,
)
def test_maxima_of_windows(rng, pool):
  x = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
  padded = np.pad(x, ((0, 0), *[(pool.padding,) * 2] * 2, (0, 0)), constant_values=-np.inf)
  rows, columns = ((n - pool.window) // pool.stride + 1 for n in padded.shape[1:3])
  expected = np.empty((2, rows, columns, 3), np.float32)
  for i in range(rows):
    for j in range(columns):
      top, left = i * pool.stride, j * pool.stride
      window = padded[:, top : top + pool.window, left : left + pool.window]
      expected[:, i, j] = window.max(axis=(1, 2))
  np.testing.assert_array_equal(jax.jit(max_pool, static_argnums=1)(x, pool), expected)
  np.testing.assert_array_equal(
    max_pool(x[:, :, 0], MaxPool(2)), np.maximum(x[:, 0:6:2, 0], x[:, 1:6:2, 0])
  )


def window_of_two(a, b):
  """Spikes [K, 1, 2, 1] of two neurons that share a window."""
  return jnp.asarray([a, b], jnp.float32).T[:, None, :, None]


def test_the_gate_by_hand():
  # Counts: 1 1 2 3 and 0 1 2 2. The second neuron draws level with its first two spikes, at steps
  # 2 and 3; what passes are the spikes that raise the maximum, 1 1 2 3.
  spikes = window_of_two([1, 0, 1, 1], [0, 1, 1, 0])
  passed, counts = gate(spikes, jnp.zeros((1, 2, 1)), MaxPool(2))
  np.testing.assert_array_equal(passed.ravel(), [1, 0, 1, 1])
  np.testing.assert_array_equal(counts.ravel(), [3, 2])
  # The lead changes: a neuron that was behind passes nothing until it is ahead.
  passed, _ = gate(
    window_of_two([0, 0, 0], [1, 1, 1]), jnp.asarray([2.0, 0])[None, :, None], MaxPool(2)
  )
  np.testing.assert_array_equal(passed.ravel(), [0, 0, 1])


def test_the_gradient_of_the_gate_by_hand():
  def total(spikes, weights):
    return (weights * gate(spikes, jnp.zeros((1, 2, 1)), MaxPool(2))[0].ravel()).sum()

  found = jax.grad(total)(window_of_two([1, 0, 1, 1], [0, 1, 1, 0]), jnp.ones(4))
  # All spikes that pass together are the count of the winner.
  np.testing.assert_array_equal(found[:, 0, :, 0], [[1, 0]] * 4)
  found = jax.grad(total)(window_of_two([1, 0], [0, 1]), jnp.asarray([0.0, 1.0]))
  # What passes in step 2 is the maximum then, which both share, less that before, the first's.
  np.testing.assert_array_equal(found[:, 0, :, 0], [[0.5 - 1.0, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("pool", [MaxPool(2), MaxPool(3, 2, 1)], ids=str)
def test_as_many_spikes_pass_as_the_most_active_neuron_fired(rng, pool):
  spikes = jnp.asarray(rng.integers(0, 2, (12, 2, 6, 6, 3)), jnp.float32)
  none = jnp.zeros(spikes.shape[1:])
  passed, counts = gate(spikes, none, pool)
  assert set(np.unique(passed)) == {0, 1}
  for t in range(12):
    np.testing.assert_array_equal(
      passed[: t + 1].sum(axis=0), max_pool(spikes[: t + 1].sum(axis=0), pool)
    )
  first, carried = gate(spikes[:5], none, pool)
  second, after = gate(spikes[5:], carried, pool)
  np.testing.assert_array_equal(jnp.concatenate([first, second]), passed)
  np.testing.assert_array_equal(after, counts)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"window": 0}, "window=0 and stride=0 must be at least 1"),
    ({"window": 2, "stride": -1}, "stride=-1 must be at least 1"),
    ({"window": 2.0}, "window=2.0 must be an integer"),
    ({"window": 2, "padding": 2}, "padding=2 must be at least 0 and below window=2"),
    ({"window": 2, "padding": -1}, "padding=-1 must be at least 0"),
  ],
)
def test_bad_windows(fields, message):
  with pytest.raises(ValueError, match=message):
    MaxPool(**fields)


def test_what_windows_do_not_fit_into():
  with pytest.raises(
    ValueError, match=r"x has shape \(3, 4\) and must be images .* for MaxPool\(w"
  ):
    max_pool(jnp.ones((3, 4)), MaxPool(2))
  with pytest.raises(ValueError, match="does not fit into images of 4x2 pixels: enlarge"):
    max_pool(jnp.ones((1, 4, 2, 3)), MaxPool(3))
  with pytest.raises(
    ValueError, match=r"spikes has shape \(4, 2, 1\) and must be \[K, B, H, W, C\]"
  ):
    gate(jnp.ones((4, 2, 1)), jnp.ones((2, 1)), MaxPool(2))
  with pytest.raises(ValueError, match=r"counts has shape \(2, 1\) and must have that of one step"):
    gate(jnp.ones((4, 1, 2, 1)), jnp.ones((2, 1)), MaxPool(2))


def alive(model, images, **calibration):
  """Variables with BatchNorms that also shrink and turn over, and thresholds that clip."""
  variables = jax.jit(model.init)(jax.random.key(0), images)
  rng = np.random.default_rng(3)

  def drawn(path, a):
    if a.ndim > 1:
      return a
    name = path[-1].key
    centre = {"scale": 1.0, "var": 1.0}.get(name, 0.2)
    sign = rng.choice([-1, 1], a.shape, p=(0.3, 0.7)) if name == "scale" else 1
    return np.float32(sign * (centre + rng.uniform(-0.1, 0.4, a.shape)))

  variables = jax.tree_util.tree_map_with_path(drawn, variables)
  return calibrate_plainly(model, variables, images, **{"percentile": 97, **calibration})


@pytest.fixture(scope="module", params=POOLINGS)
def network(request, images):
  model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=request.param)
  return model, alive(model, images, per_channel=True)


def simulated(model, variables, images, **config):
  observe = lambda steps: (steps.logits, steps.spikes)
  return jax.jit(
    lambda v, x: tcljax.simulate(model, v, x, tcljax.SpikingConfig(**config), observe=observe)
  )(variables, images)


def test_chunk_sizes_agree_to_the_last_spike(network, images):
  results = [simulated(*network, images, time_steps=8, chunk=chunk).observed for chunk in (1, 2, 4)]
  assert sum(float(s.sum()) for s in jax.tree.leaves(results[0][1])) > 1000
  for logits, spikes in results[1:]:
    jax.tree.map(np.testing.assert_array_equal, results[0][1], spikes)
    np.testing.assert_allclose(logits, results[0][0], rtol=1e-5, atol=1e-5)


def test_converted_read_back_and_converted_again(network, images, tmp_path):
  model, variables = network
  made = tcljax.convert(model, variables, (8, 8, 3), tcljax.SpikingConfig(time_steps=8))
  assert np.std(made(images), axis=0).min() > 0.01
  # To rounding, which moves no spike here.
  np.testing.assert_allclose(
    made(images), simulated(model, variables, images, time_steps=8).logits, rtol=1e-4, atol=1e-4
  )
  maxima = [node.op for node in made.graph.nodes if node.op == "max_pool"]
  gates = [node.name for node in made.graph.nodes if node.op == "neurons" and node.settings]
  assert len(maxima) == (2 if model.pooling == "before" else 0)
  assert gates == (["act1_1", "act2_1"] if model.pooling == "gate" else [])
  if model.pooling != "average":  # BatchNorm is gone, into the convolution before the maximum
    assert not any(node.op == "affine" for node in made.graph.nodes)
  loaded = tcljax.load(tcljax.save(made, tmp_path / "net"))
  assert loaded.graph == made.graph
  np.testing.assert_array_equal(loaded(images), made(images))
  again = tcljax.convert(loaded.model, loaded.variables, (8, 8, 3), made.spiking)
  assert again.graph == made.graph


def test_neurons_are_counted_calibrated_and_diagnosed_before_they_gate(network, images):
  model, variables = network
  maxima_before = model.pooling == "before"
  sizes = {
    "act1_1": 64 if maxima_before else 256,
    "act2_1": 24 if maxima_before else 96,
    "act_dense1": 8,
  }
  assert count_neurons(model, variables, (8, 8, 3)) == sizes
  spiking = tcljax.SpikingConfig(time_steps=8)
  found = tcljax.diagnose(model, variables, images, spiking)
  assert list(found) == list(sizes)
  # The first layer sees constant currents.
  assert found["act1_1"].inherited < 1e-5 and found["act1_1"].total < 0.3
  result = tcljax.evaluate(model, variables, images, np.zeros(16, np.int32), spiking)
  spikes = simulated(model, variables, images, time_steps=8).observed[1]
  for name, count in sizes.items():
    np.testing.assert_allclose(
      result.firing_rates[name], spikes[name]["count"].mean() / count, rtol=1e-5
    )


def test_maxima_before_and_after_a_relu_are_the_same_network(images):
  models = [VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=p) for p in MAXIMA]
  variables = alive(models[0], images)
  for act in (tcljax.ReLU, TCL, functools.partial(Quantized, time_steps=4)):
    before, after = (jax.jit(model.clone(act=act).apply)(variables, images) for model in models)
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)
  average = models[0].clone(pooling="average", act=act)
  assert np.abs(average.apply(variables, images) - before).max() > 0.1


def test_gating_neurons_approach_the_clipped_network_and_maxima_of_currents_do_not(images):
  errors = {}
  for pooling in MAXIMA:
    model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=pooling)
    variables = alive(model, images)
    clipped = jax.jit(model.clone(act=TCL).apply)(variables, images)
    errors[pooling] = [
      float(
        jnp.abs(simulated(model, variables, images, time_steps=steps).logits - clipped).max()
        / jnp.abs(clipped).max()
      )
      for steps in (8, 512)
    ]
  assert errors["gate"][1] < 0.02 < 0.1 < errors["gate"][0]
  assert errors["before"][1] > 0.05  # the maximum of uneven currents lies above that of their means


@pytest.mark.parametrize("pooling", MAXIMA)
def test_gradients_reach_all_thresholds_through_maxima_whatever_the_chunk(images, pooling):
  model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=pooling)
  variables = alive(model, images, instalments=2)

  def loss(clipping, chunk):
    spiking = tcljax.SpikingConfig(time_steps=4, chunk=chunk)
    return jnp.square(
      tcljax.simulate(model, {**variables, "clipping": clipping}, images, spiking).logits
    ).mean()

  gradient = jax.jit(jax.grad(loss), static_argnums=1)
  found = [gradient(variables["clipping"], chunk) for chunk in (1, 4)]
  assert all(float(jnp.abs(g).max()) > 1e-5 for g in jax.tree.leaves(found[0]))
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), *found)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_stem_of_a_resnet_pools_overlapping_windows(images, pooling):
  model = ResNet(num_classes=5, blocks=(1,), widths=(4,), stem="imagenet", pooling=pooling)
  x = np.tile(images, (1, 2, 2, 1))
  variables = alive(model, x)
  made = tcljax.convert(model, variables, (16, 16, 3), tcljax.SpikingConfig(time_steps=6))
  np.testing.assert_allclose(
    made(x), simulated(model, variables, x, time_steps=6).logits, rtol=1e-4, atol=1e-4
  )


def pool(x):
  return nn.max_pool(x, (2, 2), (2, 2))


class Chain(nn.Module):
  """A convolution, then the given steps; each takes the act and the array."""

  steps: tuple
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (3, 3))(x)
    for step in self.steps:
      x = step(self.act, x)
    return x


def neurons(name, **fields):
  return lambda act, x: act(name=name, **fields)(x)


@pytest.mark.parametrize(
  "steps",
  [
    (neurons("a"), lambda act, x: pool(x), lambda act, x: nn.Conv(3, (1, 1))(x)),
    (neurons("a"), lambda act, x: pool(x), neurons("b")),
    (neurons("a"), lambda act, x: pool(2.0 * x[:, 1:]), neurons("b")),
    (lambda act, x: pool(x), lambda act, x: nn.BatchNorm(True)(x), neurons("a")),
    (lambda act, x: pool(x), lambda act, x: act(name="a")(x) + x),
    (lambda act, x: pool(x), lambda act, x: pool(x), neurons("a")),
    (neurons("a"), lambda act, x: pool(nn.Conv(3, (1, 1))(x))),
    (lambda act, x: nn.max_pool(x.swapaxes(0, 1), (2, 2)).swapaxes(0, 1), neurons("a")),
  ],
  ids=[
    "spikes",
    "spikes-into-neurons",
    "scaled-spikes",
    "norm-after",
    "read-twice",
    "of-a-maximum",
    "output",
    "over-examples",
  ],
)
def test_other_maxima_are_refused(steps):
  model = Chain(steps)
  variables = model.init(jax.random.key(0), jnp.ones((2, 8, 8, 3)))
  with pytest.raises(
    ValueError,
    match=r"applies `(reduce_window_max|transpose)` in Chain: "
    "(use average pooling, or give .*MaxPool.*right before the activation|betw)",
  ):
    trace(model, variables, (8, 8, 3))


def test_maxima_of_the_input_and_of_whole_images_are_refused():
  class Input(nn.Module):
    act: object = tcljax.ReLU

    @nn.compact
    def __call__(self, x):
      return self.act(name="a")(pool(x))

  with pytest.raises(ValueError, match="`reduce_window_max` in Input: use average pooling"):
    trace(Input(), {}, (8, 8, 3))
  model = Chain((lambda act, x: x.max(axis=(1, 2)), neurons("a")))
  variables = model.init(jax.random.key(0), jnp.ones((2, 8, 8, 3)))
  with pytest.raises(ValueError, match="`reduce_max` in Chain: use average pooling"):
    trace(model, variables, (8, 8, 3))


def test_damaged_gates_are_told(images, tmp_path):
  model = VGG(num_classes=5, stages=((4,),), dense=(), pooling="gate")
  path = tcljax.save(tcljax.convert(model, alive(model, images), (8, 8, 3)), tmp_path / "net")
  text = (path / "network.json").read_text()
  for settings in ([["window", 0]], [["window", 2], ["size", 2]], [["window", 16]]):
    description = json.loads(text)
    next(n for n in description["nodes"] if n["op"] == "neurons")["settings"] = settings
    (path / "network.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="cannot be read"):
      tcljax.load(path)


def test_an_unknown_pooling_is_told(images):
  for model in (
    VGG(num_classes=5, stages=((4,),), dense=(), pooling="max"),
    ResNet(num_classes=5, blocks=(1,), widths=(4,), pooling="max"),
  ):
    with pytest.raises(ValueError, match="pooling='max' is unknown: choose one of average, before"):
      model.init(jax.random.key(0), images)
  model = ResNet(num_classes=5, blocks=(1,), widths=(4,), pooling="gate")
  with pytest.raises(ValueError, match="pooling='gate' is of stem='imagenet', and stem='cifar'"):
    model.init(jax.random.key(0), images)


def test_a_maximum_of_a_branch_beside_its_shortcut_is_traced(images):
  model = Chain((neurons("a"), lambda act, x: act(name="b")(pool(nn.Conv(4, (1, 1))(x) + x))))
  variables = alive(model, images)
  made = tcljax.convert(model, variables, (8, 8, 3), tcljax.SpikingConfig(time_steps=4))
  np.testing.assert_allclose(
    made(images), simulated(model, variables, images, time_steps=4).logits, rtol=1e-4, atol=1e-4
  )
