"""Devices and hosts: one mesh axis, `data`, over which batches are split and variables copied."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tcljax.kernels import targets


def initialize_hosts(timeout: int) -> None:
  """Joins the processes of a multi-host job; must come before any use of a device.

  TPU pods and Slurm are recognised by JAX; elsewhere set JAX_COORDINATOR_ADDRESS,
  JAX_NUM_PROCESSES and JAX_PROCESS_ID in each process.

  Args:
    timeout: seconds without a sign of life after which a process is taken for lost; the others are
      then ended.

  Raises:
    ValueError: if a variable holds no number, or nothing says where the others are.
  """
  # It would take the signal by which schedulers end a job, and do nothing about it.
  jax.config.update("jax_enable_preemption_service", False)
  jax.distributed.initialize(
    num_processes=_number_from("JAX_NUM_PROCESSES"),
    process_id=_number_from("JAX_PROCESS_ID"),
    heartbeat_timeout_seconds=timeout,
  )


def _number_from(variable: str) -> int | None:
  """The number in an environment variable; None where it is not set."""
  value = os.environ.get(variable)
  if value is not None and not value.isdecimal():
    raise ValueError(f"{variable}={value} must be a whole number")
  return None if value is None else int(value)


def data_mesh() -> Mesh:
  """All devices of all hosts along one axis, `data`."""
  devices = targets.devices()
  return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def check_batch_size(field: str, batch_size: int, parts: int = 1) -> None:
  """Raises ValueError if a batch, in so many parts, cannot be split evenly over the devices."""
  devices = len(targets.devices())
  if batch_size < 1:
    least = devices * parts
    raise ValueError(f"{field}={batch_size} holds no example: choose {least} or a multiple of it")
  if batch_size % (devices * parts):
    in_parts = f" in {parts} parts" if parts > 1 else ""
    raise ValueError(
      f"{field}={batch_size} cannot be split{in_parts} over {devices} devices: choose a multiple "
      f"of {devices * parts}"
    )


def shard(mesh: Mesh, batch: Any) -> Any:
  """Arrays split over the devices along their first axis, from each host's part of the batch."""
  sharding = NamedSharding(mesh, P("data"))
  return jax.tree.map(
    lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), batch
  )


def placed(tree: Any, where: Any) -> Any:
  """Arrays put where a sharding, or a tree of them, says; all hosts give the same arrays."""
  if jax.process_count() > 1:
    tree = jax.tree.map(np.asarray, tree)  # an array on one host's devices cannot move to another's
  return jax.device_put(tree, where)


def replicate(mesh: Mesh, tree: Any) -> Any:
  """A copy of every array on every device; all hosts give the same arrays."""
  return placed(tree, NamedSharding(mesh, P()))


def abstract_replicated(mesh: Mesh, tree: Any) -> Any:
  """Shapes and types of a tree, to be restored as a copy on every device."""
  sharding = NamedSharding(mesh, P())
  return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def over_data(mesh: Mesh, function: Callable[..., Any], out_specs: Any) -> Callable[..., Any]:
  """`function(variables, *batch)` run by each device on its own part of the batch.

  Folding time into the batch inside such a function stays on the device; left to the partitioner,
  [K, B] merged into one axis could not stay split along B.

  Args:
    mesh: from `data_mesh`.
    function: takes variables, the same on every device, and arrays that are split along their
      first axis.
    out_specs: how each output is split: `P("data")` along the first axis, `P(None, "data")` along
      the second.
  """

  def mapped(variables, *batch):
    specs = (P(), *[P("data")] * len(batch))
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out_specs, check_vma=False)(
      variables, *batch
    )

  return mapped


def is_main_host() -> bool:
  """Whether this process is the one that writes what is written once."""
  return jax.process_index() == 0


def wait_for_hosts(name: str) -> None:
  """Returns once every host has come here; `name` says where, the same on all."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def agreed(number: int) -> int:
  """The number that process 0 has, on every process."""
  if jax.process_count() > 1:
    return int(multihost_utils.broadcast_one_to_all(np.asarray(number)))
  return number


class Highest:
  """The highest of one number from each process; every process calls it as often as the others.

  It gives an array that is not computed yet, so that no process waits for the others.
  """

  def __init__(self) -> None:
    self._mesh = data_mesh()
    self._of_all = jax.jit(jnp.max, out_shardings=NamedSharding(self._mesh, P()))

  def __call__(self, number: int) -> jax.Array:
    """The highest number; this process has `number`."""
    return self._of_all(shard(self._mesh, np.full(jax.local_device_count(), number, np.int32)))


def round_to_devices(mesh: Mesh, batch_size: int) -> int:
  """The next larger batch size that splits evenly over the devices."""
  return -(-batch_size // mesh.size) * mesh.size
