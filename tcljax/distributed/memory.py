"""How much memory a device has."""

import os
import pathlib

import jax

from tcljax.distributed import chips
from tcljax.kernels import targets

_GROUPS = pathlib.Path("/proc/self/cgroup")
_LIMITS = pathlib.Path("/sys/fs/cgroup")


def of_a_device() -> int | None:
  """Bytes that arrays may take on the first device of this host; None where nobody says.

  CPUs share what the host has, or what a container or a scheduler leaves this process of it. What
  devices have that are planned for is published.
  """
  if targets.platform() == "cpu":
    host = _of_the_host()
    return host and host // jax.local_device_count()
  device = targets.devices_of_a_host()[0]
  if targets.is_planned():
    known = chips.of_kind(device.device_kind)
    return known and known.memory
  return (device.memory_stats() or {}).get("bytes_limit")


def _of_the_host():
  try:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  except (AttributeError, OSError, ValueError):  # which Windows lacks
    return None
  return min([physical, *_of_control_groups()])


def _of_control_groups():
  """The limits of the control groups of Linux that this process is in, of either version."""
  try:
    groups = [line.split(":", 2) for line in _GROUPS.read_text().splitlines()]
  except OSError:  # another system
    return
  for _, controllers, path in groups:
    version_2 = not controllers
    if version_2 or "memory" in controllers.split(","):
      top = _LIMITS if version_2 else _LIMITS / "memory"
      name = "memory.max" if version_2 else "memory.limit_in_bytes"
      group = top / path.lstrip("/")
      for folder in (group, *group.parents):
        if folder.is_relative_to(top):
          yield from _number_in(folder / name)


def _number_in(path):
  """The number in a file, if there is the file and it holds one: "max" is no limit."""
  try:
    text = path.read_text().strip()
  except OSError:
    return
  if text.isdecimal():
    yield int(text)
