"""Spiking networks on disk: network.json and arrays.npz in a directory; nothing there is run."""

import dataclasses
import json
import pathlib
import shutil
import tempfile
import zipfile
from typing import Any

import numpy as np
from flax import traverse_util

from tcljax.conversion.network import SpikingNetwork
from tcljax.graph import Graph, Node
from tcljax.simulation.settings import SpikingConfig

_FORMAT = 3  # of the files; other numbers are refused
_DESCRIPTION, _ARRAYS = "network.json", "arrays.npz"
# All that a directory of ours may hold; convert.py adds the last two.
_FILES = {_DESCRIPTION, _ARRAYS, "results.json", "accuracy.png"}
_REPLACED = ".replaced"  # the network that was there, until the new one is in its place


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

  Examples:
    >>> import tempfile
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   sorted(file.name for file in tcljax.save(network, f"{folder}/snn").iterdir())
    ['arrays.npz', 'network.json']
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
  arrays: dict[str, Any] = {str(name): np.asarray(array) for name, array in flat.items()}
  try:
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    (beside / _DESCRIPTION).write_text(text)
    np.savez(beside / _ARRAYS, **arrays)
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

  Examples:
    >>> import tempfile
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   loaded = tcljax.load(tcljax.save(network, f"{folder}/snn"))
    >>> bool((loaded(images) == network(images)).all())
    True
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
    network.check_shapes()
  except FileNotFoundError as error:
    raise ValueError(f"{path} is not a spiking network: {error.filename} is missing") from error
  except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
    reason = str(error).partition("\n")[0]
    raise ValueError(f"spiking network {path} cannot be read: {reason}") from error
  return network


def _tuples(value: Any) -> Any:
  """JSON knows no tuples, and the settings of nodes nothing else."""
  return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
