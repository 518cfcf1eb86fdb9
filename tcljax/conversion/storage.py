"""Spiking networks on disk: network.json, weights.safetensors, step.stablehlo and README.md.

They lie in a folder, or in one archive. Nothing there is run, and nothing there is believed: `load`
reads regular files of sizes that it knows beforehand, and hands back a network that can be called,
or raises one ValueError.
"""

import dataclasses
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping

import numpy as np
from flax import traverse_util

from tcljax.checks import must_be
from tcljax.conversion.card import card
from tcljax.conversion.checking import Forms, check_description, check_range, check_weights
from tcljax.conversion.description import (
  CARD,
  STEP,
  WEIGHTS,
  Description,
  Sum,
  from_text,
  to_text,
)
from tcljax.conversion.network import SpikingNetwork, check_network
from tcljax.conversion.places import (
  ARCHIVE,
  Reading,
  Writing,
  archive_written,
  folder_written,
  is_archive,
  is_report,
  read_from,
  told,
)
from tcljax.conversion.step import export_step
from tcljax.conversion.strict_json import LARGEST
from tcljax.conversion.weights import read_arrays, write_arrays
from tcljax.files import PARTIAL, checked_path, sync, written_beside

_DESCRIPTION = "network.json"
# What convert.py adds for people, and what is left of it where writing was ended.
FIGURES = {f"{name}{end}" for name in ("results.json", "accuracy.png") for end in ("", PARTIAL)}
# All that a directory of ours may hold, which `save` may replace; earlier formats had the last.
_FILES = {_DESCRIPTION, WEIGHTS, STEP, CARD, "arrays.npz", *FIGURES}
_REPLACED = ".replaced"  # the network that was there, until the new one is in its place
_LARGEST_STEP = 2**24  # bytes of a program; that of a VGG-16 has some 200,000


def save(network: SpikingNetwork, directory: str | pathlib.Path, step: bool = True) -> pathlib.Path:
  """Writes a spiking network as a folder, or as one archive, of the files that describe it.

  docs/network-format.md describes them. README.md is a model card of what is known of the network.
  The metadata that it tells by name are listed there too.

  Args:
    network: from `convert`.
    directory: a new or empty one, or one that holds a spiking network, which is replaced. A name
      that ends in ".zip", such as "snn.tcljax.zip", makes one file.
    step: whether to write step.stablehlo too, a program of one time step that is called with JAX
      alone. It takes about half a second.

  Returns:
    The path of the folder or file.

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
    ['README.md', 'network.json', 'step.stablehlo', 'weights.safetensors']
  """
  check_network(network)
  if not isinstance(step, bool):
    raise ValueError(must_be("step", step, "True or False"))
  path = check_output(directory, "directory")
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
    {WEIGHTS: Sum(0, "")},
  )
  _, forms = _checked(from_text(to_text(described).encode()), lambda: arrays)
  texts = {CARD: card(described, forms, step).encode()}
  if step:
    texts[STEP] = export_step(network)
  if is_archive(path):
    with written_beside(path) as beside, archive_written(beside) as writing:
      _write(writing, described, arrays, texts)
    return path
  beside, replaced = (path.with_name(path.name + end) for end in (PARTIAL, _REPLACED))
  try:
    shutil.rmtree(beside, ignore_errors=True)
    with folder_written(beside) as writing:
      _write(writing, described, arrays, texts)
    if path.exists():
      path.rename(replaced)
    beside.rename(path)
    sync(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)
  except OSError as error:
    shutil.rmtree(beside, ignore_errors=True)
    raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
  return path


def _write(
  writing: Writing,
  described: Description,
  arrays: Mapping[str, np.ndarray],
  texts: Mapping[str, bytes],
) -> None:
  """Writes the files of a network, the description with their sums last."""
  with writing(WEIGHTS) as file:
    sums = {WEIGHTS: Sum(*write_arrays(file, arrays))}
  for name, text in texts.items():
    sums[name] = Sum(len(text), hashlib.sha256(text).hexdigest())
    with writing(name) as file:
      file.write(text)
  with writing(_DESCRIPTION) as file:
    file.write(to_text(dataclasses.replace(described, files=sums)).encode())


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
    if path.suffix == ARCHIVE and path.is_file():
      _check_replaceable(path)
      return path
    entries = list(path.iterdir()) if path.exists() else []
    found = {entry.name for entry in entries}
    # A directory by the name of a file is none of ours.
    foreign = sorted(
      entry.name
      for entry in entries
      if not is_report(entry) and (entry.name not in _FILES or entry.is_dir())
    )
  except OSError as error:
    raise ValueError(f"output {path} cannot be written: {error.strerror}") from error
  if foreign or (found and _DESCRIPTION not in found):
    raise ValueError(
      f"output {path} holds {', '.join(foreign or sorted(found))} and is not (only) "
      "a spiking network: choose another directory"
    )
  return path


def _check_replaceable(path: pathlib.Path) -> None:
  """Raises ValueError unless a file is an archive of a network, of any format."""
  try:
    with read_from(path, _FILES) as reading, reading(_DESCRIPTION):
      pass
  except (ValueError, FileNotFoundError) as error:
    raise ValueError(
      f"output {path} is there and is no archive of a spiking network: choose another path"
    ) from error


def load(directory: str | pathlib.Path) -> SpikingNetwork:
  """Reads what `save` wrote.

  A folder from elsewhere may hold anything. What is loaded can be called: its shapes fit, its
  numbers are finite and stay so, and it takes no more steps or memory than its files say. The
  program of a time step is compared with its sum, and never run; README.md is not opened.

  Args:
    directory: of a spiking network, or an archive of one.

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
    ...   loaded = tcljax.load(tcljax.save(network, f"{folder}/snn.tcljax.zip"))
    >>> bool((loaded(images) == network(images)).all())
    True
  """
  path = checked_path("directory", directory).absolute()
  try:
    with read_from(path, _FILES) as reading:
      with reading(_DESCRIPTION) as (file, size):
        if size > LARGEST:
          raise ValueError(f"it has {size} bytes, and {LARGEST} are the most")
        # Not to its end: what the kernel makes up while it is read has no size, and may wait.
        description = from_text(file.read(size))
      network, _ = _checked(description, lambda: _arrays(reading, description))
      _check_step(reading, description.files.get(STEP))
    return network
  except FileNotFoundError as error:
    raise ValueError(f"{path} is not a spiking network: {error.filename} is missing") from error
  except (OSError, ValueError, MemoryError) as error:
    raise ValueError(f"spiking network {path} cannot be read: {told(error)}") from error


def _arrays(reading: Reading, description: Description) -> dict[str, np.ndarray]:
  """The arrays of a file of weights, which must be that of the description."""
  expected = description.files[WEIGHTS]
  with reading(WEIGHTS) as (file, size):
    expected.check_size(size)
    return read_arrays(file, size, expected.sha256, description.arrays)


def _check_step(reading: Reading, expected: Sum | None) -> None:
  """Raises ValueError unless the program of a time step is missing, or that of the description."""
  try:
    with reading(STEP) as (file, size):
      if expected is None:
        raise ValueError("the description does not name it")
      if size > _LARGEST_STEP:
        raise ValueError(f"it has {size} bytes, and {_LARGEST_STEP} are the most")
      expected.check(file, size)
  except FileNotFoundError:
    return


def _checked(
  description: Description, arrays: Callable[[], dict[str, np.ndarray]]
) -> tuple[SpikingNetwork, Forms]:
  """The network of a description that can be run, and the forms of its nodes.

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
  check_range(graph, forms, variables, spiking.time_steps, spiking.neuron)
  network = SpikingNetwork(graph, variables, shape, spiking, description.metadata)
  try:
    network.check_shapes()
  except Exception as error:
    # The forms leave nothing known to be refused here but names that Flax cannot give. What Flax
    # and JAX raise of a graph that somebody else wrote has no common class.
    raise ValueError(told(error)) from error
  return network, forms
