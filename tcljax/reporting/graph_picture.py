"""The graph of a network as a picture: a box a population, with all that leads to it alone.

What moves or scales numbers is no box. Boxes stand in layers, each below all that it reads; what
reads over several layers is led past them, on the right.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.conversion.network import SpikingNetwork
from tcljax.evaluation.connections import shapes_of
from tcljax.graph.nodes import Graph
from tcljax.graph.operations import find
from tcljax.graph.record import Kind
from tcljax.layers.collections import PARAMS
from tcljax.reporting.drawing import (
  BLUE,
  INK,
  MUTED,
  PAPER,
  VERMILLION,
  WIDTH,
  Drawn,
  label,
  new_figure,
)

MOST_BOXES = 200
_OUTPUT = "output"
_TIMES = "\N{MULTIPLICATION SIGN}"
_HEIGHT, _GAP, _LANE = 0.40, 0.24, 0.13  # inches
_ALONE, _BESIDE, _BETWEEN = 3.3, 2.1, 0.15


@dataclasses.dataclass(frozen=True)
class Box:
  """One box.

  Attributes:
    name: of the node that it stands for.
    kind: "input", "neurons", "output", or the operation that several others read.
    note: what it does.
    reads: the boxes that it reads, each with whether weights lie on the way.
  """

  name: str
  kind: str
  note: str
  reads: tuple[tuple[str, bool], ...]


def boxes(network: SpikingNetwork) -> list[Box]:
  """The boxes of a network, each after those that it reads."""
  graph = network.graph
  shapes = shapes_of(graph, network.variables, network.input_shape)
  kinds = {node.name: find(node.op).kind for node in graph.nodes}
  ends = graph.outputs()
  own = _own(graph, kinds)
  size = lambda name: _TIMES.join(map(str, shapes[name][1:]))
  inputs = graph.input_names()
  found = [Box(name, "input", size(name), ()) for name in inputs]
  for node in graph.nodes:
    if node.name not in own:
      continue
    neurons = kinds[node.name] is Kind.NEURONS
    operations, reads = _behind(graph, kinds, own, node.inputs)
    if not neurons:
      operations = [node.name, *operations]
      weighted = kinds[node.name] is Kind.SYNAPSES
      reads = {name: before or weighted for name, before in reads.items()}
    note = [_operation(network, name) for name in operations]
    note += [f"{size(node.name)} neurons"] if neurons else []
    kind = "neurons" if neurons else node.op
    found.append(Box(node.name, kind, " · ".join(note), tuple(reads.items())))
  for number, end in enumerate(ends):
    operations, reads = _behind(graph, kinds, own, (end,))
    note = [*[_operation(network, name) for name in operations], size(end)]
    name = _OUTPUT if len(ends) == 1 else f"{_OUTPUT} {number + 1}"
    found.append(Box(name, _OUTPUT, " · ".join(note), tuple(reads.items())))
  return found


def _own(graph: Graph, kinds: Mapping[str, Kind]) -> set[str]:
  """The nodes that have a box: populations, and what computes for several boxes."""
  readers: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
  for node in graph.nodes:
    for name in node.inputs:
      readers.get(name, []).append(node.name)
  own, leads = set(), {}
  for node in reversed(graph.nodes):
    to = {f"{_OUTPUT} {k}" for k, end in enumerate(graph.outputs()) if end == node.name}
    for reader in readers[node.name]:
      to |= {reader} if reader in own else leads[reader]
    leads[node.name] = to
    shared = len(to) > 1 and kinds[node.name] in (Kind.SYNAPSES, Kind.MAXIMUM)
    if shared or kinds[node.name] is Kind.NEURONS:
      own.add(node.name)
  return own


def _behind(
  graph: Graph, kinds: Mapping[str, Kind], own: set[str], names: Sequence[str]
) -> tuple[list[str], dict[str, bool]]:
  """What computes between some nodes and the boxes before them, and these boxes.

  Returns:
    The nodes, in their order, and the boxes, each with whether weights lie on the way.
  """
  nodes = {node.name: node for node in graph.nodes}
  operations, reads = set(), {}
  left, seen = [(name, False) for name in names], set()
  while left:
    name, weighted = left.pop()
    if (name, weighted) in seen:
      continue
    seen.add((name, weighted))
    if name in own or name not in nodes:
      reads[name] = reads.get(name, False) or weighted
      continue
    if kinds[name] in (Kind.SYNAPSES, Kind.MAXIMUM):
      operations.add(name)
    left += [(of, weighted or kinds[name] is Kind.SYNAPSES) for of in nodes[name].inputs]
  return [node.name for node in graph.nodes if node.name in operations], reads


def _operation(network: SpikingNetwork, name: str) -> str:
  """An operation with the size of its kernel, of a convolution."""
  kernel = network.variables[PARAMS].get(name, {}).get("kernel")
  shape = np.shape(kernel)[:-2]
  return " ".join([name.partition(":")[0], _TIMES.join(map(str, shape))]).strip()


def ranks(found: Sequence[Box]) -> dict[str, int]:
  """The layer that each box stands in, 0 on top: below all that it reads."""
  rank: dict[str, int] = {}
  for box in found:
    rank[box.name] = max((rank[name] + 1 for name, _ in box.reads), default=0)
  return rank


def picture(found: Sequence[Box]) -> Drawn:
  """The picture of these boxes."""
  from matplotlib.patches import FancyBboxPatch

  rank, centers = ranks(found), {}
  rows = _rows(found, rank)
  most = max(map(len, rows))
  width = _ALONE if most == 1 else _BESIDE
  lanes = _lanes(found, rank)
  right = most * (width + _BETWEEN) / 2
  beyond = right + _LANE * (1 + max(lanes.values(), default=0)) + 0.1
  for y, row in enumerate(rows):
    for k, name in enumerate(row):
      centers[name] = ((k - (len(row) - 1) / 2) * (width + _BETWEEN), -y * (_HEIGHT + _GAP))
  across, down = right + beyond, len(rows) * (_HEIGHT + _GAP)
  figure = new_figure(down, max(WIDTH, across), layout=None)
  axes = figure.add_axes((0, 0, 1, 1))
  spare = max(0.0, WIDTH - across) / 2
  axes.set(
    xlim=(-right - spare, beyond + spare),
    ylim=(_GAP / 2 + _HEIGHT / 2 - down, (_HEIGHT + _GAP) / 2),
  )
  axes.set_axis_off()
  for box in found:
    for name, weighted in box.reads:
      lane = lanes.get((name, box.name))
      _edge(
        axes,
        centers[name],
        centers[box.name],
        weighted,
        width,
        None if lane is None else right + _LANE * lane,
      )
  edge_colors = {"neurons": BLUE, "input": MUTED, _OUTPUT: VERMILLION}
  for box in found:
    x, y = centers[box.name]
    corner = (x - width / 2, y - _HEIGHT / 2)
    color = edge_colors.get(box.kind, MUTED)
    shape = FancyBboxPatch(corner, width, _HEIGHT, "round,pad=0,rounding_size=0.06")
    shape.set(facecolor=PAPER, edgecolor=color, linewidth=1.4, zorder=3)
    axes.add_patch(shape)
    letters = int(width * 15)
    axes.text(
      x, y + 0.085, label(box.name, letters), ha="center", va="center", fontsize=8.5, zorder=4
    )
    note = label(box.note, letters + 4)
    axes.text(x, y - 0.09, note, ha="center", va="center", fontsize=7.5, color=INK, zorder=4)
  data = [
    {**dataclasses.asdict(box), "reads": [list(of) for of in box.reads], "layer": rank[box.name]}
    for box in found
  ]
  populations = sum(box.kind == "neurons" for box in found)
  alt = (
    f"Graph of the network: {populations} populations of neurons in {len(rows)} layers, from input "
    "to output."
  )
  return Drawn("graph", figure, data, alt, wide=across > WIDTH + 1)


def _rows(found: Sequence[Box], rank: Mapping[str, int]) -> list[list[str]]:
  """The names in each layer, each near to the middle of what it reads."""
  rows: list[list[str]] = [[] for _ in range(1 + max(rank.values()))]
  reads = {box.name: [name for name, _ in box.reads] for box in found}
  for box in found:
    rows[rank[box.name]].append(box.name)
  place: dict[str, float] = {}
  for row in rows:
    row.sort(key=lambda name: np.mean([place.get(of, 0.0) for of in reads[name]] or [0.0]))
    place |= {name: k - (len(row) - 1) / 2 for k, name in enumerate(row)}
  return rows


def _lanes(found: Sequence[Box], rank: Mapping[str, int]) -> dict[tuple[str, str], int]:
  """For each edge over several layers the lane, from 1 on, in which it passes them alone."""
  far = [
    (rank[name], rank[box.name], name, box.name)
    for box in found
    for name, _ in box.reads
    if rank[box.name] - rank[name] > 1
  ]
  lanes: dict[tuple[str, str], int] = {}
  taken: list[list[tuple[int, int]]] = []
  for top, bottom, name, reader in sorted(far, key=lambda edge: (edge[1] - edge[0], edge[0])):
    free = (k for k, spans in enumerate(taken) if all(bottom <= a or b <= top for a, b in spans))
    lane = next(free, len(taken))
    if lane == len(taken):
      taken.append([])
    taken[lane].append((top, bottom))
    lanes[name, reader] = lane + 1
  return lanes


def _edge(axes: Any, start, end, weighted: bool, width: float, lane: float | None) -> None:
  """An arrow from one box down to another; `lane` is where it passes others."""
  from matplotlib.patches import FancyArrowPatch
  from matplotlib.path import Path

  (x, y), (u, v) = start, end
  half = _HEIGHT / 2
  if lane is None:
    y, v = y - half, v + half
    middle = (y + v) / 2
    points = [(x, y), (x, middle), (u, middle), (u, v)]
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
  else:
    x, u, y, v = x + width / 2, u + width / 2, y - 0.05, v + 0.05
    r = 0.1
    points = [
      (x, y),
      (lane - r, y),
      (lane, y),
      (lane, y - r),
      (lane, v + r),
      (lane, v),
      (lane - r, v),
      (u, v),
    ]
    codes = [
      Path.MOVETO,
      Path.LINETO,
      Path.CURVE3,
      Path.CURVE3,
      Path.LINETO,
      Path.CURVE3,
      Path.CURVE3,
      Path.LINETO,
    ]
    path = Path(points, codes)
  arrow = FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=8)
  arrow.set(color=MUTED, linestyle="-" if weighted else (0, (3, 2)), linewidth=1.1, zorder=2)
  axes.add_patch(arrow)
