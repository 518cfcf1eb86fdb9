"""Layers in bfloat16; thresholds, potentials and converted networks in float32."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from running import calibrate_plainly, run_train

import tcljax
from tcljax.commands import convert
from tcljax.graph import GraphNetwork, trace_model
from tcljax.layers.integrate_and_fire import IF
from tcljax.models import VGG, ResNet, create_model

MODELS = [
  VGG(num_classes=5, stages=((8,), (16,)), dense=(16,), pooling="gate"),
  ResNet(num_classes=5, blocks=(1, 1), widths=(8, 16), shortcut="projection"),
]


@pytest.fixture(scope="module", params=MODELS, ids=["vgg", "resnet"])
def network(request, images):
  model = request.param.clone(dtype="bfloat16")
  variables = jax.jit(model.init)(jax.random.key(0), images)
  return model, calibrate_plainly(model, variables, images, per_channel=True)


def test_layers_compute_in_bfloat16_and_everything_else_is_float32(network, images):
  model, variables = network
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32
  computed = {}
  for act in (tcljax.ReLU, tcljax.TCL):
    logits, state = model.clone(act=act).apply(
      variables, images, train=True, capture_intermediates=True, mutable=True
    )
    assert logits.dtype == jnp.float32
    assert {a.dtype for a in jax.tree.leaves(state["batch_stats"])} == {jnp.dtype(jnp.float32)}
    for path, (a,) in traverse_util.flatten_dict(state["intermediates"]).items():
      computed[path[-2] if len(path) > 1 else "logits"] = a.dtype
  layers = {
    name: dtype
    for name, dtype in computed.items()
    if name.startswith(("conv", "norm", "stem", "act", "dense", "projection"))
  }
  assert len(layers) > 5 and set(layers.values()) == {jnp.dtype(jnp.bfloat16)}
  snn = model.clone(act=IF)
  _, state = snn.apply(variables, images, mutable=["membrane"])
  logits, state = snn.apply({**variables, **state}, images, mutable=["membrane"])
  assert logits.dtype == jnp.float32
  for path, leaf in jax.tree_util.tree_leaves_with_path(state["membrane"]):
    assert leaf.dtype == (jnp.int32 if path[-1].key == "step" else jnp.float32)


@pytest.mark.slow
def test_answers_are_near_those_in_float32(network, images):
  model, variables = network
  exact = model.clone(dtype="float32")
  coarse, fine = (jax.jit(m.apply)(variables, images) for m in (model, exact))
  size = float(np.abs(fine).max())
  assert 1e-5 * size < np.abs(coarse - fine).max() < 0.05 * size
  coarse, fine = (
    jax.jit(lambda v, x, m=m: tcljax.simulate(m, v, x, tcljax.SpikingConfig(time_steps=8)).logits)(
      variables, images
    )
    for m in (model, exact)
  )
  assert np.abs(coarse - fine).mean() < 0.1 * np.abs(fine).mean()


def test_a_converted_network_computes_in_float32(network, images, tmp_path):
  model, variables = network
  one, other = (
    tcljax.convert(m, variables, (8, 8, 3)) for m in (model, model.clone(dtype="float32"))
  )
  assert one.graph == other.graph
  jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
  assert {a.dtype for a in jax.tree.leaves(one.variables)} == {jnp.dtype(jnp.float32)}
  assert one(images).dtype == jnp.float32


def test_an_unknown_type_is_told(images):
  for model in (create_model("cnn", 3, dtype="float16"), create_model("resnet20", 3, dtype="half")):
    with pytest.raises(ValueError, match=r"dtype='.*' is unknown: choose one of float32, b"):
      model.init(jax.random.key(0), images)


def test_a_model_that_knows_nothing_but_bfloat16_is_traced_into_float32(rng):
  class Coarse(nn.Module):
    act: object = tcljax.ReLU

    @nn.compact
    def __call__(self, x):
      x = self.act(name="a")(nn.Dense(6, dtype=jnp.bfloat16)(x))
      return nn.Dense(3, dtype=jnp.bfloat16)(x)

  x = rng.normal(size=(4, 5)).astype(np.float32)
  variables = Coarse().init(jax.random.key(0), x)
  graph, arrays = trace_model(Coarse(), variables, (5,))
  assert {a.dtype for a in jax.tree.leaves(arrays)} <= {np.dtype(np.float32), np.dtype(np.float64)}
  np.testing.assert_allclose(
    GraphNetwork(graph).apply({"params": arrays}, x), Coarse().apply(variables, x), atol=0.02
  )


@pytest.mark.slow
def test_a_network_trained_in_bfloat16_is_converted(tmp_path):
  overrides = ("--config.model.dtype=bfloat16", "--config.model.pooling=gate")
  assert run_train(tmp_path / "run", *overrides) == 0
  flags = (f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'snn'}", "--noreport")
  assert convert.main(["convert.py", *flags]) == 0
  results = json.loads((tmp_path / "snn" / "results.json").read_text())
  # Against the simulation in float32: what BatchNorm's folding moves, not what precision does.
  assert results["largest_change_by_folding"] <= 0.56
  network = tcljax.load(tmp_path / "snn")
  gates = [node for node in network.graph.nodes if node.op == "neurons" and node.settings]
  assert len(gates) == 2 and network(np.zeros((1, 8, 8, 1))).dtype == jnp.float32
