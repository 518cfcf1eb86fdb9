"""Devices that are not here: those of a TPU slice, to compile for."""

import importlib.util
import os
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


def devices_of(topology: str) -> Sequence[Device]:
  """The chips of a TPU slice, of all its hosts; must come before any use of a device.

  Args:
    topology: version and shape, such as "v5e:4x4".

  Raises:
    ValueError: if `libtpu` is not installed, or knows no such slice.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      f"{topology!r} is compiled for by the package libtpu, which is not installed: "
      "pip install 'tcljax[tpu]'"
    )
  for variable, value in _NO_TPU.items():
    os.environ.setdefault(variable, value)
  jax.config.update("jax_platforms", "cpu")
  try:
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
  except Exception as error:  # JAX says that it raises its own kind, and that may change
    raise ValueError(
      f"{topology!r} is no TPU slice that libtpu knows: give its version and shape, such as v5e:4x4"
    ) from error
