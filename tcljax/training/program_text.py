"""What the text of a compiled program says: collectives, kernels, and the bytes that they move."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_COLLECTIVE = re.compile(
  r"= (.+?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+?(\d+)\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
_NO_KERNEL = (
  *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"),
  *("partition-id", "replica-id"),
)
# They read as much of their first operand as they give.
_PICK = ("gather", "dynamic-slice")
# It writes its second operand into the first, in place.
_UPDATE = "dynamic-update-slice"


class Kernel(NamedTuple):
  """An instruction that runs on a device.

  Attributes:
    operation: its kind, such as "fusion" or "custom-call".
    attributes: what the text says behind its operands.
    moved: bytes of its operands and results.
  """

  operation: str
  attributes: str
  moved: int


class _Instruction(NamedTuple):
  name: str
  shape: str
  operation: str
  operands: str
  attributes: str

  def names(self) -> list[str]:
    """Of the instructions whose results are its operands."""
    return _NAME.findall(self.operands)

  def computation(self, role: str) -> str:
    """The name of the computation that it runs in this role, "calls" or "body"; "" of none."""
    found = re.search(rf"\b{role}=%([\w.\-]+)", self.attributes)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class ProgramText:
  """A compiled program, as XLA prints it for GPUs.

  Attributes:
    computations: the instructions of each.
    entry: the name of that which is run.
  """

  computations: Mapping[str, Sequence[_Instruction]]
  entry: str

  @classmethod
  def read(cls, text: str) -> "ProgramText":
    """Reads the text of a program."""
    computations: dict[str, list[_Instruction]] = {}
    entry, held = "", None
    for line in text.splitlines():
      if found := _COMPUTATION.match(line):
        held = computations.setdefault(found[2], [])
        entry = found[2] if found[1] else entry
      elif held is not None and (found := _INSTRUCTION.match(line)):
        held.append(_Instruction(*found.groups()))
    return cls(computations, entry)

  def moved(self) -> int:
    """Bytes of all kernels' operands and results.

    Loops count as often as they are known to run. A loop in the entry of which that is not known is
    that of many steps in one call, and one of these is what counts.
    """
    steps = [
      name for one in self.computations[self.entry] if not _runs(one) and (name := _loop(one))
    ]
    return self._moved(steps[0] if steps else self.entry)

  def busiest_loop(self) -> list[Kernel]:
    """The kernels of the loop that has most of them."""
    loops = [name for held in self.computations.values() for i in held if (name := _loop(i))]
    return max((self._kernels(name) for name in loops), key=len, default=[])

  def _moved(self, computation):
    total = sum(kernel.moved for kernel in self._kernels(computation))
    for instruction in self.computations[computation]:
      if name := _loop(instruction):
        total += (_runs(instruction) or 1) * self._moved(name)
    return total

  def _kernels(self, computation):
    held = self.computations[computation]
    shapes = {instruction.name: instruction.shape for instruction in held}
    kernels = []
    for one in held:
      if one.operation not in _NO_KERNEL and not one.operation.endswith("-done") and not _loop(one):
        operands = [bytes_of_arrays(shapes.get(name, "")) for name in one.names()]
        kernels.append(Kernel(one.operation, one.attributes, self._moved_by(one, operands)))
    return kernels

  def _moved_by(self, one, operands):
    """Bytes that an instruction reads and writes, given those of its operands."""
    written = bytes_of_arrays(one.shape)
    if one.operation.endswith("-start"):  # its shape names operands too, but of an all-reduce
      return written * 2 if one.operation == "all-reduce-start" else written
    if one.operation == _UPDATE:
      return 2 * operands[1]
    inner = self.computations.get(one.computation("calls"), ())
    sizes = {instruction.name: bytes_of_arrays(instruction.shape) for instruction in inner}
    for instruction in inner:
      if instruction.operation == _UPDATE:  # of what was there before it writes its part alone
        written -= sizes[instruction.name] - sizes.get(instruction.names()[1], 0)
      if instruction.operation == "parameter":
        users = list(_users(inner, instruction.name))
        if users and all(
          user.operation in (*_PICK, _UPDATE) and user.names()[0] == name for user, name in users
        ):
          operands[int(instruction.operands)] = sum(
            sizes[user.name] for user, _ in users if user.operation in _PICK
          )
    return max(0, written) + sum(operands)


def _users(computation, name):
  """Who has the result of this name, or a view of it, as an operand; and the name that he knows."""
  for one in computation:
    if name in one.names():
      if one.operation == "bitcast":
        yield from _users(computation, one.name)
      else:
        yield one, name


def _loop(instruction):
  return instruction.operation == "while" and instruction.computation("body")


def _runs(loop):
  """How often a loop runs; 0 if that is not known."""
  found = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
  return int(found[1]) if found else 0


def collectives(text: str) -> dict[str, tuple[int, int]]:
  """For each kind of collective how often a program has it, and the bytes it gives."""
  found: dict[str, tuple[int, int]] = {}
  for shapes, kind, start in _COLLECTIVE.findall(text):
    count, total = found.get(kind, (0, 0))
    arrays = [array[0] for array in re.finditer(_ARRAY, shapes)]
    if start and kind != "all-reduce":  # operands, then results, then counters
      arrays = [array for array in arrays if array != "u32[]"]
      arrays = arrays[len(arrays) // 2 :]
    found[kind] = count + 1, total + sum(map(bytes_of_arrays, arrays))
  return found


def bytes_of_arrays(shapes: str) -> int:
  """Bytes of the arrays whose types, such as `(f32[2,3]{1,0}, pred[4])`, XLA has written."""
  size = 0
  for name, bits, dims in _ARRAY.findall(shapes):
    width = 1 if name == "pred" else max(1, int(bits) // 8)
    size += width * math.prod(int(n) for n in dims.split(",") if n)
  return size
