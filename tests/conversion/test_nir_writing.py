"""Networks as NIR graphs."""

import dataclasses
import json

import h5py
import jax
import nir
import numpy as np
import pytest
from nir_networks import SHAPE, conv, converted, everything, head, images, spikes_of

import tcljax
from tcljax.graph import Graph, Node

relu = jax.nn.relu


def hand_made(nodes, arrays, output=None, shape=SHAPE, inputs="input:0", threshold=1.0):
  """A network of nodes that somebody wrote."""
  names = [name for name, op, *_ in nodes if op == "neurons"]
  held = {"raw_threshold": np.float32(tcljax.raw_from_threshold(threshold)), "v_init": 0.5}
  made = tuple(
    Node(name, op, tuple(of), tuple(settings.items())) for name, op, of, settings in nodes
  )
  graph = Graph(made, output or nodes[-1][0], inputs)
  variables = {"params": arrays, "clipping": dict.fromkeys(names, held)}
  return tcljax.SpikingNetwork(graph, variables, shape)


def convolution(**settings):
  """The settings of one of size 1, but for these."""
  ones = {key: (1, 1) for key in ("window_strides", "lhs_dilation", "rhs_dilation")}
  return {**ones, "padding": ((0, 0), (0, 0)), "feature_group_count": 1, **settings}


def windows(size, **settings):
  """The settings of windows that do not overlap, but for these."""
  ones = {key: (1,) * 4 for key in ("base_dilation", "window_dilation")}
  return {
    "window_dimensions": size,
    "window_strides": size,
    "padding": ((0, 0),) * 4,
    **ones,
    **settings,
  }


_CONV = {"c": {"kernel": np.ones((1, 1, 2, 2), np.float32)}}
_POOL = {"window": 2, "stride": 2, "padding": 0, "of": "spikes"}
_FIRST = ("a", "neurons", ["input:0"], {})


@pytest.fixture(scope="module")
def network():
  made = converted(everything, v_init=[0.5, 1.0, -0.5, 0.25], time_steps=16)
  return dataclasses.replace(made, metadata={"dataset": "noise", "scale": [1 / 3, 2]})


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
  path = tmp_path_factory.mktemp("nir") / "network.nir"
  tcljax.to_nir(network, path)
  return path


def test_all_that_nir_can_say_fires_alike_once_it_is_read_back(network, path):
  read = tcljax.from_nir(path)
  assert read.spiking == network.spiking and read.metadata == network.metadata
  x = images()
  (fired, outputs), (fired_read, outputs_read) = spikes_of(network, x), spikes_of(read, x)
  assert set(fired) == set(fired_read) and len(fired) == 7
  for name, spikes in fired.items():
    assert 0.02 < spikes.mean() < 0.98, name
    np.testing.assert_array_equal(spikes, fired_read[name], err_msg=name)
  np.testing.assert_allclose(outputs, outputs_read, atol=1e-6)


def test_files_hold_what_every_reader_takes(network, path):
  graph = nir.read(path)  # which checks that all shapes fit
  kinds = {type(node).__name__ for node in graph.nodes.values()}
  assert kinds == {"Input", "Conv2d", "Affine", "SumPool2d", "Flatten", "IF", "Output"}
  assert sum(target == "output" for _, target in graph.edges) == 1
  assert len(graph.inputs) == len(graph.outputs) == 1 and len(set(graph.edges)) == len(graph.edges)
  populations = set()
  for name, node in graph.nodes.items():
    assert name.isidentifier()
    if isinstance(node, nir.IF):
      assert np.all(node.v_threshold == 1) and np.all(node.r == 1) and np.all(node.v_reset == 0)
      assert node.metadata["initial_potential"].shape == node.v_threshold.shape
      later = node.metadata["later_currents"]
      assert [np.unique(part).tolist() for part in later] == [[0.25], [-0.125], [0.0625]]
      populations.add(node.metadata["population"])
    if isinstance(node, nir.Conv2d):
      assert node.groups == 1 and node.weight.shape[2] == node.weight.shape[3]
      assert np.shape(node.padding) == (2,) and node.weight.dtype == node.bias.dtype == np.float32
    if isinstance(node, nir.SumPool2d):
      assert not np.any(node.padding)
  assert populations == set(network.graph.populations())


def test_the_metadata_say_what_nir_has_no_words_for(network):
  hard = tcljax.SpikingConfig(time_steps=12, neuron={"reset": "hard"}, delay=2)
  said = tcljax.to_nir(dataclasses.replace(network, spiking=hard)).metadata
  assert said["reset"] == "hard" and said["fires"] == "v >= v_threshold"
  assert (said["time_steps"], said["delay"], said["encoding"]) == (12, 2, "constant")
  assert json.loads(said["network"]) == network.metadata


def test_tau_is_in_the_weights():
  """Spikes of height 1, whose neurons compare their currents with 1."""
  nodes = [("c", "conv", ["input:0"], convolution()), ("a", "neurons", ["c"], {})]
  nodes.append(("d", "conv", ["a"], convolution()))
  bias = {"c": {**_CONV["c"], "bias": np.float32([1, -1])}, "d": _CONV["c"]}
  nodes = tcljax.to_nir(hand_made(nodes, bias, threshold=4.0)).nodes
  assert np.all(nodes["c"].weight == 0.25) and nodes["c"].bias.tolist() == [0.25, -0.25]
  assert np.all(nodes["if_a"].v_threshold == 1) and np.all(nodes["d"].weight == 4)


def test_neurons_that_read_what_has_no_weights_keep_their_threshold():
  nodes = [_FIRST, ("s", "affine", ["a"], {}), ("b", "neurons", ["s"], {})]
  quarter = {"scale": np.full((1, 1, 1), 0.25), "shift": np.zeros((1, 1, 1))}
  nodes = tcljax.to_nir(hand_made(nodes, {"s": quarter})).nodes
  assert list(nodes) == ["input", "if_a", "if_b", "output"]
  assert np.all(nodes["if_a"].v_threshold == 1) and np.all(nodes["if_b"].v_threshold == 4)
  assert np.all(nodes["if_b"].metadata["initial_potential"] == 2)


@pytest.mark.parametrize("reads", ["neurons", "conv"])
def test_a_constant_is_added_once_where_branches_meet(reads):
  shifted = {"scale": np.full((1, 1, 1), 2.0), "shift": np.full((1, 1, 1), 3.0)}
  nodes = [_FIRST, ("b", "neurons", ["input:0"], {}), ("s", "add", ["a", "b"], {})]
  nodes += [
    ("t", "affine", ["s"], {}),
    ("n", reads, ["t"], convolution() if reads == "conv" else {}),
  ]
  arrays = {"t": shifted, "n": {**_CONV["c"], "bias": np.float32([1, 1])}}
  nodes += [("f", "neurons", ["n"], {})]
  graph = tcljax.to_nir(hand_made(nodes, arrays))
  weighted = [node for node in graph.nodes.values() if isinstance(node, nir.Conv2d)]
  assert len(weighted) == 2
  expected = 3 if reads == "neurons" else 3 * 2 + 1
  assert sum(node.bias for node in weighted).tolist() == [expected] * 2


def test_images_of_one_axis_are_conv1d():
  def function(x):
    a = relu(conv(x, 4, stride=2))
    return head(relu(conv(a, 4, feature_group_count=2)) + a)

  network = converted(function, (9, 2), time_steps=8)
  graph = tcljax.to_nir(network)
  assert sum(isinstance(node, nir.Conv1d) for node in graph.nodes.values()) == 2
  x = images()[0, :3].reshape(2, 9, 2)
  (fired, _), (read, _) = spikes_of(network, x), spikes_of(tcljax.from_nir(graph), x)
  assert all(np.array_equal(spikes, read[name]) for name, spikes in fired.items())


@pytest.mark.parametrize(
  ("nodes", "arrays", "message"),
  [
    ([("a", "neurons", ["input:0"], _POOL)], {}, "neurons 'a': its neurons pass on maxima"),
    ([("m", "max_pool", ["input:0"], windows((1, 2, 2, 1)))], {}, "max_pool 'm': it has no such"),
    (
      [("c", "conv", ["input:0"], convolution(lhs_dilation=(2, 2)))],
      _CONV,
      "conv 'c': it is transposed",
    ),
    (
      [_FIRST, ("t", "reshape", ["a"], {"shape": (36, 2)}), ("b", "neurons", ["t"], {})],
      {},
      "neurons 'b', which reads 't': it makes a value of 2 axes of one of 3",
    ),
    (
      [_FIRST, ("z", "affine", ["a"], {}), ("b", "neurons", ["z"], {})],
      {"z": {"scale": np.zeros((1, 1, 1)), "shift": np.ones((1, 1, 1))}},
      "neurons 'b', which reads 'z': nothing that depends on the input",
    ),
  ],
)
def test_what_nir_cannot_say_is_refused_by_name(nodes, arrays, message):
  with pytest.raises(ValueError, match="^NIR cannot say " + message) as refused:
    tcljax.to_nir(hand_made(nodes, arrays))
  assert "\n" not in str(refused.value)


def test_names_of_inputs_and_outputs_are_kept_for_these():
  nodes = [
    ("output", "conv", ["input:0"], convolution()),
    ("input", "conv", ["output"], convolution()),
  ]
  graph = tcljax.to_nir(hand_made(nodes, {"output": _CONV["c"], "input": _CONV["c"]}))
  assert list(graph.nodes) == ["input", "output_2", "input_2", "output"]
  assert isinstance(graph.nodes["output"], nir.Output) and len(graph.edges) == 3


def test_several_inputs_or_outputs_are_refused():
  both = ("input:0", "input:1")
  nodes = [("s", "add", both, {}), _FIRST]
  with pytest.raises(ValueError, match="takes several inputs"):
    tcljax.to_nir(hand_made(nodes, {}, shape=(SHAPE, SHAPE), inputs=both))
  with pytest.raises(ValueError, match="has several outputs"):
    tcljax.to_nir(hand_made([_FIRST, ("b", "neurons", ["a"], {})], {}, output=("a", "b")))


def test_a_path_that_cannot_be_written_is_told(tmp_path, network):
  for path in (tmp_path / "nowhere" / "network.nir", tmp_path):
    with pytest.raises(ValueError, match="is no file in a folder that is there"):
      tcljax.to_nir(network, path)
  with pytest.raises(ValueError, match="path=7 must be a path"):
    tcljax.to_nir(network, 7)
  with pytest.raises(ValueError, match="network"):
    tcljax.to_nir("network.nir")


def test_files_of_other_formats_are_not_replaced(tmp_path, network):
  path = tmp_path / "network.nir"
  with h5py.File(path, "w") as held:  # as Keras has its weights
    held["layers"] = np.ones(3)
  for written in (path.read_bytes(), b"def network(): ...", b"\x89HDF"):
    path.write_bytes(written)
    with pytest.raises(ValueError, match="is a file of something else than NIR, and would be lost"):
      tcljax.to_nir(network, path)
    assert path.read_bytes() == written
  with pytest.raises(ValueError, match="cannot be read: File name too long"):
    tcljax.to_nir(network, tmp_path / ("n" * 300))
  path.write_text("")
  for _ in range(2):  # into an empty one, and over one of its own
    tcljax.to_nir(network, path)
  assert tcljax.from_nir(path).graph.populations() == network.graph.populations()


def test_an_output_without_axes_is_refused():
  made = converted(lambda x: relu(head(x)).sum(axis=-1))
  with pytest.raises(ValueError, match=r"the output '.*' has no axis but the batch.*\[B, 1\]"):
    tcljax.to_nir(made)


@pytest.mark.parametrize(
  "fields, name",
  [({"burst": 4}, "burst-4"), ({"signed": True}, "signed"), ({"phase": 4}, "phase-4")],
)
def test_neurons_that_nir_does_not_know_are_refused(fields, name, tmp_path):
  made = hand_made([_FIRST], {}, output="a")
  spiking = tcljax.SpikingConfig(4, neuron=tcljax.Neuron(**fields))
  with pytest.raises(ValueError, match=f"the network's neurons are {name}, and NIR knows binary"):
    tcljax.to_nir(dataclasses.replace(made, spiking=spiking), tmp_path / "net.nir")
  assert not [*tmp_path.iterdir()]
