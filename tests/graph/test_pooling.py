"""Which maxima are traced and converted, which are refused, and damaged gates on disk."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import alive, relative_error, simulated

import tcljax
from tcljax.graph import trace_model
from tcljax.models import VGG
from tcljax.models.pooling import POOLINGS


@pytest.fixture(scope="module", params=POOLINGS)
def network(request, images):
  model = VGG(num_classes=5, stages=((4,), (6,)), dense=(8,), pooling=request.param)
  return model, alive(model, images, per_channel=True)


@pytest.mark.bits
def test_converted_read_back_and_converted_again(network, images, tmp_path):
  model, variables = network
  made = tcljax.convert(model, variables, (8, 8, 3), tcljax.SpikingConfig(time_steps=8))
  assert np.std(made(images), axis=0).min() > 0.01
  # To rounding, which moves no spike here.
  np.testing.assert_allclose(
    made(images), simulated(model, variables, images, time_steps=8).logits, rtol=1e-4, atol=1e-4
  )
  of = {"before": "currents", "gate": "spikes"}.get(model.pooling)
  pooled = {
    node.name: dict(node.settings)["of"]
    for node in made.graph.nodes
    if node.settings and node.op == "neurons"
  }
  assert pooled == ({"act1_1": of, "act2_1": of} if of else {})
  if model.pooling != "average":  # BatchNorm is gone, into the convolution before the maximum
    assert not any(node.op == "affine" for node in made.graph.nodes)
  loaded = tcljax.load(tcljax.save(made, tmp_path / "net"))
  assert loaded.graph == made.graph
  np.testing.assert_array_equal(loaded(images), made(images))
  again = tcljax.convert(loaded.model, loaded.variables, (8, 8, 3), made.spiking)
  assert again.graph == made.graph


class Windows(nn.Module):
  """Rectangular and "SAME" windows and upper limits: of Flax's own functions, or given to `act`."""

  plain: bool = False
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    def passed(name, x, window, stride, padding, **fields):
      if not self.plain:
        gate = tcljax.MaxPool(window, stride, padding, **fields)
        return self.act(name=name, max_pool=gate, bound=0.5)(x)
      sizes = window if isinstance(window, tuple) else (window,) * 2
      return nn.max_pool(jnp.clip(x, 0, 0.5), sizes, stride, padding)

    x = passed("same", nn.Conv(4, (3, 3))(x), 3, (2, 2), "SAME")
    x = passed("rows", nn.Conv(6, (1, 1))(x), (1, 3), (1, 2), ((0, 0), (1, 0)), of="currents")
    return nn.Dense(5)(x.reshape(x.shape[0], -1))


def test_windows_of_every_kind_and_bounds_come_to_flax_and_survive_the_disk(images, tmp_path):
  model = Windows()
  images = images[:8, :, :7]
  variables = alive(model, images, per_channel=True)
  expected = Windows(plain=True).apply(variables, images)
  np.testing.assert_array_equal(model.apply(variables, images), expected)
  taus = tcljax.thresholds(variables)
  assert all(0.4 < tau.max() < 0.5001 for tau in taus.values())
  clipped = model.clone(act=tcljax.TCL).apply(variables, images)
  assert relative_error(clipped, expected) < 0.2
  made = tcljax.convert(model, variables, (8, 7, 3), tcljax.SpikingConfig(time_steps=8))
  settings = {n.name: dict(n.settings) for n in made.graph.nodes if n.op == "neurons"}
  assert [settings[name]["padding"] for name in settings] == ["SAME", ((0, 0), (1, 0))]
  assert all(of["bound"] == 0.5 for of in settings.values())
  loaded = tcljax.load(tcljax.save(made, tmp_path / "net"))
  assert loaded.graph == made.graph
  np.testing.assert_array_equal(loaded(images), made(images))
  assert relative_error(loaded(images, time_steps=512), clipped) < 0.02


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
    match=r"applies `(reduce_window_max|transpose)` in Chain.*: "
    "(use average pooling, or give .*MaxPool.*|each example is to be answered by itself)",
  ):
    trace_model(model, variables, (8, 8, 3))


def test_maxima_of_the_input_and_of_whole_images_are_refused():
  class Input(nn.Module):
    act: object = tcljax.ReLU

    @nn.compact
    def __call__(self, x):
      return self.act(name="a")(pool(x))

  with pytest.raises(ValueError, match=r"`reduce_window_max` in Input.*: use average pooling"):
    trace_model(Input(), {}, (8, 8, 3))
  model = Chain((lambda act, x: x.max(axis=(1, 2)), neurons("a")))
  variables = model.init(jax.random.key(0), jnp.ones((2, 8, 8, 3)))
  with pytest.raises(ValueError, match=r"`reduce_max` in Chain.*: use average pooling"):
    trace_model(model, variables, (8, 8, 3))


def test_damaged_gates_are_told(images, tmp_path):
  model = VGG(num_classes=5, stages=((4,),), dense=(), pooling="gate")
  path = tcljax.save(tcljax.convert(model, alive(model, images), (8, 8, 3)), tmp_path / "net")
  text = (path / "network.json").read_text()
  three = {"window": [2, 2, 2], "stride": 2, "padding": 0, "of": "spikes"}
  for settings in ([["window", 0]], [["window", 2], ["size", 2]], [["window", 16]], three):
    description = json.loads(text)
    next(n for n in description["nodes"] if n["op"] == "neurons")["settings"] = settings
    (path / "network.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="cannot be read"):
      tcljax.load(path)


def test_a_maximum_of_a_branch_beside_its_shortcut_is_traced(images):
  model = Chain((neurons("a"), lambda act, x: act(name="b")(pool(nn.Conv(4, (1, 1))(x) + x))))
  told = (
    "takes a maximum, by `reduce_window_max` in Chain .* right before activation 'b'.*of='currents'"
  )
  with pytest.warns(UserWarning, match=told):
    variables = alive(model, images)
  with pytest.warns(UserWarning, match=told):
    made = tcljax.convert(model, variables, (8, 8, 3), tcljax.SpikingConfig(time_steps=4))
  np.testing.assert_allclose(
    made(images), simulated(model, variables, images, time_steps=4).logits, rtol=1e-4, atol=1e-4
  )
