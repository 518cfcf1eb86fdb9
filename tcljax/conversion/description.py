"""The description of a converted network, network.json: written, and read strictly.

docs/network-format.md says what each field means.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import jax
from flax.core import FrozenDict

from tcljax.checks import in_a_line
from tcljax.conversion.strict_json import LARGEST, from_json, to_json
from tcljax.graph import Graph, Node
from tcljax.graph.nodes import input_name
from tcljax.graph.whole_numbers import Shape, check_shape
from tcljax.maths.spikes import Neuron
from tcljax.maths.trees import Shapes, is_shape, thawed
from tcljax.simulation.settings import SpikingConfig

FORMAT = 9  # of the files; others than this and those below are refused
_ALIKE = 8  # a format that differs in having neurons without phases
_BINARY = 7  # and in having binary neurons alone
_WEIGHTS_ALONE = 6  # and in having no other file than that of the weights
_ONE_ARRAY = 5  # and in having one input and one output alone
WEIGHTS, STEP, CARD = "weights.safetensors", "step.stablehlo", "README.md"
_DTYPE = "float32"
_PART = 2**20  # bytes that are summed at a time
_NODE = {"name": str, "op": str, "inputs": list, "settings": dict}
_SPIKING = {"time_steps": int, "chunk": int, "neuron": dict, "delay": int, "encoding": str}
_BINARY_NEURON = {"reset": str, "surrogate": str, "width": float}
_NEURON_ALIKE = {**_BINARY_NEURON, "burst": int, "signed": bool}
_NEURON = {**_NEURON_ALIKE, "phase": int}


class Sum(NamedTuple):
  """What is known of a file beforehand.

  Attributes:
    bytes: its size.
    sha256: of what it holds.
  """

  bytes: int
  sha256: str

  def check_size(self, size: int) -> None:
    """Raises ValueError unless a file has this size."""
    if size != self.bytes:
      raise ValueError(f"it has {size} bytes in place of {self.bytes}")

  def check(self, file: BinaryIO, size: int) -> None:
    """Raises ValueError unless this file, of so many bytes, is the one that is known."""
    self.check_size(size)
    digest = hashlib.sha256()
    while size > 0 and (part := file.read(min(size, _PART))):
      digest.update(part)
      size -= len(part)
    if digest.hexdigest() != self.sha256:
      raise ValueError("it was changed after it was written: its SHA-256 is another")


@dataclasses.dataclass(frozen=True)
class Description:
  """All that is known of a network but the numbers in its arrays.

  Attributes:
    graph: what it computes.
    input_shape: of one input, without the batch; of several a tree of shapes.
    spiking: how it is simulated.
    metadata: whatever else belongs to it.
    arrays: the shape of each array, by path: "params/conv:1/kernel".
    files: the sum of each file beside the description, by its name; that of the weights is there.
  """

  graph: Graph
  input_shape: Shapes
  spiking: SpikingConfig
  metadata: dict[str, Any]
  arrays: Mapping[str, Shape]
  files: Mapping[str, Sum]


def to_text(description: Description) -> str:
  """The text of network.json, with its own SHA-256.

  Raises:
    ValueError: if the metadata are not JSON, or the text becomes longer than is read.
  """
  tree = {
    "format": FORMAT,
    "nodes": [
      {
        "name": node.name,
        "op": node.op,
        "inputs": node.inputs,
        "settings": dict(node.settings),
      }
      for node in description.graph.nodes
    ],
    "output": thawed(description.graph.output),
    "input_shape": description.input_shape,
    "spiking": dataclasses.asdict(description.spiking),
    "metadata": description.metadata,
    "arrays": {
      name: {"shape": shape, "dtype": _DTYPE} for name, shape in description.arrays.items()
    },
    "files": {name: file._asdict() for name, file in description.files.items()},
  }
  try:
    # Read once, as keys that are no strings become strings, and two may become one.
    tree = from_json(to_json(tree).encode())
    text = to_json(tree | {"sha256": digest(tree)}, indent=1) + "\n"
    from_json(text.encode())
  except ValueError as error:
    raise ValueError(
      f"the metadata of a network must be JSON of at most {LARGEST} bytes in all: {error}"
    ) from error
  return text


def from_text(raw: bytes) -> Description:
  """What `to_text` wrote.

  Raises:
    ValueError: if it is something else, of another version, or was changed since.
  """
  tree = from_json(raw)
  if not isinstance(tree, dict) or type(found := tree.get("format")) is not int:
    raise ValueError("it does not name the number of its format")
  if not _ONE_ARRAY <= found <= FORMAT:
    raise ValueError(
      f"it has format {found}, this version reads {_ONE_ARRAY} to {FORMAT}: "
      + ("update tcljax" if found > FORMAT else "convert the network again")
    )
  several = found > _ONE_ARRAY
  fields = {
    "format": int,
    "nodes": list,
    "output": (str, dict, list) if several else str,
    "input_shape": (list, dict) if several else list,
    "spiking": dict,
    "metadata": dict,
    "arrays": dict,
    "files": dict,
    "sha256": str,
  }
  _check_fields("the description", tree, fields)
  if tree["sha256"] != digest(tree):
    raise ValueError("it was changed after it was written: its SHA-256 is another")
  others = () if found <= _WEIGHTS_ALONE else (STEP, CARD)
  named = {WEIGHTS: dict} | {name: dict for name in others if name in tree["files"]}
  _check_fields("files", tree["files"], named)
  for name, about in tree["files"].items():
    _check_fields(name, about, {"bytes": int, "sha256": str})
  input_shape, output = (_tree(field, tree[field]) for field in ("input_shape", "output"))
  structure = jax.tree.structure(input_shape, is_leaf=is_shape)
  inputs = jax.tree.unflatten(structure, map(input_name, range(structure.num_leaves)))
  neuron = _NEURON if found > _ALIKE else _NEURON_ALIKE if found > _BINARY else _BINARY_NEURON
  return Description(
    Graph(tuple(map(_node, tree["nodes"])), output, inputs),
    thawed(input_shape),
    _spiking(tree["spiking"], neuron),
    tree["metadata"],
    {name: _listed(name, entry) for name, entry in tree["arrays"].items()},
    {name: Sum(**about) for name, about in tree["files"].items()},
  )


def digest(tree: Mapping[str, Any]) -> str:
  """The SHA-256 of a description, its field `sha256` left out, in the form without choices."""
  rest = {key: value for key, value in tree.items() if key != "sha256"}
  return hashlib.sha256(to_json(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _node(entry: Any) -> Node:
  _check_fields("a node", entry, _NODE)
  if not all(isinstance(name, str) for name in entry["inputs"]):
    raise ValueError(f"inputs={entry['inputs']!r} of {entry['name']!r} must be names of nodes")
  settings = tuple(sorted((key, _tuples(value)) for key, value in entry["settings"].items()))
  return Node(entry["name"], entry["op"], tuple(entry["inputs"]), settings)


def _spiking(entry: Any, neuron: Mapping[str, Any]) -> SpikingConfig:
  _check_fields("spiking", entry, _SPIKING)
  _check_fields("neuron", entry["neuron"], neuron)
  return SpikingConfig(**entry | {"neuron": Neuron(**entry["neuron"])})


def _listed(name: str, entry: Any) -> Shape:
  _check_fields(f"array {name!r}", entry, {"shape": list, "dtype": str})
  if entry["dtype"] != _DTYPE:
    raise ValueError(f"array {name!r} is of type {entry['dtype']!r} and must be {_DTYPE}")
  shape = _tuples(entry["shape"])
  check_shape(f"the shape of array {name!r}", shape)
  return shape


def _tree(field: str, value: Any) -> Any:
  """A tree of names of nodes, or of shapes, which are lists without lists and objects within."""
  if isinstance(value, dict):
    parts = value.values()
    made = FrozenDict({key: _tree(field, part) for key, part in value.items()})
  elif isinstance(value, list) and (field == "output" or any(map(_is_inner, value))):
    parts = made = tuple(_tree(field, part) for part in value)
  elif isinstance(value, str if field == "output" else list):
    return _tuples(value)
  else:
    raise ValueError(f"{field} holds {in_a_line(value)}, which stands for no array")
  if not parts:
    raise ValueError(f"{field} holds an empty {'object' if isinstance(value, dict) else 'list'}")
  return made


def _is_inner(value):
  return isinstance(value, (dict, list))


def _check_fields(what: str, entry: Any, fields: Mapping[str, Any]) -> None:
  """Raises ValueError unless this is an object of exactly these fields, of these types."""
  if not isinstance(entry, dict) or set(entry) != set(fields):
    found = sorted(entry) if isinstance(entry, dict) else entry
    raise ValueError(f"{what} must have the fields {', '.join(fields)} and has {in_a_line(found)}")
  for field, wanted in fields.items():
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    if type(entry[field]) not in kinds:  # not isinstance, as true and false are integers too
      names = " or ".join(kind.__name__ for kind in kinds)
      raise ValueError(f"{field}={in_a_line(entry[field])} of {what} must be of type {names}")


def _tuples(value: Any) -> Any:
  """JSON knows no tuples, and the settings of nodes nothing else."""
  return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
