"""Devices that are not here, to compile for: those of a TPU slice, or GPUs of a kind."""

import importlib.util
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from tcljax.kernels.targets import Device

# The package `libtpu` would ask the machines of Google's cloud which TPU this is, and say on stderr
# that it found none.
_NO_TPU = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-1",
}


# GPUs as XLA describes them, by the names that they are asked for with.
_GPUS = {
  "h100": """
    platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
    runtime_version { major: 12 minor: 8 } dnn_version_info { major: 9 minor: 10 }
    gpu_device_info {
      cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
      memory_bandwidth: 3352320000000 device_memory_size: 84929347584 l2_cache_size: 52428800
      threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
      shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
      shared_memory_per_core: 233472
      registers_per_block_limit: 65536 registers_per_core_limit: 65536
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
    }
  """,
}
_OF_A_HOST = 8  # GPUs
_FOR_GPUS = f"for GPUs give their kind, {' or '.join(_GPUS)}, and number, such as h100:{_OF_A_HOST}"


def devices_of(topology: str) -> Sequence[Device]:
  """Devices of all hosts, to compile for; must come before any use of a device.

  Args:
    topology: version and shape of a TPU slice, such as "v5e:4x4", or a kind of GPU and their
      number, such as "h100:8"; eight are one host.

  Raises:
    ValueError: if what compiles for them is not installed, or there is no such slice or GPU.
  """
  kind, colon, number = topology.partition(":")
  if description := _GPUS.get(kind.strip().lower()):
    return _gpus(topology, description, number if colon else "1")
  return _tpus(topology)


def _gpus(topology, description, number):
  count = int(number) if re.fullmatch(r"[1-9][0-9]{0,5}", number) else 0
  if not count or (count > _OF_A_HOST and count % _OF_A_HOST):
    raise ValueError(
      f"{topology!r}: {number!r} is no number of GPUs that hosts of {_OF_A_HOST} have; {_FOR_GPUS}"
    )
  if jax.__version_info__ >= (0, 11):
    raise ValueError(
      f"{topology!r}: JAX {jax.__version__} writes kernels of neurons only where there is a GPU: "
      "plan with a JAX below 0.11, or where the GPUs are, with --plan alone"
    )
  hosts, each = max(1, count // _OF_A_HOST), min(count, _OF_A_HOST)
  jax.config.update("jax_platforms", "cpu")  # or JAX looks for the GPU that is not there
  try:
    return topologies.get_topology_desc(
      topology, "cuda", target_config=description, topology=f"1x{hosts}x{each}"
    ).devices
  except Exception as error:  # of several kinds, none of which JAX names
    raise ValueError(
      f"{topology!r} is compiled for by JAX's plugin for CUDA, which is not at hand: "
      f"pip install 'tcljax[cuda]' ({str(error).splitlines()[0][:80]})"
    ) from error


def _tpus(topology):
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      f"{topology!r} is compiled for by the package libtpu, which is not installed: "
      f"pip install 'tcljax[tpu]'; {_FOR_GPUS}"
    )
  for variable, value in _NO_TPU.items():
    os.environ.setdefault(variable, value)
  jax.config.update("jax_platforms", "cpu")
  try:
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
  except Exception as error:  # JAX says that it raises its own kind, and that may change
    raise ValueError(
      f"{topology!r} is no TPU slice that libtpu knows: give its version and shape, such as "
      f"v5e:4x4; {_FOR_GPUS}"
    ) from error
