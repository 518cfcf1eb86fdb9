"""Maxima of numbers of either sign, as maxima of two, each of which is a population.

max(x, y) = x + max(y - x, 0)
"""

import math

from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol, as_stored
from tcljax.graph.populations import Window, rectified, windows_of
from tcljax.graph.record import Refused

_LARGEST_WINDOW = 32  # whose maximum is written so


def without_maxima(graph: Builder, name: str) -> str:
  """A node that computes what a maximum of windows does, by maxima of two.

  Raises:
    Refused: if windows are large, or hold padding that no pixel of theirs can stand for.
  """
  (of,), windows = graph.nodes[name].inputs, windows_of(graph, name)
  if math.prod(w.size for w in windows.values()) > _LARGEST_WINDOW:
    raise Refused
  shape = graph.shapes[of]
  x = as_stored(of, shape)
  for k, (size, stride, low, high) in windows.items():
    n = x.stored[k]
    count = Window(size, stride, low, high).count(n)
    # A window that holds padding holds the pixel at that edge too, which stands for it.
    parts = []
    for i in range(size):
      places = [min(max(j * stride + i - low, 0), n - 1) for j in range(count)]
      parts.append(graph.take(x, k, places))
    x = parts[0]
    for y in parts[1:]:
      x = larger(graph, x, y)
  return x.name


def larger(graph: Builder, x: Symbol, y: Symbol) -> Symbol:
  """The maximum of two values: x + max(y - x, 0)."""
  return graph.add(x, rectified(graph, graph.add(y, graph.affine(x, scale=-1.0))))
