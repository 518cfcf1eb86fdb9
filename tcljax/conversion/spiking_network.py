"""From a network with thresholds to a spiking network that stands on its own."""

import dataclasses
import functools
import json
import operator
import pathlib
import shutil
import tempfile
import zipfile
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tcljax.graph import Graph, GraphNetwork, Node, fold, trace
from tcljax.layers.activations import TCL
from tcljax.layers.collections import (
  PARAMS,
  Variables,
  no_threshold,
  thresholds_by_path,
  with_thresholds,
)
from tcljax.models.precision import in_float32
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.simulation.time_loop import simulate_any_time_steps, with_chunk

_FORMAT = 3  # of the files; other numbers are refused
_DESCRIPTION, _ARRAYS = "network.json", "arrays.npz"
# All that a directory of ours may hold; `report` adds the last two.
_FILES = {_DESCRIPTION, _ARRAYS, "results.json", "accuracy.png"}
_REPLACED = ".replaced"  # the network that was there, until the new one is in its place


@dataclasses.dataclass(frozen=True)
class SpikingNetwork:
  """A converted network: affine maps with BatchNorm folded in, and IF neurons with V_th = tau.

  Attributes:
    graph: what it computes.
    variables: `params` by node and `clipping` by population of neurons.
    input_shape: of one input, without the batch.
    spiking: how it is simulated unless told otherwise.
    metadata: whatever else belongs to it, as JSON holds it: preprocessing, data set, accuracy.
  """

  graph: Graph
  variables: Variables
  input_shape: tuple[int, ...]
  spiking: SpikingConfig = SpikingConfig()
  metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def model(self) -> nn.Module:
    """The network as a Flax module with a field `act`, for all that works on modules."""
    return GraphNetwork(self.graph)

  def __call__(
    self, x: jax.Array, time_steps: int | None = None, keys: jax.Array | None = None
  ) -> jax.Array:
    """Simulates the network; compiled once for each shape of `x`, whatever T.

    And once for each K, which is chosen as `tcljax.simulate` says where `spiking` leaves it open:
    on CPUs it is always 1. For gradients, differentiate `simulate` of `model` and `variables`.

    Args:
      x: inputs as the network was trained on (normalised images), [B, ...].
      time_steps: T; by default that of `spiking`.
      keys: random keys, [B], where the encoding is "poisson".

    Returns:
      Mean output over T steps, [B, ...]: the logits.

    Raises:
      ValueError: if the inputs have another shape than `input_shape`, or T < 1.
    """
    x, spiking = self.checked(x, time_steps)
    return _logits(self.graph, spiking.one_chunk, self.variables, x, keys, spiking.time_steps)

  def checked(self, x: jax.Array, time_steps: int | None = None) -> tuple[jax.Array, SpikingConfig]:
    """Inputs as an array, and how they are simulated over T steps, with K chosen.

    Raises:
      ValueError: if the inputs have another shape than `input_shape`, or T < 1.
    """
    x = jnp.asarray(x)
    if tuple(x.shape[1:]) != self.input_shape:
      raise ValueError(
        f"inputs have shape {tuple(x.shape)}, expected (batch, "
        f"{', '.join(map(str, self.input_shape))})"
      )
    spiking = self.spiking
    if time_steps is not None and time_steps != spiking.time_steps:
      spiking = dataclasses.replace(spiking, time_steps=time_steps, chunk=0)
    # One step at a time on CPUs, as that divides every T.
    return x, with_chunk(self.model, self.variables, x, spiking, on_cpus=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(graph, config, variables, x, keys, time_steps):
  return simulate_any_time_steps(GraphNetwork(graph), variables, x, config, time_steps, keys=keys)


def convert(
  model: nn.Module,
  variables: Variables,
  input_shape: tuple[int, ...],
  spiking: SpikingConfig = SpikingConfig(),
  **metadata: Any,
) -> SpikingNetwork:
  """Converts a network: traces what it computes, folds BatchNorm, sets V_th = tau.

  Args:
    model: any Flax module with a field `act`, called as `model(x)` for inference, whose operations
      between two activations are affine (convolutions, products, average pooling, BatchNorm,
      reshapes, sums of branches). Maximum pooling is given to the activation before it
      (`max_pool`), or stands right before an activation, as the maximum of input currents.
    variables: its variables with the collection `clipping`, from `calibrate` or `tune`.
    input_shape: of one input, without the batch.
    spiking: stored as the network's way of being simulated.
    **metadata: stored with the network; JSON values.

  Returns:
    The spiking network, which computes in float32; its logits are those of simulating `model`, to
    rounding (that of the model's own precision, if it computes in less).

  Raises:
    ValueError: if the model does what spikes cannot carry, or thresholds are missing.
  """
  thresholds = {(".".join(path),): held for path, held in thresholds_by_path(variables).items()}
  check_spiking(spiking)
  input_shape = tuple(operator.index(n) for n in input_shape)
  graph, arrays = fold(*trace(in_float32(model), variables, input_shape))
  for node in graph.nodes:
    if node.op == "neurons" and (node.name,) not in thresholds:
      raise no_threshold(node.name)
  network = SpikingNetwork(
    graph, with_thresholds({PARAMS: arrays}, thresholds), input_shape, spiking, metadata
  )
  _check_shapes(network)
  return network


def _check_shapes(network):
  """Raises what a call would raise because shapes do not fit, at the cost of no arithmetic."""
  jax.eval_shape(
    network.model.clone(act=TCL).apply,
    network.variables,
    jax.ShapeDtypeStruct((1, *network.input_shape), np.float32),
  )


def save(network: SpikingNetwork, directory: str | pathlib.Path) -> pathlib.Path:
  """Writes a spiking network as a directory of network.json and arrays.npz.

  Args:
    network: from `convert`.
    directory: a new or empty one, or one that holds a spiking network, which is replaced.

  Returns:
    The directory's path.

  Raises:
    ValueError: if the directory holds something else, or cannot be written, or the metadata are
      not JSON; what was there stays.
  """
  path = check_output(directory)
  beside, replaced = (path.with_name(path.name + end) for end in (".partial", _REPLACED))
  description = {
    "format": _FORMAT,
    "nodes": [dataclasses.asdict(node) for node in network.graph.nodes],
    "output": network.graph.output,
    "input_shape": network.input_shape,
    "spiking": dataclasses.asdict(network.spiking),
    "metadata": network.metadata,
  }
  try:
    text = json.dumps(description, indent=1) + "\n"
  except TypeError as error:
    raise ValueError(f"the metadata of a network must be JSON: {error}") from error
  flat = traverse_util.flatten_dict(network.variables, sep="/")
  try:
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    (beside / _DESCRIPTION).write_text(text)
    np.savez(beside / _ARRAYS, **{name: np.asarray(array) for name, array in flat.items()})
    if path.exists():
      path.rename(replaced)
    beside.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)
  except OSError as error:
    shutil.rmtree(beside, ignore_errors=True)
    raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
  return path


def check_output(directory: str | pathlib.Path) -> pathlib.Path:
  """The resolved path of an output of `save`, its parents made.

  A network that an interrupted `save` had set aside is put back first.

  Raises:
    ValueError: if it cannot be written, or `save` would destroy something else than a network.
  """
  path = pathlib.Path(directory).resolve()
  replaced = path.with_name(path.name + _REPLACED)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    if replaced.exists():
      if path.exists():
        shutil.rmtree(replaced)
      else:
        replaced.rename(path)
    with tempfile.TemporaryDirectory(dir=path.parent):
      pass
    found = {f.name for f in path.iterdir()} if path.exists() else set()
  except OSError as error:
    raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
  foreign = sorted(found - _FILES)
  if foreign or (found and _DESCRIPTION not in found):
    raise ValueError(
      f"output {path} holds {', '.join(foreign or sorted(found))} and is not (only) "
      "a spiking network: choose another directory"
    )
  return path


def load(directory: str | pathlib.Path) -> SpikingNetwork:
  """Reads what `save` wrote.

  Args:
    directory: of a spiking network.

  Returns:
    The network, the same to the bit.

  Raises:
    ValueError: if it is not there, damaged, or of another version.
  """
  path = pathlib.Path(directory).absolute()
  try:
    description = json.loads((path / _DESCRIPTION).read_text())
    if (found := description["format"]) != _FORMAT:
      raise ValueError(
        f"it has format {found}, this version reads {_FORMAT}: convert the network again"
      )
    with (path / _ARRAYS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
      flat = {name: arrays[name] for name in arrays.files}
    nodes = tuple(
      Node(node["name"], node["op"], tuple(node["inputs"]), _tuples(node["settings"]))
      for node in description["nodes"]
    )
    network = SpikingNetwork(
      Graph(nodes, description["output"]),
      traverse_util.unflatten_dict(flat, sep="/"),
      tuple(description["input_shape"]),
      SpikingConfig(**description["spiking"]),
      description["metadata"],
    )
    _check_shapes(network)
  except FileNotFoundError as error:
    raise ValueError(f"{path} is not a spiking network: {error.filename} is missing") from error
  except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
    reason = str(error).partition("\n")[0]
    raise ValueError(f"spiking network {path} cannot be read: {reason}") from error
  return network


def _tuples(value: Any) -> Any:
  """JSON knows no tuples, and the settings of nodes nothing else."""
  return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
