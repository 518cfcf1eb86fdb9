"""NIR graphs of other programs as networks."""

import nir
import numpy as np
import pytest
from nir_networks import spikes_of, weights

import tcljax

SOFT = tcljax.SpikingConfig(time_steps=8)
_ONE = np.ones((3, 4, 4), np.float32)


def neurons(threshold=1.0, shape=(3, 4, 4), **fields):
  ones = np.ones(shape, np.float32)
  return nir.IF(**{"r": ones, "v_threshold": ones * threshold, "v_reset": 0 * ones, **fields})


def convolution(**fields):
  plain = {"input_shape": None, "weight": weights(3, 2, 3, 3), "stride": 1, "padding": 1}
  return nir.Conv2d(**{**plain, "dilation": 1, "groups": 1, "bias": weights(3), **fields})


def graph(*nodes, shape=(2, 4, 4), **metadata):
  made = nir.NIRGraph.from_list(
    nir.Input({"input": np.array(shape)}), *nodes, nir.Output({"output": None})
  )
  made.metadata = metadata
  return made


def answers(network, count=2):
  """The ANN of a network: what its ReLUs make of images."""
  x = np.float32(np.random.default_rng(0).integers(-8, 9, (count, *network.input_shape)) / 8)
  return x, np.asarray(network.model.apply(network.variables, x))


def test_thresholds_and_resistances_are_put_before_the_neurons():
  """Of every neuron of its own."""
  threshold = np.arange(1, 49).reshape(3, 4, 4) / np.float32(8)
  node = neurons(v_threshold=threshold, r=np.full((3, 4, 4), 2, np.float32))
  network = tcljax.from_nir(graph(node, shape=(3, 4, 4)), SOFT)
  x = np.ones((1, 4, 4, 3), np.float32)
  fired = spikes_of(network, x)[0]["if"].sum(0)[0]
  expected = np.minimum(np.floor(8 * 2 / threshold), 8)
  np.testing.assert_array_equal(fired, np.moveaxis(expected, 0, -1))
  assert network.graph.populations() == ["if"]


def test_layers_are_those_of_torch():
  torch = pytest.importorskip("torch")
  pooled = {
    "kernel_size": np.array([2, 1]),
    "stride": np.array([2, 1]),
    "padding": np.array([0, 0]),
  }
  scale = np.float32([1, 2, 0.5]).reshape(3, 1, 1) * _ONE
  network = tcljax.from_nir(
    graph(
      convolution(padding="same", dilation=2),
      nir.Scale(scale),
      neurons(2.0),
      nir.AvgPool2d(**pooled),
      nir.SumPool2d(**pooled),
      nir.Flatten({"input": None}, 0, -1),
      nir.Affine(weights(5, 12), weights(5)),
      nir.Linear(weights(2, 5)),
    ),
    SOFT,
  )
  x, found = answers(network)
  with torch.no_grad():
    y = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    y = torch.nn.functional.conv2d(
      y, torch.from_numpy(weights(3, 2, 3, 3)), torch.from_numpy(weights(3)), 1, 2, 2
    )
    y = (y * torch.from_numpy(scale) / 2).relu()
    y = torch.nn.functional.avg_pool2d(y, (2, 1)).unfold(2, 2, 2).sum(-1).flatten(1)
    y = torch.nn.functional.linear(y, *map(torch.from_numpy, (weights(5, 12), weights(5))))
    y = torch.nn.functional.linear(y, torch.from_numpy(weights(2, 5)))
  np.testing.assert_allclose(found, y.numpy(), rtol=1e-5, atol=1e-5)


def test_edges_that_meet_are_added():
  nodes = {
    "input": nir.Input({"input": np.array([4])}),
    "a": nir.Affine(weights(4, 4), weights(4)),
    "b": neurons(shape=(4,)),
    "output": nir.Output({"output": np.array([4])}),
  }
  edges = [("input", "a"), ("input", "b"), ("a", "b"), ("b", "output")]
  network = tcljax.from_nir(nir.NIRGraph(nodes, edges), SOFT)
  x, found = answers(network)
  expected = np.maximum(x + x @ weights(4, 4).T + weights(4), 0)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def recurrent():
  made = graph(convolution(), neurons())
  made.edges.append(("if", "if"))
  return made


def two_inputs():
  made = graph(convolution(), neurons())
  made.nodes["more"] = nir.Input({"input": np.array([2, 4, 4])})
  made.edges.append(("more", "conv2d"))
  return made


_LIF = nir.LIF(tau=_ONE, r=_ONE, v_leak=0 * _ONE, v_threshold=_ONE)


@pytest.mark.parametrize(
  ("made", "message"),
  [
    (graph(convolution(), _LIF), "node 'lif': it is of type LIF, and tcljax has Affine, AvgPool2d"),
    (recurrent(), "the graph is recurrent, and tcljax has none such: 'if -> if'"),
    (two_inputs(), "node 'more': it is a second input|node 'input': it is a second input"),
    (graph(convolution(), neurons(v_reset=_ONE)), "node 'if': it has a v_reset that is not 0"),
    (graph(convolution(), neurons(0.0)), "node 'if': its v_threshold and r must be above 0"),
    (
      graph(convolution(), neurons(metadata={"initial_potential": np.arange(48).reshape(3, 4, 4)})),
      "node 'if': its initial potential differs within a channel",
    ),
    (
      graph(convolution(), neurons(), nir.Flatten({"input": None}, 1, -1)),
      "node 'flatten': it flattens axes 1 to 2 of 3",
    ),
    (
      graph(convolution(weight=np.full((3, 2, 3, 3), np.nan, np.float32)), neurons()),
      "kernel of 'conv:1' holds 54 NaN",
    ),
    (7, "graph=7 must be a path"),
  ],
)
def test_what_tcljax_has_not_is_refused_by_name(made, message):
  with pytest.raises(ValueError, match=message) as refused:
    tcljax.from_nir(made, SOFT)
  assert "\n" not in str(refused.value)


def test_resistances_are_those_of_a_step():
  node = neurons(r=np.full((3, 4, 4), 1e4, np.float32), shape=(3, 4, 4))
  (fine, coarse), x = (graph(node, shape=(3, 4, 4)), graph(neurons(), shape=(3, 4, 4))), 0.3
  x = np.full((1, 4, 4, 3), x, np.float32)
  fired, expected = (
    spikes_of(network, x)[0]["if"]
    for network in (tcljax.from_nir(fine, SOFT, dt=1e-4), tcljax.from_nir(coarse, SOFT))
  )
  assert expected.any()
  np.testing.assert_array_equal(fired, expected)
  for dt in (0, -1.0, np.inf, np.nan, "1"):
    with pytest.raises(ValueError, match="dt="):
      tcljax.from_nir(coarse, SOFT, dt=dt)


def test_the_reset_must_be_said():
  made = graph(convolution(), neurons())
  with pytest.raises(ValueError, match=r"does not say how its neurons are reset, .* give spiking="):
    tcljax.from_nir(made)
  made.metadata = {"reset": "hard", "time_steps": np.int64(5)}
  read = tcljax.from_nir(made).spiking
  assert (read.neuron.reset, read.time_steps) == ("hard", 5)
  made.metadata = {"reset": "never"}
  with pytest.raises(ValueError, match="metadata cannot be used: reset='never'"):
    tcljax.from_nir(made)


def test_files_that_are_none_are_told(tmp_path):
  (tmp_path / "text.nir").write_text("no HDF5")
  for name in ("text.nir", "nowhere.nir"):
    with pytest.raises(ValueError, match=f"{name}' cannot be read as NIR: ") as refused:
      tcljax.from_nir(tmp_path / name)
    assert "\n" not in str(refused.value)
