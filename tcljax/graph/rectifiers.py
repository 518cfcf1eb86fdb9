"""What computes max(x, 0), in whatever guise, and what is made of it: clips, LeakyReLU, |x|.

All are affine maps of populations:

    max(x, c) = c + relu(x - c)             min(x, c) = c - relu(c - x)
    |x| = relu(x) + relu(-x)                x where x > 0, else a x: relu(x) - a relu(-x)

A clip from above of a population, as in ReLU6, becomes the bound of its threshold.
"""

import dataclasses
from typing import Any

import numpy as np

from tcljax.graph.affine import is_unknown
from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol
from tcljax.graph.maxima import larger, smaller
from tcljax.graph.nodes import NEURONS
from tcljax.graph.populations import is_nonnegative, rectified
from tcljax.graph.record import Kind, Reader, Refused, Use
from tcljax.graph.store import AFFINE


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
  """Where a value is above a constant, or below.

  Attributes:
    x: the value.
    constant: what it is compared with, as `Builder.constant` gives it.
    above: whether it is true above the constant; else below.
    of: the two values that are compared, where `x` is their difference; else None.
  """

  x: Symbol
  constant: np.ndarray
  above: bool
  of: tuple[Symbol, Symbol] | None = None


def _symbol(graph: Builder, x: Any) -> Symbol:
  if not graph.inserts or not isinstance(x, Symbol):
    raise Refused
  return x


def _read_max(graph: Builder, use: Use) -> Symbol:
  x, y = use.inputs if isinstance(use.inputs[0], Symbol) else use.inputs[::-1]
  x = _symbol(graph, x)
  return _of_two(graph, x, y) if isinstance(y, Symbol) else _at_least(graph, x, y)


def _at_least(graph, x, c):
  """max(x, c) for a constant c."""
  if is_unknown(c):
    raise Refused
  c = np.asarray(c).astype(np.float64)
  if np.all(c == -np.inf):
    return x
  return graph.affine(rectified(graph, graph.affine(x, shift=-c)), shift=c)


def _of_two(graph, x, y):
  if (line := graph.affine_of(x, y)) is None:
    return larger(graph, x, y)
  scale, shift = line
  if np.any(shift):
    return larger(graph, x, y)
  # x and a x: the steeper one above 0, the other one below.
  return _bent(graph, x, np.maximum(scale, 1), np.minimum(scale, 1))


def _bent(graph, x, above, below):
  """x * above where x > 0, else x * below, with constants in stored axes."""
  parts = []
  if np.any(above):
    up = rectified(graph, x)
    parts.append(graph.affine_stored(up, above, np.zeros_like(above)))
  if np.any(below) and not (parts and is_nonnegative(graph, x.name)):
    down = rectified(graph, graph.affine(x, scale=-1.0))
    parts.append(graph.affine_stored(down, -below, np.zeros_like(below)))
  if not parts:
    raise Refused
  return parts[0] if len(parts) == 1 else graph.add(*parts)


def _read_min(graph: Builder, use: Use) -> Symbol:
  x, y = use.inputs if isinstance(use.inputs[0], Symbol) else use.inputs[::-1]
  x = _symbol(graph, x)
  if isinstance(y, Symbol):
    return smaller(graph, x, y)
  return _at_most(graph, x, y)


def _at_most(graph, x, c):
  """min(x, c) for a constant c."""
  if is_unknown(c):
    raise Refused
  c = np.asarray(c).astype(np.float64)
  if np.all(c == np.inf):
    return x
  if (bounded := _bounded(graph, x, c)) is not None:
    return bounded
  below = rectified(graph, graph.affine(graph.affine(x, scale=-1.0), shift=c))
  return graph.affine(graph.affine(below, scale=-1.0), shift=c)


def _bounded(graph, x, c):
  """min(x, c) of a population, scaled and moved, by its bound; None where it is something else."""
  scale, shift, name = np.ones(()), np.zeros(()), x.name
  while name in graph.nodes and graph.nodes[name].op == AFFINE:
    held = graph.arrays[name]
    scale, shift = scale * held["scale"], shift + scale * held["shift"]
    name = graph.nodes[name].inputs[0]
  if graph.kind(name) is not Kind.NEURONS or np.any(scale <= 0):
    return None
  bound = (graph.constant(x, c) - shift) / scale
  if np.any(bound != bound.flat[0]) or not 0 < bound.flat[0] < np.inf:
    return None
  node = graph.nodes[name]
  settings = dict(node.settings)
  settings["bound"] = min(float(bound.flat[0]), settings.get("bound", np.inf))
  shape = graph.shapes[name]
  clipped = graph.in_place_of(name, graph.node(NEURONS, node.inputs, shape, settings))
  made = Symbol(clipped, shape, x.axes)
  if not scale.ndim:
    return made
  return graph.affine_stored(made, scale, np.broadcast_to(shift, np.shape(shift)))


def _read_clamp(graph: Builder, use: Use) -> Symbol:
  low, x, high = use.inputs
  return _at_most(graph, _at_least(graph, _symbol(graph, x), low), high)


def _read_abs(graph: Builder, use: Use) -> Symbol:
  x = _symbol(graph, use.inputs[0])
  return _bent(graph, x, *(v * np.ones((1,) * (len(x.stored) - 1)) for v in (1.0, -1.0)))


def _read_comparison(graph: Builder, use: Use) -> Comparison:
  x, c = use.inputs
  above = use.primitive in ("gt", "ge")
  if not isinstance(x, Symbol):
    x, c, above = c, x, not above
  x, of = _symbol(graph, x), None
  if isinstance(c, Symbol):
    of = (x, c)
    x, c = graph.add(x, graph.affine(c, scale=-1.0)), 0.0
  elif is_unknown(c):
    raise Refused
  x = graph.broadcast(x, use.shapes[0])
  return Comparison(x, graph.constant(x, c), above, of)


def _read_not(graph: Builder, use: Use) -> Comparison:
  (found,) = use.inputs
  if not isinstance(found, Comparison):
    raise Refused
  return dataclasses.replace(found, above=not found.above)


def _read_known(graph: Builder, use: Use) -> np.ndarray:
  """What holds of all finite numbers: each equals itself, and neither infinity nor NaN."""
  x, *others = use.inputs
  if use.primitive == "is_finite":
    return np.ones(use.shapes[0], bool)
  (y,) = others
  if x == y:
    return np.full(use.shapes[0], use.primitive == "eq")
  constants = [np.asarray(value, np.float64) for value in (x, y) if not is_unknown(value)]
  if not constants or np.any(np.isfinite(constants)):
    raise Refused
  return np.full(use.shapes[0], use.primitive == "ne")


def _read_and_or(graph: Builder, use: Use) -> Any:
  """With truth values that are known, all of them alike."""
  found, known = use.inputs if isinstance(use.inputs[0], Comparison) else use.inputs[::-1]
  if not isinstance(found, Comparison) or is_unknown(known):
    raise Refused
  known = np.broadcast_to(np.asarray(known), use.shapes[0])
  decided = known if use.primitive == "or" else ~known
  if not np.any(decided):
    return found
  if np.all(decided):
    return known
  raise Refused


def _read_as_number(graph: Builder, use: Use) -> Comparison:
  """1 where a comparison is true and 0 elsewhere, which `mul` reads."""
  (found,) = use.inputs
  if not isinstance(found, Comparison):
    raise Refused
  return found


def _read_mul(graph: Builder, use: Use) -> Symbol:
  x, where = use.inputs if isinstance(use.inputs[1], Comparison) else use.inputs[::-1]
  if not isinstance(where, Comparison):
    raise Refused
  return _chosen(graph, where, x, np.zeros(()))


def _read_select(graph: Builder, use: Use) -> Symbol:
  where, no, yes = use.inputs
  if not isinstance(where, Comparison):
    raise Refused
  return _chosen(graph, where, yes, no)


def _chosen(graph, where, yes, no):
  """One of two values, by a comparison; both are functions of what is compared."""
  x, c = where.x, where.constant
  above, below = (yes, no) if where.above else (no, yes)
  if where.of == (above, below):
    return larger(graph, above, below)
  if where.of == (below, above):
    return smaller(graph, above, below)
  lines = [_line(graph, x, value) for value in (above, below)]
  if None not in lines:
    (up, up_shift), (down, down_shift) = lines
    at = up * c + up_shift
    if not np.allclose(at, down * c + down_shift, rtol=1e-6, atol=1e-7):
      raise Refused  # it jumps
    one = np.ones((1,) * (len(x.stored) - 1))
    moved = graph.affine_stored(x, one, -c * one)
    bent = _bent(graph, moved, up * one, down * one)
    return graph.affine_stored(bent, one, at * one)
  return _clipped(graph, where, above, below)


def _line(graph, x, value):
  """scale and shift, in stored axes, of a value that is affine in x; None where it is not."""
  if isinstance(value, Symbol):
    return graph.affine_of(x, value)
  if is_unknown(value):
    raise Refused
  shift = graph.constant(x, value)
  return np.zeros_like(shift), shift


def _clipped(graph, where, above, below):
  """A constant on one side, and on the other what comes to it there: hard tanh by `where`."""
  if isinstance(above, Symbol) == isinstance(below, Symbol):
    raise Refused
  value, c = (below, above) if isinstance(below, Symbol) else (above, below)
  constant = graph.constant(where.x, c)
  found = _along(graph, value.name, where.x.name, where.constant)
  if found is None or not np.allclose(found[0], constant, rtol=1e-6, atol=1e-7):
    raise Refused
  from_above = (found[1] > 0) == (value is below)
  return (_at_most if from_above else _at_least)(graph, value, c)


def _along(graph, name, start, value):
  """What a node is where another one has this value, and whether it rises with it (1) or falls.

  None unless it is made of that one by scales, shifts and populations alone.
  """
  if name == start:
    return value, 1
  node = graph.nodes.get(name)
  if node is None or len(node.inputs) != 1:
    return None
  found = _along(graph, node.inputs[0], start, value)
  if found is None:
    return None
  value, sign = found
  settings = dict(node.settings)
  if node.op == AFFINE:
    scale, shift = (graph.arrays[name][key] for key in ("scale", "shift"))
    if np.any(scale <= 0) and np.any(scale >= 0):
      return None
    return value * scale + shift, sign * int(np.sign(scale.flat[0]))
  if graph.kind(name) is Kind.NEURONS and "window" not in settings:
    return np.clip(value, 0, settings.get("bound", np.inf)), sign
  return None


READERS: dict[str, Reader] = {
  "max": _read_max,
  "min": _read_min,
  "clamp": _read_clamp,
  "abs": _read_abs,
  **dict.fromkeys(("gt", "ge", "lt", "le"), _read_comparison),
  "not": _read_not,
  **dict.fromkeys(("eq", "ne", "is_finite"), _read_known),
  **dict.fromkeys(("and", "or"), _read_and_or),
  "convert_element_type": _read_as_number,
  "mul": _read_mul,
  "select_n": _read_select,
}
