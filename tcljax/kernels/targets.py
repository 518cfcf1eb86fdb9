"""The devices that programs are compiled for: those at hand, or others that a run is planned for.

What is chosen for a device (forms of operations, steps at a time, what memory holds) is chosen by
these, never by `jax.default_backend()`: a machine without a TPU compiles for TPUs.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import jax

Device = Any  # jax.Device, which type checkers take for a variable

_planned: contextvars.ContextVar[tuple[Device, ...]] = contextvars.ContextVar("planned", default=())


@contextlib.contextmanager
def planned_for(devices: Sequence[Device]) -> Iterator[None]:
  """Programs traced within are for these devices, or where there are none for those at hand."""
  token = _planned.set(tuple(devices))
  try:
    yield
  finally:
    _planned.reset(token)


def devices() -> Sequence[Device]:
  """Those of all hosts."""
  return _planned.get() or jax.devices()


def devices_of_a_host() -> Sequence[Device]:
  """Those of this host, or of the first host that is planned for."""
  planned = _planned.get()
  if not planned:
    return jax.local_devices()
  return [device for device in planned if device.process_index == planned[0].process_index]


def host_count() -> int:
  """How many processes drive the devices."""
  return len({device.process_index for device in devices()})


def is_planned() -> bool:
  """Whether the devices are others than those at hand, so that nothing can run on them."""
  return bool(_planned.get())


def platform() -> str:
  """What the devices are: "cpu", "gpu" or "tpu"."""
  return devices()[0].platform if is_planned() else jax.default_backend()
