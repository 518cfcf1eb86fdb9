"""Figures that were measured, kept with the command and the machine that made them.

Each benchmark writes OUTPUT.json, where it finds known rows again, and OUTPUT.md, a table for
people.
"""

import argparse
import json
import os
import pathlib
import platform
import sys
from collections.abc import Callable, Iterable
from typing import Any

import jax

from tcljax.files import write_text

ROOT = pathlib.Path(__file__).resolve().parent.parent
Row = dict[str, Any]
_MACHINES = " / "  # between those that made a table together


def parser(description: str, name: str) -> argparse.ArgumentParser:
  """A parser that knows --output, by default benchmarks/results/NAME."""
  made = argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  made.add_argument(
    "--output",
    type=pathlib.Path,
    default=ROOT / "benchmarks" / "results" / name,
    help="of the files, without .json and .md",
  )
  return made


def command_of(name: str, flags: argparse.ArgumentParser, args: argparse.Namespace) -> str:
  """The command that asks for the same figures: its flags but for --output and defaults."""
  given = [
    f"--{flag}={value}"
    for flag, value in vars(args).items()
    if flag not in ("output", "parts") and value != flags.get_default(flag)
  ]
  return " ".join([f"python benchmarks/{name}.py", *given])


def machine() -> str:
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


def portable(argument: str) -> str:
  """The argument as it reads on another machine: places that variables name by their variable."""
  for name in ("TCLJAX_WEIGHTS_DIR", "TFDS_DATA_DIR", "SPIKINGJELLY"):
    if value := os.environ.get(name):
      argument = argument.replace(value, f"${name}")
  return argument


def document(found: dict[str, Any], table: Callable[[dict[str, Any]], str]) -> str:
  """The text of OUTPUT.md for what OUTPUT.json holds."""
  return "\n".join([table(found), "", "```bash", found["command"], "```", "", found["machine"], ""])


class Ledger:
  """The rows that a command has measured.

  Args:
    output: place of the files, without .json and .md.
    command: see below.
    table: gives, from all that OUTPUT.json holds, the Markdown above command and machine.
    key: of a row; those that have the key of an added one make way for it. By default all do.
    order: of a row, by which rows are sorted; by default they stay as they are.

  Attributes:
    output: place of the files.
    command: the command that makes all rows.
    shared: what holds for all rows, such as the accuracy of the ANN.
    rows: the figures, a dictionary each.
  """

  def __init__(
    self,
    output: pathlib.Path,
    command: str,
    table: Callable[[dict[str, Any]], str],
    key: Callable[[Row], Any] = lambda row: None,
    order: Callable[[Row], Any] = lambda row: 0,
  ) -> None:
    self.output, self.command = output, command
    self._table, self._key, self._order = table, key, order
    self.shared: dict[str, Any] = {}
    self.rows: list[Row] = []
    self._known: list[Row] = []
    self._machines: list[str] = []  # that made the known rows

  def take_known(self, decides: Callable[[Row, str], bool] = lambda row, flag: True) -> None:
    """Takes over the rows of OUTPUT.json that come from the same command.

    Args:
      decides: whether a flag of the command has a say in the figures of a row. Rows stay where
        those flags are the same in both commands.
    """
    path = self.output.with_suffix(".json")
    try:
      known = json.loads(path.read_text()) if path.exists() else {"command": "", "rows": []}
      flags, before = self.command.split()[2:], known["command"].split()[2:]
      self._known = [
        row
        for row in known["rows"]
        if [flag for flag in flags if decides(row, flag)]
        == [flag for flag in before if decides(row, flag)]
      ]
      self.rows = sorted(self._known, key=self._order)
      for row in self.rows:
        self._key(row)  # fails here on a row of another form
      if self.rows:
        self._machines = known["machine"].split(_MACHINES)
        self.shared = {
          name: value for name, value in known.items() if name not in ("command", "machine", "rows")
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      sys.exit(f"{path} cannot be read: {error!r}; remove it to measure anew")

  def add(self, rows: Iterable[Row]) -> None:
    """Adds rows, in place of those with their keys."""
    rows = list(rows)
    replaced = {self._key(row) for row in rows}
    self.rows = [row for row in self.rows if self._key(row) not in replaced] + rows
    self.rows.sort(key=self._order)

  def write(self) -> None:
    """Writes OUTPUT.json and OUTPUT.md."""
    kept = any(row is known for row in self.rows for known in self._known)
    machines = dict.fromkeys([*(self._machines if kept else ()), machine()])
    found = {
      "command": self.command,
      "machine": _MACHINES.join(machines),
      **self.shared,
      "rows": self.rows,
    }
    self.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(self.output.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
    write_text(self.output.with_suffix(".md"), document(found, self._table))
    print(f"written: {self.output}.json and .md", flush=True)
