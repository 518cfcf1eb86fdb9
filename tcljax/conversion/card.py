"""README.md of a network's folder: a model card, for people and for model hubs.

It says what is known. What somebody put into the metadata is quoted, and never becomes Markdown.
"""

import collections
import json
import math
import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax

from tcljax.checks import in_a_line
from tcljax.conversion.checking import Forms
from tcljax.conversion.description import STEP, Description
from tcljax.graph.nodes import NEURONS
from tcljax.graph.pipeline import depth
from tcljax.maths.trees import is_shape, leaves_by_path, name_of

_TAGS = ("spiking-neural-network", "ann-to-snn-conversion", "jax", "stablehlo")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./+-]{0,99}")  # a name that is no Markdown and no YAML
_MOST_CLASSES = 1000
_MOST_LETTERS = 4000  # of the metadata as they are quoted
# Of the metadata what is told in words; the others are quoted as they are.
_TOLD = {
  "name",
  "dataset",
  "num_classes",
  "class_names",
  "preprocessing",
  "input_range",
  "accuracy",
}

# docs/network-format.md holds the same lines, and a test runs them.
JAX_ALONE = """\
import json

import jax.export
import numpy as np

with open("snn/weights.safetensors", "rb") as file:
  header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
  weights = {
    name: np.frombuffer(file.read(4 * int(np.prod(array["shape"]))), "<f4").reshape(array["shape"])
    for name, array in header.items()
  }
with open("snn/step.stablehlo", "rb") as file:
  program = jax.export.deserialize(bytearray(file.read()))
x = np.load("images.npy")  # float32, [B, ...]
zeros = lambda aval: np.zeros([n if isinstance(n, int) else len(x) for n in aval.shape], aval.dtype)
(_, state, _), _ = jax.tree.unflatten(program.in_tree, map(zeros, program.in_avals))
step, results = jax.jit(program.call), []
for _ in range(8):
  state, output, spikes = step(weights, state, x)
  results.append((output, spikes))
print(np.mean([output for output, _ in results], axis=0).argmax(axis=-1))
"""


def card(description: Description, forms: Forms, with_step: bool) -> str:
  """The text of README.md.

  Args:
    description: of the network; the sums of its files are not looked at.
    forms: of its nodes, from `check_description`.
    with_step: whether its folder holds `step.stablehlo`.
  """
  about = description.metadata
  parts = [
    _front(about),
    f"# {_name(about) or 'A spiking network'}",
    _what(description, forms),
    _inputs(description),
    _outputs(description, forms),
    _accuracy(about.get("accuracy")),
    _loading(description, forms, with_step),
    _making(about),
    _LIMITS,
  ]
  return "\n\n".join(part.strip("\n") for part in parts) + "\n"


_WHAT = """\
A spiking network of integrate-and-fire neurons, converted from a trained network with ReLU by
tcljax. In each time step a neuron adds its input current to its potential. It fires where the
potential reaches its threshold, and is then reset. The answer is the mean of the outputs over the
time steps."""

_LIMITS = """\
## Limits

- It answers well for inputs like those that its thresholds were found on.
- The fewer time steps, the farther its answers are from those of the network it was made from.
- Currents are sums of float32. Another device may round them otherwise, so that a neuron at its
  very threshold fires a step earlier or later there.
- `step.stablehlo` is a program: call it only if you trust its source. `tcljax.load` runs nothing
  of this folder.
- JAX promises to read such a program for six months after it was written. Later, load the network
  with tcljax and save it again.
"""


def _front(about):
  """What hubs read; a license is for whoever publishes the network to add."""
  named = about.get("dataset")
  tags = [*_TAGS, *([named] if _is_plain(named) else [])]
  lines = ["---", "library_name: tcljax", "tags:", *(f'- "{tag}"' for tag in tags)]
  if "class_names" in about or "num_classes" in about:
    lines.append("pipeline_tag: image-classification")
  return "\n".join([*lines, "---"])


def _is_plain(name):
  return isinstance(name, str) and bool(_PLAIN.fullmatch(name))


def _name(about):
  return about["name"] if _is_plain(about.get("name")) else ""


def _what(description, forms):
  spiking, nodes = description.spiking, description.graph.nodes
  populations = [node.name for node in nodes if node.op == NEURONS]
  neurons = sum(math.prod(forms[name].output) for name in populations)
  counted = collections.Counter(node.op for node in nodes if node.op != NEURONS)
  rows = [
    ("outputs of its neurons, for one input", f"{neurons:,} in {len(populations)} populations"),
    ("numbers in its arrays", f"{sum(map(math.prod, description.arrays.values())):,}"),
    ("operations between them", ", ".join(f"{n} {op}" for op, n in sorted(counted.items())) or "0"),
    ("time steps T", f"{spiking.time_steps}; another T can be asked for"),
    ("steps where each layer takes one", f"T + {depth(description.graph)}"),
    ("spikes of a neuron in a step", _sent(spiking.neuron)),
    ("reset of a neuron", spiking.neuron.reset),
    ("input over time", spiking.encoding),
    ("steps at the start that are not read out", spiking.delay),
  ]
  return f"{_WHAT}\n\n" + _table(("", ""), rows)


def _sent(neuron):
  if neuron.is_binary:
    return "0 or 1"
  if neuron.phase > 1:
    return f"0 or 1; its height halves from step to step, in periods of {neuron.phase} steps"
  if not neuron.signed:
    return f"0 to {neuron.burst}"
  return f"-{neuron.burst} to {neuron.burst}; it takes back no more than it has sent"


def _inputs(description):
  shapes = leaves_by_path(description.input_shape, is_shape)
  rows = [(_code(name_of(path) or "x"), _shape(shape)) for path, shape in shapes.items()]
  text = "## Input\n\nNumbers of float32, channels last; B is the batch.\n\n"
  text += _table(("input", "shape"), rows)
  if description.spiking.encoding == "frames":
    text += "\n\nAn example is a sequence of such inputs, [T, B, ...], one for each time step."
  found = description.metadata.get("preprocessing")
  try:
    scale, mean, std = found["scale"], found["mean"], found["std"]
    lowest, highest = map(float, description.metadata["input_range"])
    numbers = [_numbers(value) for value in (scale, mean, std)]
  except (KeyError, TypeError, ValueError, OverflowError):
    return text + "\n\nHow its inputs were prepared is not known, unless what follows tells."
  return (
    f"{text}\n\nPixels from 0 to 255 become `(pixel * scale - mean) / std`, with scale "
    f"{numbers[0]},\nmean {numbers[1]} and std {numbers[2]}, one a channel or one for all. "
    f"So inputs are\nfrom {lowest:.4g} to {highest:.4g}."
  )


def _numbers(value):
  """A number, or several one after another; ValueError or TypeError for other things."""
  several = value if isinstance(value, (tuple, list)) else [value]
  return ", ".join(f"{float(one):.6g}" for one in several)


def _outputs(description, forms):
  paths = leaves_by_path(description.graph.output, lambda part: isinstance(part, str))
  shapes = {name: form.output for name, form in forms.items()}
  told = lambda name: _shape(shapes[name]) if name in shapes else "that of an input"
  rows = [(_code(name_of(path) or "output"), told(name)) for path, name in paths.items()]
  text = "## Output\n\n" + _table(("output", "shape"), rows)
  names = description.metadata.get("class_names")
  if isinstance(names, (list, tuple)) and 0 < len(names) <= _MOST_CLASSES:
    text += "\n\n" + _table(("class", "name"), [(i, _code(name)) for i, name in enumerate(names)])
  return text


def _accuracy(found):
  """Accuracy against T, where it was measured; `docs/network-format.md` says in which form."""
  title = "## Accuracy\n\n"
  try:
    rows = [(int(t), f"{float(percent):.2f}") for t, percent in found["snn"].items()]
    others = [f"{label} {float(found[key]):.2f} %" for key, label in _OTHERS if key in found]
    images, data = int(found["images"]), _code(found["data"])
  except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
    return title + "It was not measured where the network was saved."
  beside = f"Beside it: {', '.join(others)}.\n\n" if others else ""
  return f"{title}In percent, on {images} images of {data}.\n\n{beside}" + _table(
    ("time steps T", "accuracy %"), rows
  )


_OTHERS = (("ann", "the network with ReLU"), ("clipped", "with its activations clipped"))


def _loading(description, forms, with_step):
  text = (
    "## Load it\n\nWith tcljax, where `snn` is this folder:\n\n```python\nimport tcljax\n\n"
    'network = tcljax.load("snn")\noutput = network(x)\n```'
  )
  spiking, several = description.spiking, not is_shape(description.input_shape)
  if not with_step:
    return text
  text += (
    f"\n\n`{STEP}` is a program of one time step, for JAX alone. To read it JAX needs "
    "flatbuffers:\n`pip install jax flatbuffers`."
  )
  if several or not isinstance(description.graph.output, str) or spiking.encoding != "constant":
    return text + " Its states and outputs are described where tcljax describes this folder."
  lines = JAX_ALONE.replace("range(8)", f"range({spiking.time_steps})")
  if spiking.delay:
    lines = lines.replace("in results]", f"in results[{spiking.delay}:]]")
  output = forms.get(description.graph.output)
  if output and output.output[-1:] in ((), (1,)):  # a quantity, or one whose sign says the class
    lines = lines.replace(".argmax(axis=-1)", "")
  return f"{text}\n\n```python\n{lines}```"


def _making(about):
  others = {key: value for key, value in about.items() if key not in _TOLD}
  text = (
    "## How it was made\n\n"
    f"By tcljax {metadata.version('tcljax')} with JAX {jax.__version__}. BatchNorm is folded into "
    "the weights, and the\nthresholds are the clipping levels of the activations."
  )
  if _is_plain(about.get("dataset")):
    text += f" The data set is {_code(about['dataset'])}."
  if others:
    quoted = json.dumps(others, indent=1)
    if len(quoted) > _MOST_LETTERS:
      quoted = quoted[:_MOST_LETTERS] + " ..."
    text += f" Whoever made it says:\n\n```json\n{quoted.replace('```', '` ` `')}\n```"
  return text


def _shape(shape):
  return _code("[" + ", ".join(["B", *map(str, shape)]) + "]")


def _code(value: Any) -> str:
  """A value as code in a cell of a table; what would end either is another letter."""
  text = value if isinstance(value, str) else json.dumps(value)
  return f"`{in_a_line(text)[1:-1].replace('`', chr(39)).replace('|', '/')}`"


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  lines = [titles, ["---"] * len(titles), *rows]
  return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
