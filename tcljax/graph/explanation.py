"""The fates of a model's operations, once it is known what they became in a graph."""

import dataclasses
from collections.abc import Mapping, Sequence

from tcljax.graph.assembly import Assembled
from tcljax.graph.fates import (
  AFFINE,
  AFTER_REFUSED,
  DROPPED,
  FOLDED,
  IGNORED,
  MOVED,
  POOLING,
  POPULATION,
  REFUSED,
  Fate,
)
from tcljax.graph.nodes import NEURONS, Graph, Node
from tcljax.graph.operations import find
from tcljax.graph.record import Kind

_OF_KINDS = {Kind.SYNAPSES: AFFINE, Kind.MAXIMUM: POOLING, Kind.PASSAGE: MOVED}
_SUMS = ("affine", "add")  # passages that compute


def fates_of(
  found: Assembled, into: Mapping[str, str], graph: Graph, endings: Sequence[str] = ()
) -> tuple[Fate, ...]:
  """The fates of all operations, with what they became in the folded graph.

  Args:
    found: what was read of the model.
    into: for each node of its graph the node of the folded one, see `folded`.
    graph: the folded one.
    endings: for each output the name of what is left out at its end, or "".
  """
  fates = list(found.fates)
  populations = {*graph.populations()}
  for step, made in found.made.items():
    fate = fates[step]
    became = [into[name] for name in made]
    neurons = [name for name in dict.fromkeys(became) if name in populations]
    if fate.fate in (POPULATION, POOLING) and neurons:
      fate = dataclasses.replace(fate, detail=", ".join(neurons))
    elif fate.fate == AFFINE and made:
      taken = all(
        name.startswith("affine:") and not into[name].startswith("affine:") for name in made
      )
      fate = dataclasses.replace(
        fate, fate=FOLDED if taken else AFFINE, detail=", ".join(dict.fromkeys(became))
      )
    elif fate.fate == AFFINE:  # a population has taken it up
      fate = dataclasses.replace(fate, fate=FOLDED)
    fates[step] = fate
  for step, fate in enumerate(fates):
    if step not in found.used:
      fates[step] = dataclasses.replace(fate, fate=IGNORED, detail="")
  for left, ending in zip(found.unread, endings):
    if left is None:
      continue
    first, *_ = left.steps or (None,)
    for step in left.before if ending else ():
      fates[step] = dataclasses.replace(fates[step], fate=DROPPED, detail=ending)
    for step in left.steps:
      if ending:
        fates[step] = dataclasses.replace(fates[step], fate=DROPPED, detail=ending)
      elif step == first:
        reason = str(left.error).partition(": ")[2]
        fates[step] = dataclasses.replace(fates[step], fate=REFUSED, detail=reason)
      else:
        fates[step] = dataclasses.replace(fates[step], fate=AFTER_REFUSED)
  return tuple(fates)


def fates_of_graph(graph: Graph) -> tuple[Fate, ...]:
  """What the nodes of a graph are, of which no more is known."""
  return tuple(Fate(node.op, "", "", _fate(node), node.name) for node in graph.nodes)


def _fate(node: Node) -> str:
  if node.op == NEURONS:
    return POOLING if "window" in dict(node.settings) else POPULATION
  return AFFINE if node.op in _SUMS else _OF_KINDS[find(node.op).kind]
