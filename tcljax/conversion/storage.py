"""Spiking networks on disk: a directory of network.json and weights.safetensors.

Nothing there is run, and nothing there is believed: `load` reads two regular files of sizes that it
knows beforehand, and hands back a network that can be called, or raises one ValueError.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from flax import traverse_util

from tcljax.conversion.checking import check_description, check_range, check_weights
from tcljax.conversion.description import WEIGHTS, Description, from_text, to_text
from tcljax.conversion.network import SpikingNetwork, check_network
from tcljax.conversion.strict_json import LARGEST
from tcljax.conversion.weights import read_arrays, write_arrays
from tcljax.files import checked_path, sync

_DESCRIPTION = "network.json"
# All that a directory of ours may hold, which `save` may replace. `load` reads the first two alone:
# convert.py adds the next two for people, and earlier formats had the last.
_FILES = {_DESCRIPTION, WEIGHTS, "results.json", "accuracy.png", "arrays.npz"}
_REPLACED = ".replaced"  # the network that was there, until the new one is in its place
_LONGEST = 400  # letters of an error that tells of a text somebody else wrote


def save(network: SpikingNetwork, directory: str | pathlib.Path) -> pathlib.Path:
  """Writes a spiking network as a directory of network.json and weights.safetensors.

  docs/network-format.md describes the two files.

  Args:
    network: from `convert`.
    directory: a new or empty one, or one that holds a spiking network, which is replaced.

  Returns:
    The directory's path.

  Raises:
    ValueError: if this is no `SpikingNetwork`, if the directory is no path, holds something else,
      or cannot be written, if the metadata are not JSON, or if `load` would refuse the network;
      what was there stays.

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
    ['network.json', 'weights.safetensors']
  """
  check_network(network)
  path = check_output(directory, "directory")
  beside, replaced = (path.with_name(path.name + end) for end in (".partial", _REPLACED))
  # Numbers are float32 wherever the network computes; NumPy's own float64 may have come in between.
  with np.errstate(over="ignore"):
    arrays = {
      "/".join(map(str, name)): np.asarray(array, np.float32)
      for name, array in traverse_util.flatten_dict(dict(network.variables)).items()
    }
  described = Description(
    network.graph,
    network.input_shape,
    network.spiking,
    network.metadata,
    {name: array.shape for name, array in arrays.items()},
    0,
    "",
  )
  _checked(from_text(to_text(described).encode()), lambda: arrays)
  try:
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    with (beside / WEIGHTS).open("wb") as file:
      size, sha256 = write_arrays(file, arrays)
    described = dataclasses.replace(described, size=size, sha256=sha256)
    (beside / _DESCRIPTION).write_text(to_text(described))
    for written in (beside / WEIGHTS, beside / _DESCRIPTION, beside):
      sync(written)
    if path.exists():
      path.rename(replaced)
    beside.rename(path)
    sync(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)
  except OSError as error:
    shutil.rmtree(beside, ignore_errors=True)
    raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
  return path


def check_output(directory: str | pathlib.Path, field: str = "output") -> pathlib.Path:
  """The resolved path of an output of `save`, its parents made.

  A network that an interrupted `save` had set aside is put back first.

  Args:
    directory: where a user wants a network.
    field: the name that the user knows it by.

  Raises:
    ValueError: if it is no path, cannot be written, or `save` would destroy something else than a
      network.
  """
  path = checked_path(field, directory).resolve()
  if not path.name:  # nothing can be written beside it and then renamed
    raise ValueError(f"{field}='{path}' is the root of all files: choose another directory")
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
    entries = list(path.iterdir()) if path.exists() else []
    found = {entry.name for entry in entries}
    # A directory by such a name is none of ours.
    foreign = sorted(found - _FILES | {entry.name for entry in entries if entry.is_dir()})
  except OSError as error:
    raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
  if foreign or (found and _DESCRIPTION not in found):
    raise ValueError(
      f"output {path} holds {', '.join(foreign or sorted(found))} and is not (only) "
      "a spiking network: choose another directory"
    )
  return path


def load(directory: str | pathlib.Path) -> SpikingNetwork:
  """Reads what `save` wrote.

  A folder from elsewhere may hold anything. What is loaded can be called: its shapes fit, its
  numbers are finite and stay so, and it takes no more steps or memory than its files say.

  Args:
    directory: of a spiking network.

  Returns:
    The network, the same to the bit.

  Raises:
    ValueError: if it is no path, or what is there is no network, is damaged, changed, of another
      version, or too large to be run.

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
  path = checked_path("directory", directory).absolute()
  try:
    with _regular(path / _DESCRIPTION) as (file, size):
      if size > LARGEST:
        raise ValueError(f"it has {size} bytes, and {LARGEST} are the most")
      # Not to its end: what the kernel makes up while it is read has no size, and may wait.
      description = from_text(file.read(size))
    return _checked(description, lambda: _arrays(path / WEIGHTS, description))
  except FileNotFoundError as error:
    raise ValueError(f"{path} is not a spiking network: {error.filename} is missing") from error
  except (OSError, ValueError, MemoryError) as error:
    raise ValueError(f"spiking network {path} cannot be read: {_told(error)}") from error


def _arrays(path: pathlib.Path, description: Description) -> dict[str, np.ndarray]:
  """The arrays of a file of weights, which must be that of the description."""
  with _regular(path) as (file, size):
    if size != description.size:
      raise ValueError(f"it has {size} bytes in place of {description.size}")
    return read_arrays(file, size, description.sha256, description.arrays)


def _checked(
  description: Description, arrays: Callable[[], dict[str, np.ndarray]]
) -> SpikingNetwork:
  """The network of a description that can be run.

  Args:
    description: of any network.
    arrays: gives its arrays, by path; called when the description has been found sound.

  Raises:
    ValueError: if it cannot be run.
  """
  graph, shape, spiking = description.graph, description.input_shape, description.spiking
  forms = check_description(graph, shape, spiking, description.arrays)
  flat = {tuple(name.split("/")): array for name, array in arrays().items()}
  variables = traverse_util.unflatten_dict(flat)
  check_weights(variables)
  check_range(graph, forms, variables, spiking.time_steps)
  network = SpikingNetwork(graph, variables, shape, spiking, description.metadata)
  try:
    network.check_shapes()
  except Exception as error:
    # The forms leave nothing known to be refused here but names that Flax cannot give. What Flax
    # and JAX raise of a graph that somebody else wrote has no common class.
    raise ValueError(_told(error)) from error
  return network


@contextlib.contextmanager
def _regular(path: pathlib.Path) -> Iterator[tuple[io.BufferedReader, int]]:
  """Opens a regular file, or a link to one, and tells its size.

  Raises:
    ValueError: naming the file, if it is something else, or what is read in it raises ValueError.
      Pipes and devices, which may never end, are not waited for.
    FileNotFoundError: if it is not there.
  """
  # Of Unix alone; on Windows a file is opened as text without the last.
  flags = [getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY")]
  with contextlib.ExitStack() as opened:
    try:
      descriptor = os.open(path, os.O_RDONLY | sum(flags))
      opened.callback(os.close, descriptor)
      found = os.fstat(descriptor)
      if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
      yield opened.enter_context(open(descriptor, "rb", closefd=False)), found.st_size
    except FileNotFoundError:
      raise
    except (OSError, ValueError) as error:
      raise ValueError(f"{path.name}: {_told(error)}") from error


def _told(error: BaseException) -> str:
  """The first line of an error, no longer than people read."""
  if isinstance(error, OSError):
    return str(error.strerror)
  line = str(error).partition("\n")[0] or type(error).__name__
  return line if len(line) <= _LONGEST else line[:_LONGEST] + "..."
