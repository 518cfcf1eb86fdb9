"""The files of a prepared set: whether they are whole, and the examples that they hold.

Free of JAX: worker processes read through `Records`.
"""

import bisect
import importlib
import itertools
import pathlib
import stat
from collections.abc import Iterable, Sequence
from concurrent import futures
from typing import Any

from tcljax.data.decoding import BadExample

# Files that are opened at a time; each is a seek and a few kilobytes.
_THREADS = 16
# What is used of an example, whatever else a set stores; the first two have to be there.
_FEATURES = ("image", "label", "file_name", "id")


def damaged(path: pathlib.Path | str, fault: object) -> ValueError:
  """The error for a file of a set: what is wrong with it, in one line, and what to do."""
  return ValueError(f"{path} {one_line(fault)}: prepare the set again, or copy it anew")


def one_line(fault: object) -> str:
  """The first line of an error's text, without its full stop, or its kind where it has none."""
  lines = str(fault).strip().splitlines()
  return lines[0].rstrip(".: ") if lines else type(fault).__name__


def check_file(path: pathlib.Path) -> None:
  """Raises ValueError unless this is a file, and one that may be read.

  A pipe in its place would be waited for without end, and a device read without end.
  """
  try:
    regular = stat.S_ISREG(path.stat().st_mode)
    if regular:
      path.open("rb").close()
  except OSError as error:
    raise damaged(path, f"cannot be read, {error.strerror}") from None
  if not regular:
    raise damaged(path, "is no file")


def check_shards(shards: Iterable[tuple[str, int]]) -> None:
  """Raises ValueError unless each file holds as many examples as is said beside its path."""
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    for _ in pool.map(lambda shard: _check_shard(*shard), shards):
      pass


def _check_shard(name: str, count: int) -> None:
  # Not on every system; a module of C++, which declares no names.
  array_record_module: Any = importlib.import_module("array_record.python.array_record_module")

  check_file(pathlib.Path(name))
  try:
    reader = array_record_module.ArrayRecordReader(name)
    found = reader.num_records()
    reader.close()
  except Exception as error:  # of many kinds, by the damage
    raise damaged(name, f"cannot be read, {one_line(error)}") from error
  if found != count:
    raise damaged(name, f"holds {found} examples, dataset_info.json says {count}")


class Records:
  """The examples of a split by their number, in the order in which they are stored.

  An example is a dictionary of `image` (the file's bytes), `label`, `shard` (the file that it lies
  in), and `file_name` and `id` where the set has them.

  Args:
    source: of TFDS, with its images left encoded.
    parts: for each file in the order of `source` its path, the first example that is taken and how
      many are.
  """

  def __init__(self, source: Any, parts: Sequence[tuple[str, int, int]]) -> None:
    self._source, self._parts = source, parts
    self._ends = list(itertools.accumulate(taken for _, _, taken in parts))

  def __len__(self) -> int:
    return self._ends[-1]

  def __getitem__(self, number: int) -> dict[str, Any]:
    """One example.

    Raises:
      BadExample: if what is stored there cannot be read or is no image with a label.
    """
    try:
      return self._used(number, self._source[number])
    except BadExample:
      raise
    except Exception as error:  # of many kinds, by the damage
      raise self._bad(number, f"cannot be read: {one_line(error)}") from error

  def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Several examples at once; raises what reading them one by one raises."""
    try:
      examples = self._source.__getitems__(numbers)
    except Exception:  # it does not say which one
      return [self[number] for number in numbers]
    return [self._used(number, example) for number, example in zip(numbers, examples)]

  def _used(self, number: int, example: dict[str, Any]) -> dict[str, Any]:
    used = {name: example[name] for name in _FEATURES if example.get(name) is not None}
    for needed in _FEATURES[:2]:
      if needed not in used:
        raise self._bad(number, f"has no {needed}")
    return {**used, "shard": self._place(number)[0]}

  def _bad(self, number: int, fault: str) -> BadExample:
    shard, place = self._place(number)
    return BadExample(f"example {place} of {shard} {fault}; prepare the set again")

  def _place(self, number: int) -> tuple[str, int]:
    """The file of an example, and its number among those that lie there."""
    part = bisect.bisect_right(self._ends, number)
    shard, first, taken = self._parts[part]
    return shard, first + number - (self._ends[part] - taken)
