"""How a value of the model lies in the node of the graph that makes it.

A graph keeps its values with the batch first and channels last. Models keep theirs in any order:
PyTorch has channels second, `jax.vmap` puts the batch anywhere, and a layer on tokens merges them
with the batch. So a value is known by its node and by a layout, which says of each axis of the
model's value which axes of the node's value it is made of. To transpose, to merge, or to drop an
axis of size 1 then changes the layout alone, and costs the graph nothing.
"""

import dataclasses
import math
from collections.abc import Sequence

Axes = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Symbol:
  """A value that depends on the network's input.

  Attributes:
    name: of the node that makes it.
    stored: shape of the node's value; axis 0 is the batch.
    axes: for each axis of the model's value, the axes of the node's value that it is made of, the
      slowest first; none for an axis of size 1. Stored axes that none is made of have size 1.
  """

  name: str
  stored: tuple[int, ...]
  axes: Axes

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the model's value."""
    return tuple(math.prod(self.stored[k] for k in of) for of in self.axes)

  @property
  def ndim(self) -> int:
    """How many axes the model's value has."""
    return len(self.axes)

  @property
  def batch(self) -> int:
    """How many examples it was traced with."""
    return self.stored[0]

  def sizes(self, axis: int) -> tuple[int, ...]:
    """Those of the stored axes that an axis of the model's value is made of."""
    return tuple(self.stored[k] for k in self.axes[axis])

  def has_batch(self, axis: int) -> bool:
    """Whether an axis of the model's value is the batch, alone or with others."""
    return 0 in self.axes[axis]


def as_stored(name: str, shape: tuple[int, ...]) -> Symbol:
  """The value of a node as it is stored."""
  return Symbol(name, shape, tuple((k,) for k in range(len(shape))))


def cuts(sizes: tuple[int, ...]) -> set[int]:
  """Where an axis made of axes of these sizes is cut: the products of the fastest so many."""
  return {math.prod(sizes[i:]) for i in range(1, len(sizes))}


def pieces(size: int, at: set[int]) -> tuple[int, ...] | None:
  """The sizes of an axis cut at these products; None where they do not divide each other."""
  found, whole = [], size
  for cut in sorted(at, reverse=True):
    if whole % cut:
      return None
    found.append(whole // cut)
    whole = cut
  return tuple(n for n in (*found, whole) if n > 1)


def parted(sizes: Sequence[int], at: set[int]) -> list[list[int]]:
  """The places of sizes, in groups that end at these cuts."""
  groups, rest = [[]], math.prod(sizes)
  for i, n in enumerate(sizes):
    groups[-1].append(i)
    rest //= n
    if rest in at:
      groups.append([])
  return groups


def order_of(order: Sequence[int], stored: Sequence[int]) -> list[int]:
  """An order without the axes of size 1, which can be anywhere; the batch counts."""
  return [k for k in order if stored[k] > 1 or k == 0]
