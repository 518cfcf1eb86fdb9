"""A spiking network as a graph of the Neuromorphic Intermediate Representation (NIR).

docs/neuromorphic.md says what the file holds and how other programs run it.
"""

import importlib.metadata
import io
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from tcljax.conversion.network import SpikingNetwork, check_network
from tcljax.conversion.strict_json import to_json
from tcljax.files import checked_path, why, written_beside
from tcljax.frameworks.importing import framework
from tcljax.graph import Node
from tcljax.graph.nir_net import INPUT, OUTPUT, Net
from tcljax.graph.operations import find
from tcljax.graph.record import Kind, Refused
from tcljax.graph.wires import Value, channels_first, sent_by
from tcljax.layers.collections import CLIPPING, PARAMS, RAW_THRESHOLD, V_INIT
from tcljax.maths import clipping

if TYPE_CHECKING:
  import nir


def to_nir(network: SpikingNetwork, path: str | pathlib.Path | None = None) -> "nir.NIRGraph":
  """A spiking network as a NIR graph, which simulators and chips of others read.

  Its nodes are Input, Conv2d, Conv1d, Affine, SumPool2d, Flatten, IF and Output, channels first.
  Spikes are 0 and 1: tau is in the weights, and thresholds are 1 wherever these can take up the
  rest. What no node moves, as `split`, `concatenate` or `pad`, is in the weights too. NIR has no
  words for how neurons are reset and how they start. That is in the metadata, with T and all that
  belongs to the network.

  Args:
    network: from `convert` or `load`, of one input and one output.
    path: of a file to write the graph to, in the format HDF5; one of a graph that is there is
      replaced.

  Returns:
    The graph; its neurons fire as those of the network do, to rounding.

  Raises:
    ValueError: if the package `nir` is not installed, if NIR cannot say what the network does,
      naming the node and why, if the file cannot be written, or if it would replace something else.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> graph = tcljax.to_nir(tcljax.convert(model, variables, (4, 4, 1)))
    >>> [type(node).__name__ for node in graph.nodes.values()]
    ['Input', 'Conv2d', 'IF', 'SumPool2d', 'Flatten', 'Affine', 'Output']
  """
  nir = framework("nir", "nir")
  check_network(network)
  if path is not None:
    path = check_nir_path(path)
  if not network.spiking.neuron.is_binary:
    raise ValueError(
      f"the network's neurons are {network.spiking.neuron.alphabet}, and NIR knows binary ones "
      "alone: tune and convert it with Neuron(burst=1, signed=False, phase=1)"
    )
  graph, net = network.graph, Net()
  if not isinstance(graph.inputs, str) or not isinstance(network.input_shape, tuple):
    raise ValueError("the network takes several inputs, and readers of NIR give it one")
  if not isinstance(graph.output, str):
    raise ValueError("the network has several outputs, and readers of NIR take one")
  shape = channels_first(network.input_shape)
  net.add(INPUT, nir.Input(input_type={"input": np.array(shape)}), [])
  values, consumers = {graph.inputs: sent_by(INPUT, network.input_shape)}, graph.consumers()
  for node in graph.nodes:
    arrays = _arrays(network, node)
    value = _written(net, node, values, arrays)
    values[node.name] = value.shared() if consumers[node.name] > 1 else value
  value = values[graph.output]
  if not value.shape:
    raise ValueError(
      f"the output {graph.output!r} has no axis but the batch, and that of NIR has one or more: "
      "let the network keep its last axis, [B, 1]"
    )
  try:
    sources = net.settled(OUTPUT, value, np.ones(value.shape[-1]))
    # SpikingJelly, by nirtorch, takes one node for the output alone.
    last = net.joined(f"{OUTPUT}_sum", sources, value.shape)
  except Refused as refused:
    raise ValueError(_told(f"the output {graph.output!r}", [value], refused)) from refused
  made = nir.Output(output_type={"output": np.array(channels_first(value.shape))})
  net.add(OUTPUT, made, [last])
  nodes = net.finished()
  found = nir.NIRGraph(nodes, net.edges, metadata=_metadata(network))
  if path is not None:
    data = io.BytesIO()
    nir.write(data, found)
    with written_beside(path) as beside:
      beside.write_bytes(data.getbuffer())
  return found


def check_nir_path(path: str | pathlib.Path, field: str = "path") -> pathlib.Path:
  """The path of a file that `to_nir` can write; nothing is written.

  Args:
    path: where a user wants the file.
    field: the name that the user knows it by.

  Raises:
    ValueError: if it is no path, its folder is not there, or it is a file of something else, which
      would be lost.
  """
  path = checked_path(field, path)
  told = f"{field}={str(path)!r}"
  try:
    fits = path.absolute().parent.is_dir() and (path.is_file() or not path.exists())
    foreign = fits and path.exists() and not _is_nir(path)
  except OSError as error:
    raise ValueError(
      f"{told} cannot be read: {error.strerror or why(error)}: give another path, or remove it"
    ) from error
  if not fits:
    raise ValueError(f"{told} is no file in a folder that is there: give another path")
  if foreign:
    raise ValueError(
      f"{told} is a file of something else than NIR, and would be lost: give another path, or "
      "remove it"
    )
  return path


def _is_nir(path: pathlib.Path) -> bool:
  """Whether a file is empty or holds a graph; other programs write HDF5 too."""
  if not path.stat().st_size:
    return True
  h5py = framework("h5py", "nir")
  if not h5py.is_hdf5(path):
    return False
  with h5py.File(path, "r") as held:
    return {"node", "version"} <= held.keys()


def _arrays(network: SpikingNetwork, node: Node) -> dict[str, np.ndarray]:
  """The arrays of a node; of neurons the threshold that holds, and their initial potential."""
  collection = CLIPPING if find(node.op).kind is Kind.NEURONS else PARAMS
  held = network.variables.get(collection, {}).get(node.name, {})
  held = {key: np.asarray(array) for key, array in held.items()}
  if collection == PARAMS:
    return held
  bound: Any = dict(node.settings).get("bound")
  tau = clipping.bounded(clipping.threshold_from_raw(held[RAW_THRESHOLD]), bound)
  parts = clipping.instalments(held[V_INIT], tau)
  return {"threshold": np.asarray(tau), "instalments": np.asarray(parts)}


def _written(net: Net, node: Node, values: dict[str, Value], arrays: Any) -> Value:
  """The value of a node, once it is written."""
  write = find(node.op).nir
  if write is None:
    raise ValueError(f"NIR cannot say {node.op} {node.name!r}: it has no such operation")
  inputs = [values[name] for name in node.inputs]
  try:
    return write(net, inputs, node, arrays)
  except Refused as refused:
    raise ValueError(_told(f"{node.op} {node.name!r}", inputs, refused)) from refused


def _told(what: str, inputs: list[Value], refused: Refused) -> str:
  by = next((value.by for value in inputs if value.by), "")
  return f"NIR cannot say {what}{f', which reads {by!r}' if by else ''}: {refused}"


def _metadata(network: SpikingNetwork) -> dict[str, Any]:
  """What NIR has no words for, as text and numbers that HDF5 can hold."""
  spiking = network.spiking
  return {
    "written_by": f"tcljax {importlib.metadata.version('tcljax')}",
    "reset": spiking.neuron.reset,
    "fires": "v >= v_threshold",
    "time_steps": spiking.time_steps,
    "delay": spiking.delay,
    "encoding": spiking.encoding,
    "network": to_json(network.metadata),
  }
