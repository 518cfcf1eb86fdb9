"""Values in any layout, made into nodes while a model is read."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tcljax.graph.layout import Axes, Symbol, as_stored, cuts, order_of, parted, pieces
from tcljax.graph.record import Refused
from tcljax.graph.store import AFFINE, Store


class Builder(Store):
  """A store of nodes, and what changes the layout of their values or computes with them."""

  def same_layout(self, x: Symbol, name: str) -> Symbol:
    """The value of a node that has the axes of `x`, some of other sizes."""
    return Symbol(name, self.shapes[name], x.axes)

  def arranged(self, x: Symbol, order: Sequence[int], shape: Sequence[int], axes: Axes) -> Symbol:
    """The same numbers with the stored axes in another order, then in another shape.

    Args:
      x: a value.
      order: all stored axes of more than one, 0 first; others are left out.
      shape: of the value that is stored.
      axes: of the new symbol.
    """
    shape = tuple(map(int, shape))
    order = tuple(order) + tuple(k for k in range(len(x.stored)) if k not in order)
    name, stored = x.name, x.stored
    if order_of(order, stored) != sorted(order_of(order, stored)):
      before = self.nodes.get(name)
      if before is not None and before.op == "transpose":  # two are one
        inner: Any = dict(before.settings)["permutation"]
        order, name = tuple(inner[k] for k in order), before.inputs[0]
        stored = self.shapes[name]
      moved = tuple(stored[k] for k in order)
      if order != tuple(range(len(order))):
        name = self.node("transpose", (name,), moved, {"permutation": order})
    return Symbol(self._reshaped(name, shape), shape, axes)

  def _reshaped(self, name, shape):
    """A node's value in another shape; of several reshapes in a row the last is enough."""
    while name in self.nodes and self.nodes[name].op == "reshape":
      name = self.nodes[name].inputs[0]
    known = self.shapes[name]
    return name if known == shape else self.node("reshape", (name,), shape, {"shape": shape[1:]})

  def as_in_model(self, x: Symbol) -> Symbol:
    """The value stored as the model has it, axis by axis.

    Raises:
      Refused: if the batch is not its first axis.
    """
    if not x.axes or x.axes[0] != (0,):
      raise Refused
    order = [k for of in x.axes for k in of]
    made = self.arranged(x, order, x.shape, ())
    return as_stored(made.name, made.stored)

  def cut(self, x: Symbol, axis: int, sizes: tuple[int, ...]) -> Symbol:
    """The value with one axis cut into stored axes at least as fine as these sizes, all above 1.

    Where its own stored axes do not fit into these, they become one first.

    Raises:
      Refused: if examples would be mixed.
    """
    finer = pieces(x.shape[axis], cuts(x.sizes(axis)) | cuts(sizes))
    if finer is None:
      x, finer = self.whole(x, axis), sizes
    parts, rest = {}, list(finer)
    for k in x.axes[axis]:
      parts[k] = []
      while math.prod(parts[k]) < x.stored[k]:
        parts[k].append(rest.pop(0))
    if len(parts.get(0, ())) > 1:
      raise Refused
    shape, places = [], {}
    for k, n in enumerate(x.stored):
      now = parts.get(k) or [n]
      places[k] = tuple(range(len(shape), len(shape) + len(now)))
      shape += now
    axes = tuple(tuple(j for k in of for j in places[k]) for of in x.axes)
    return self.arranged(x, range(len(x.stored)), shape, axes)

  def whole(self, x: Symbol, axis: int) -> Symbol:
    """The value with one axis that is one stored axis, also where its size is 1.

    Raises:
      Refused: if it is the batch and others.
    """
    of = x.axes[axis]
    if len(of) == 1:
      return x
    if 0 in of:
      raise Refused
    if not of:
      return self._with_axis(x, axis)
    others = [k for k in range(len(x.stored)) if k not in of]
    place = sum(k < max(of) for k in others)
    order = [*others[:place], *of, *others[place:]]
    new = {k: i if i < place else i + 1 for i, k in enumerate(others)} | dict.fromkeys(of, place)
    shape = [x.stored[k] for k in others]
    shape.insert(place, x.shape[axis])
    axes = tuple(tuple(dict.fromkeys(new[k] for k in of)) for of in x.axes)
    return self.arranged(x, order, shape, axes)

  def _with_axis(self, x, axis):
    """The value with a stored axis for one of size 1: before the next one, or before the last."""
    after = [k for of in x.axes[axis + 1 :] for k in of if k]
    last = len(x.stored) - (axis < x.ndim - 1 and len(x.stored) > 1)
    place = after[0] if after else last
    shape = (*x.stored[:place], 1, *x.stored[place:])
    axes = [tuple(k + (k >= place) for k in of) for of in x.axes]
    axes[axis] = (place,)
    return self.arranged(x, range(len(x.stored)), shape, tuple(axes))

  def reshaped(self, x: Symbol, sizes: Sequence[int]) -> Symbol:
    """The value with axes of other sizes, as the model has it.

    Axes are merged by name alone. What lies between two cuts that both shapes have is one matter.

    Raises:
      Refused: if examples would be mixed.
    """
    order = [k for of in x.axes for k in of if x.stored[k] > 1 or k == 0]
    large = tuple(n for n in sizes if n > 1)
    shared = cuts(tuple(x.stored[k] for k in order)) & cuts(large)
    parts, inner = parted([x.stored[k] for k in order], shared), parted(large, shared)
    x = Symbol(x.name, x.stored, tuple(tuple(order[i] for i in part) for part in parts))
    for axis, part in enumerate(inner):
      x = self.cut(x, axis, tuple(large[i] for i in part))
    rest, axes = [k for of in x.axes for k in of if x.stored[k] > 1 or k == 0], []
    for n in sizes:
      of = []
      while math.prod(x.stored[k] for k in of) < n:
        of.append(rest.pop(0))
      axes.append(tuple(of))
    return Symbol(x.name, x.stored, tuple(axes))

  def broadcast(self, x: Symbol, shape: Sequence[int]) -> Symbol:
    """The value repeated along axes of size 1, to a shape of the model."""
    for axis, n in enumerate(shape):
      if x.shape[axis] != n:
        x = self.take(x, axis, (0,) * n)
    return x

  def take(self, x: Symbol, axis: int, indices: Sequence[int]) -> Symbol:
    """The entries along one axis that have these indices.

    Raises:
      Refused: if they are examples.
    """
    indices = tuple(map(int, indices))
    if indices == tuple(range(x.shape[axis])):
      return x
    if x.has_batch(axis):
      raise Refused
    x = self.whole(x, axis)
    (k,) = x.axes[axis]
    shape = (*x.stored[:k], len(indices), *x.stored[k + 1 :])
    steps = {b - a for a, b in itertools.pairwise(indices)} or {1}
    if len(steps) == 1 and min(steps) > 0:
      start, limit = [0] * len(shape), list(x.stored)
      start[k], limit[k] = indices[0], indices[-1] + 1
      strides = [1] * len(shape)
      strides[k] = min(steps)
      settings = {
        "start": tuple(start[1:]),
        "limit": tuple(limit[1:]),
        "strides": tuple(strides[1:]),
      }
      return self.same_layout(x, self.node("slice", (x.name,), shape, settings))
    settings = {"axis": k, "indices": indices}
    return self.same_layout(x, self.node("take", (x.name,), shape, settings))

  def constant(self, x: Symbol, value: Any) -> np.ndarray:
    """A constant that the model combines with `x`, as the node's value needs it: for one example.

    Args:
      x: a value that has at least the constant's sizes.
      value: a number, or with an axis for each of the model's value, of its size or of 1.

    Returns:
      The constant in float64; axes along which it does not change have size 1.

    Raises:
      Refused: if it differs from example to example.
    """
    value = np.asarray(value).astype(np.float64)
    if value.ndim == 0:
      return value.reshape((1,) * (len(x.stored) - 1))
    sizes = [n if value.shape[axis] > 1 else 1 for axis in range(x.ndim) for n in x.sizes(axis)]
    order = [k for of in x.axes for k in of]
    missing = [k for k in range(len(x.stored)) if k not in order]
    value = value.reshape(*sizes, *[1] * len(missing)).transpose(np.argsort(order + missing))
    if value.shape[0] > 1 and not np.all(value == value[:1]):
      raise Refused
    value = value[0]
    for k in range(value.ndim):
      first = value.take([0], k)
      value = first if np.all(value == first) else value
    return value

  def alike(self, xs: Sequence[Symbol], along: int | None = None) -> list[Symbol]:
    """Values stored alike, axis by axis, so that they can be added or joined.

    Args:
      xs: values with as many axes, whose sizes are equal or 1.
      along: an axis that they may differ in; it becomes one stored axis of each.
    """
    shape = tuple(max(sizes) for sizes in zip(*(x.shape for x in xs)))
    first = max(xs, key=lambda x: math.prod(x.stored))
    if along is None:
      xs = [self.broadcast(x, shape) if x is first else x for x in xs]
    for axis in range(first.ndim):
      if axis == along:
        xs = [self.whole(x, axis) for x in xs]
        continue
      found = [x.sizes(axis) for x in xs if x.shape[axis] > 1]
      if len(set(found)) > 1:
        sizes = pieces(shape[axis], set().union(*map(cuts, found)))
        fit = (
          (lambda x, axis=axis: self.whole(x, axis))
          if sizes is None
          else (lambda x, axis=axis, sizes=sizes: self.cut(x, axis, sizes))
        )
        xs = [fit(x) if x.shape[axis] > 1 else x for x in xs]
    first = max(xs, key=lambda x: math.prod(x.stored))
    return [self._like(x, first) for x in xs]

  def _like(self, x, first):
    """The value in the layout of another, whose axes are made of as many stored ones."""
    if x.axes == first.axes and len(x.stored) == len(first.stored):
      return x
    owner = {k: (axis, i) for axis, of in enumerate(first.axes) for i, k in enumerate(of)}
    order, shape = [], []
    for k in range(len(first.stored)):
      axis, i = owner.get(k, (None, 0))
      present = axis is not None and i < len(x.axes[axis])
      order += [x.axes[axis][i]] if present else []
      shape.append(x.stored[x.axes[axis][i]] if present else 1)
    return self.arranged(x, order, shape, first.axes)

  # Values that are made of others in more than one place.

  def affine(self, x: Symbol, scale: Any = 1.0, shift: Any = 0.0) -> Symbol:
    """x * scale + shift.

    Args:
      x: a value.
      scale: a number, or an array that JAX would multiply the model's value by.
      shift: the same.

    Raises:
      Refused: if they differ from example to example.
    """
    shapes = [np.shape(a) for a in (scale, shift) if np.ndim(a)]
    x = self.broadcast(x, np.broadcast_shapes(x.shape, *shapes))
    arrays = {"scale": self.constant(x, scale), "shift": self.constant(x, shift)}
    return self.affine_stored(x, **arrays)

  def affine_stored(self, x: Symbol, scale: np.ndarray, shift: np.ndarray) -> Symbol:
    """x * scale + shift, with constants for one example in stored axes."""
    if np.all(scale == 1) and not np.any(shift):
      return x
    arrays = {"scale": scale, "shift": shift}
    return self.same_layout(x, self.node(AFFINE, (x.name,), x.stored, arrays=arrays))

  def add(self, x: Symbol, y: Symbol) -> Symbol:
    """The sum of two values, broadcast along axes of size 1."""
    x, y = self.alike([x, y])
    shape = np.broadcast_shapes(x.stored, y.stored)
    larger = x if x.stored == shape else y
    return Symbol(self.node("add", (x.name, y.name), shape), tuple(shape), larger.axes)

  def affine_of(self, x: Symbol, y: Symbol) -> tuple[np.ndarray, np.ndarray] | None:
    """scale and shift, in stored axes, with which y = x * scale + shift; None if it is not so."""
    if x.axes != y.axes or len(x.stored) != len(y.stored):
      return None
    one = np.ones((1,) * (len(y.stored) - 1))
    scale, shift, name = one, 0 * one, y.name
    while name != x.name:
      if name not in self.nodes or self.nodes[name].op != AFFINE:
        return None
      held = self.arrays[name]
      scale, shift = scale * held["scale"], shift + scale * held["shift"]
      name = self.nodes[name].inputs[0]
    return scale, shift
