"""How figures are kept: what is written, and the command and the machine that made it."""

import json
import os
import pathlib
import platform

import jax

from tcljax.files import write_text


def machine():
  """The machine in words: cores, processor, device, jax."""
  processor = platform.processor() or platform.machine()
  cpuinfo = pathlib.Path("/proc/cpuinfo")
  if cpuinfo.exists():
    names = [
      line.partition(":")[2].strip()
      for line in cpuinfo.read_text().splitlines()
      if line.startswith("model name")
    ]
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


def write_results(output, found, table):
  """Writes figures as OUTPUT.json and their table as OUTPUT.md."""
  output.parent.mkdir(parents=True, exist_ok=True)
  write_text(output.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
  write_text(output.with_suffix(".md"), table)
