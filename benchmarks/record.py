"""What every committed figure is kept with: the command and the machine that made it."""

import os
import pathlib
import platform

import jax


def machine():
  """The machine in words: cores, processor, device, jax."""
  processor = platform.processor() or platform.machine()
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  if cpuinfo.exists():
    names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines()
             if line.startswith("model name")]
    processor = names[0] if names else processor
  device = jax.devices()[0]
  what = "CPU" if device.platform == "cpu" else device.device_kind
  return f"{os.cpu_count()} cores of {processor}; {what}; jax {jax.__version__}"


def portable(argument):
  """The argument as it reads on another machine: places that variables name by their variable."""
  for name in ("TCLJAX_WEIGHTS_DIR", "TFDS_DATA_DIR", "SPIKINGJELLY"):
    if value := os.environ.get(name):
      argument = argument.replace(value, f"${name}")
  return argument
