"""Weights and optimizer state split over devices: fully sharded data parallel training.

Each device keeps its part of an array, and the whole is put together while a step needs it (ZeRO:
Rajbhandari et al., SC 2020). Batches are split over all devices as without it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tcljax.kernels import targets

# Biases and statistics of BatchNorm: to put them together takes longer than they are worth.
_SMALLEST = 1024


def check_devices(field: str, split_over: int) -> None:
  """Raises ValueError unless groups of so many devices make up all of them."""
  devices = len(targets.devices())
  if devices % split_over:
    raise ValueError(
      f"{field}={split_over} does not divide the {devices} devices: choose a divisor of {devices}"
    )


def shardings(mesh: Mesh, shapes: Any, split_over: int) -> Any:
  """Where each array of a tree lies.

  Args:
    mesh: from `parallel.data_mesh`.
    shapes: arrays, or their shapes and types.
    split_over: devices that share an array, neighbours in the mesh; with 1 each has all of it.
      Split is the longest axis that divides evenly. Small arrays are copied.

  Returns:
    The same tree of shardings.
  """
  grouped = Mesh(mesh.devices.reshape(-1, split_over), ("data", "fsdp"))

  def of(array):
    axes = [axis for axis, n in enumerate(array.shape) if n % split_over == 0]
    if split_over == 1 or not axes or array.size < _SMALLEST:
      return NamedSharding(mesh, P())
    longest = max(axes, key=lambda axis: array.shape[axis])
    return NamedSharding(grouped, P(*[None] * longest, "fsdp"))

  return jax.tree.map(of, shapes)


def unsplit(where: Any) -> Any:
  """The shardings of the whole arrays, on the same devices."""
  return jax.tree.map(lambda sharding: NamedSharding(sharding.mesh, P()), where)


def abstract(shapes: Any, where: Any) -> Any:
  """Shapes and types of a tree, to be restored where `shardings` says."""
  return jax.tree.map(
    lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes, where
  )


def gathered(mesh: Mesh, tree: Any) -> Any:
  """The whole of every array on every device; the arrays themselves where each is there already."""
  whole = NamedSharding(mesh, P())
  if all(array.sharding.is_equivalent_to(whole, array.ndim) for array in jax.tree.leaves(tree)):
    return tree
  return _gathering(whole)(tree)


@functools.lru_cache(maxsize=4)
def _gathering(whole: NamedSharding) -> Callable[[Any], Any]:
  """The function that is compiled once for all trees of the same shapes and shardings."""
  return jax.jit(lambda arrays: arrays, out_shardings=whole)
