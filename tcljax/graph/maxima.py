"""Maxima of numbers of either sign, as maxima of two, each of which is a population.

max(x, y) = x + max(y - x, 0)
"""

import math

from tcljax.graph.builder import Builder
from tcljax.graph.layout import Symbol, as_stored
from tcljax.graph.populations import Window, rectified, windows_of
from tcljax.graph.record import Refused

LARGEST_WINDOW = 32  # whose maximum is written so
_LARGEST_IN_A_ROW = 3  # whose numbers are compared one after another, which takes fewest neurons


def without_maxima(graph: Builder, name: str) -> str:
  """A node that computes what a maximum of windows does, by maxima of two.

  A window is halved until few numbers are left, so that a number passes few populations.

  Raises:
    Refused: if windows are large.
  """
  (of,), windows = graph.nodes[name].inputs, windows_of(graph, name)
  if math.prod(w.size for w in windows.values()) > LARGEST_WINDOW:
    raise Refused
  x = as_stored(of, graph.shapes[of])
  for k, (size, stride, low, high) in windows.items():
    n = x.stored[k]
    count = Window(size, stride, low, high).count(n)
    # A window that holds padding holds the pixel at that edge too, which stands for it.
    places = [[min(max(j * stride + i - low, 0), n - 1) for i in range(size)] for j in range(count)]
    while size > _LARGEST_IN_A_ROW:
      half = -(-size // 2)
      first = graph.take(x, k, [i for window in places for i in window[:half]])
      last = graph.take(x, k, [i for window in places for i in window[-half:]])
      x, size = larger(graph, first, last), half
      places = [[*range(j * half, (j + 1) * half)] for j in range(count)]
    parts = [graph.take(x, k, [window[i] for window in places]) for i in range(size)]
    x = parts[0]
    for y in parts[1:]:
      x = larger(graph, x, y)
  return x.name


def larger(graph: Builder, x: Symbol, y: Symbol) -> Symbol:
  """The maximum of two values: x + max(y - x, 0)."""
  return graph.add(x, rectified(graph, graph.add(y, graph.affine(x, scale=-1.0))))


def smaller(graph: Builder, x: Symbol, y: Symbol) -> Symbol:
  """The minimum of two values: x - max(x - y, 0)."""
  difference = graph.add(x, graph.affine(y, scale=-1.0))
  return graph.add(x, graph.affine(rectified(graph, difference), scale=-1.0))
