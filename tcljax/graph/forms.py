"""The form of each operation: what its settings may be, and which shapes follow from them.

It is worked out in whole numbers, before anything is allocated, traced or compiled. So a graph that
somebody else wrote can be refused while it is still a text. Shapes are those of one example,
without the batch, and no form lets an operation mix examples.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tcljax.graph.whole_numbers import Shape, check_entries, check_integer, check_integers
from tcljax.layers.collections import RAW_THRESHOLD, V_INIT
from tcljax.maths.max_pooling import MaxPool
from tcljax.maths.values import check_bound

_WINDOW = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
_POOL = tuple(field.name for field in dataclasses.fields(MaxPool))


class Form(NamedTuple):
  """What follows from the shapes that go into an operation, and from its settings.

  Attributes:
    output: shape of its output.
    arrays: the shape that each of its arrays must have.
    terms: how many numbers each number of its output is made of.
    padded: how many numbers its input has once it is padded and dilated.
  """

  output: Shape
  arrays: Mapping[str, Shape] = {}
  terms: int = 1
  padded: int = 0


def conv(inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]) -> Form:
  """Of a convolution; the kernel's own sizes and channels are free, its bias may be missing.

  Args:
    inputs: shapes of the operation's inputs.
    settings: of the node.
    listed: shapes that its arrays are said to have.

  Raises:
    ValueError: if they do not fit together, as do all forms.
  """
  (x,) = _count(inputs, 1)
  names = ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "feature_group_count")
  strides, padding, dilation, kernel_dilation, groups = _values(settings, names)
  axes = len(x) - 1
  if not 1 <= axes <= 3:
    raise ValueError(f"a convolution takes images of 1 to 3 axes and channels, not {x}")
  kernel = _kernel(listed, axes + 2)
  check_integer("feature_group_count", groups, 1)
  if kernel[-2] * groups != x[-1] or kernel[-1] % groups:
    raise ValueError(f"a kernel {kernel} in {groups} groups does not fit {x[-1]} channels")
  pixels, padded = _windows(x[:-1], kernel[:axes], strides, padding, dilation, kernel_dilation)
  return Form(
    (*pixels, kernel[-1]),
    _with_bias(kernel, listed),
    math.prod(kernel[:-1]),
    math.prod(padded) * x[-1],
  )


def dense(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of a product of the last axis with weights; its bias may be missing."""
  (x,) = _count(inputs, 1)
  _values(settings, ())
  kernel = _kernel(listed, 2)
  if not x or kernel[0] != x[-1]:
    raise ValueError(f"a kernel {kernel} does not fit an input of shape {x}")
  return Form((*x[:-1], kernel[1]), _with_bias(kernel, listed), kernel[0])


def affine(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of a scale and a shift, whose axes have the sizes of the input's or the size 1."""
  (x,) = _count(inputs, 1)
  _values(settings, ())
  arrays = {}
  for name in ("scale", "shift"):
    found = listed.get(name, ())
    fits = len(found) == len(x) and all(n in (1, m) for n, m in zip(found, x))
    arrays[name] = found if fits else x
  return Form(x, arrays)


def add(inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]) -> Form:
  """Of a sum of two branches; along axes of size 1 one is repeated."""
  x, y = _count(inputs, 2)
  _values(settings, ())
  if len(x) != len(y) or any(n != m and 1 not in (n, m) for n, m in zip(x, y)):
    raise ValueError(f"it adds values of unlike shapes, {x} and {y}")
  return Form(tuple(map(max, x, y)), terms=2)


def sum_pool(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of a sum or a maximum over windows, whose settings count the batch as an axis."""
  (x,) = _count(inputs, 1)
  values = _values(settings, _WINDOW)
  window, strides, padding, dilation, window_dilation = values
  for name, value, neutral in zip(_WINDOW, values, (1, 1, (0, 0), 1, 1)):
    if not isinstance(value, tuple) or len(value) != len(x) + 1 or value[0] != neutral:
      raise ValueError(f"{name}={value} must have {len(x) + 1} entries, the first {neutral}")
  check_integers("window_dimensions", window, len(x) + 1, 1)
  pixels, padded = _windows(
    x, window[1:], strides[1:], padding[1:], dilation[1:], window_dilation[1:]
  )
  return Form(pixels, terms=math.prod(window), padded=math.prod(padded))


def max_pool(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of a maximum over windows, each of which must hold something besides padding."""
  form = sum_pool(inputs, settings, listed)
  for sides, size, dilation, between in zip(
    *(settings[name] for name in ("padding", "window_dimensions", "base_dilation")),
    settings["window_dilation"],
  ):
    if dilation != 1 or max(sides) >= size or (max(sides) > 0 and between != 1):
      raise ValueError(f"padding={sides} may leave a window of {size} with nothing else")
  return form


def total(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of a sum over whole axes, which count the batch as axis 0."""
  (x,) = _count(inputs, 1)
  (axes,) = _values(settings, ("axes",))
  check_integers("axes", axes, None, 1, len(x))
  if len(set(axes)) != len(axes):
    raise ValueError(f"axes={axes} names an axis twice")
  return Form(
    tuple(n for axis, n in enumerate(x, 1) if axis not in axes),
    terms=math.prod(x[axis - 1] for axis in axes),
  )


def reshape(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of the same numbers in another shape."""
  (x,) = _count(inputs, 1)
  (shape,) = _values(settings, ("shape",))
  check_integers("shape", shape, None, 1)
  if math.prod(shape) != math.prod(x):
    raise ValueError(f"an input of shape {x} cannot have the shape {shape}")
  return Form(shape)


def transpose(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of axes in another order, the batch, axis 0, staying the first."""
  (x,) = _count(inputs, 1)
  (permutation,) = _values(settings, ("permutation",))
  check_integers("permutation", permutation, len(x) + 1, 0)
  if permutation[0] != 0 or sorted(permutation) != list(range(len(x) + 1)):
    raise ValueError(f"permutation={permutation} must order {len(x) + 1} axes, 0 as the first")
  return Form(tuple(x[axis - 1] for axis in permutation[1:]))


def cut(inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]) -> Form:
  """Of a slice along each axis."""
  (x,) = _count(inputs, 1)
  start, limit, strides = _values(settings, ("start", "limit", "strides"))
  for name, value, least in (("start", start, 0), ("limit", limit, 1), ("strides", strides, 1)):
    check_integers(name, value, len(x), least)
  if not all(a < b <= n for a, b, n in zip(start, limit, x)):
    raise ValueError(f"a slice from {start} to {limit} does not lie within {x}")
  return Form(tuple(-(-(b - a) // step) for a, b, step in zip(start, limit, strides)))


def take(inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]) -> Form:
  """Of the entries along one axis, after the batch, that have these indices."""
  (x,) = _count(inputs, 1)
  axis, indices = _values(settings, ("axis", "indices"))
  check_integer("axis", axis, 1, len(x))
  if not isinstance(indices, tuple) or not indices:
    raise ValueError(f"indices={indices!r} must be whole numbers")
  for index in indices:
    check_integer("indices", index, 0, x[axis - 1] - 1)
  return Form((*x[: axis - 1], len(indices), *x[axis:]))


def pad(inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]) -> Form:
  """Of zeros before, after and between what each axis holds; less than none cuts off."""
  (x,) = _count(inputs, 1)
  (padding,) = _values(settings, ("padding",))
  check_entries("padding", padding, len(x), 3)
  for _, _, between in padding:
    check_integer("padding", between, 0)
  sizes = [n + (n - 1) * between + low + high for n, (low, high, between) in zip(x, padding)]
  check_integers("the size after padding", tuple(sizes), None, 1)
  largest = [n + (n - 1) * p[2] + max(p[0], 0) + max(p[1], 0) for n, p in zip(x, padding)]
  return Form(tuple(sizes), padded=math.prod(largest))


def concatenate(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of several inputs one after another along an axis, the batch being axis 0."""
  if not inputs:
    raise ValueError("it reads nothing")
  first, *others = inputs
  (axis,) = _values(settings, ("axis",))
  check_integer("axis", axis, 1, len(first))
  before, after = first[: axis - 1], first[axis:]
  for x in others:
    if len(x) != len(first) or (x[: axis - 1], x[axis:]) != (before, after):
      raise ValueError(f"inputs of shapes {first} and {x} do not fit together along axis {axis}")
  return Form((*before, sum(x[axis - 1] for x in inputs), *after))


def neurons(
  inputs: Sequence[Shape], settings: Mapping[str, Any], listed: Mapping[str, Shape]
) -> Form:
  """Of a population: thresholds are one or one a channel; `bound` and a `MaxPool` may be there."""
  (x,) = _count(inputs, 1)
  if not x:
    raise ValueError("neurons need an axis of channels")
  threshold = x[-1:] if listed.get(RAW_THRESHOLD) else ()
  v_init = listed.get(V_INIT, ())
  parts = v_init[:1] if len(v_init) > len(threshold) else ()
  arrays = {RAW_THRESHOLD: threshold, V_INIT: parts + threshold}
  settings = dict(settings)
  if "bound" in settings:
    bound = settings.pop("bound")
    check_bound(bound)
    if type(bound) is not float:
      raise ValueError(f"bound={bound!r} must be a floating-point number")
  if not settings:
    return Form(x, arrays)
  pool = MaxPool(**dict(zip(_POOL, _values(settings, _POOL))))
  if dataclasses.asdict(pool) != settings:
    raise ValueError(f"stride={settings['stride']!r} must be given")
  if len(x) < 2:
    raise ValueError(f"windows of maxima need images, not {x}")
  windows = pool.along(x[:-1])
  one = (1,) * len(windows.sizes)
  pixels, padded = _windows(x[:-1], *windows, one, one)
  return Form((*pixels, x[-1]), arrays, math.prod(windows.sizes), math.prod(padded) * x[-1])


def _kernel(listed, axes):
  """The shape of a kernel that has so many axes."""
  if "kernel" not in listed:
    raise ValueError("its array 'kernel' is missing")
  check_integers("kernel", listed["kernel"], axes, 1)
  return listed["kernel"]


def _with_bias(kernel, listed):
  return {"kernel": kernel} | ({"bias": kernel[-1:]} if "bias" in listed else {})


def _windows(sizes, window, strides, padding, dilation, window_dilation):
  """How often windows fit along each axis, and its size once padded and dilated."""
  axes = len(sizes)
  for name, value in (
    ("window_strides", strides),
    ("dilation of the image", dilation),
    ("dilation of the window", window_dilation),
  ):
    check_integers(name, value, axes, 1)
  check_entries("padding", padding, axes, 2)
  dilated = [(n - 1) * between + 1 for n, between in zip(sizes, dilation)]
  padded = [n + low + high for n, (low, high) in zip(dilated, padding)]
  reach = [(n - 1) * between + 1 for n, between in zip(window, window_dilation)]
  if any(n < m for n, m in zip(padded, reach)):
    raise ValueError(f"a window that reaches over {reach} does not fit into {padded}")
  largest = [n + max(low, 0) + max(high, 0) for n, (low, high) in zip(dilated, padding)]
  return tuple((n - m) // step + 1 for n, m, step in zip(padded, reach, strides)), largest


def _count(inputs, count):
  if len(inputs) != count:
    raise ValueError(f"it reads {len(inputs)} inputs in place of {count}")
  return inputs


def _values(settings, names):
  """The values of exactly these settings."""
  if set(settings) != set(names):
    raise ValueError(f"its settings are {sorted(settings)} and must be {sorted(names)}")
  return [settings[name] for name in names]
