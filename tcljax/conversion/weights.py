"""Arrays of float32 as a file in the format safetensors, of which every byte is accounted for.

The file begins with the length of its header in 8 bytes, little-endian. The header is JSON: for
each array `dtype`, `shape` and `data_offsets`, where its numbers begin and end after the header.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from tcljax.conversion.strict_json import LARGEST, from_json

_PART = 2**24  # bytes that are read at a time
_ALIGNED = 8  # bytes; the header is filled up with spaces, so that arrays begin at a multiple


def write_arrays(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> tuple[int, str]:
  """Writes arrays of float32 and returns how many bytes they took, and their SHA-256."""
  header, start = {}, 0
  for name, array in arrays.items():
    end = start + 4 * array.size
    header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (start, end)}
    start = end
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % _ALIGNED)
  parts = [len(text).to_bytes(8, "little"), text]
  parts += [np.ascontiguousarray(a, "<f4").reshape(-1).view(np.uint8).data for a in arrays.values()]
  digest = hashlib.sha256()
  for part in parts:
    file.write(part)
    digest.update(part)
  return sum(map(len, parts)), digest.hexdigest()


def read_arrays(
  file: IO[bytes], size: int, sha256: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
  """The arrays of a file of `size` bytes, which must hold exactly those of these shapes.

  Raises:
    ValueError: if it holds others, or more than them, or was changed after it was written.
  """
  length = 4 * sum(map(math.prod, shapes.values()))
  if not 8 < size - length <= 8 + LARGEST:
    raise ValueError(f"it has {size} bytes, and the arrays listed take {length} and a header")
  start = file.read(size - length) or b""
  data = bytearray(length)
  if len(start) != size - length or not _filled(file, data):
    raise ValueError("it ends before its arrays do")
  digest = hashlib.sha256(start)
  digest.update(data)
  if digest.hexdigest() != sha256:
    raise ValueError("it was changed after it was written: its SHA-256 is another")
  if int.from_bytes(start[:8], "little") != len(start) - 8:
    raise ValueError("the length of its header is not what its arrays leave")
  numbers = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
  places = _places(from_json(start[8:]), shapes)
  return {name: numbers[slice(*place)].reshape(shapes[name]) for name, place in places.items()}


def _places(header: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
  """Which of all numbers are those of each array; one must follow another, as in the header."""
  if not isinstance(header, dict) or set(header) != set(shapes):
    raise ValueError("its header lists other arrays than the description")
  places, begin = {}, 0
  for name, entry in header.items():
    end = begin + math.prod(shapes[name])
    expected = {"dtype": "F32", "shape": list(shapes[name]), "data_offsets": [4 * begin, 4 * end]}
    if not _same(entry, expected):
      raise ValueError(f"its header says {entry!r} of {name!r} in place of {expected}")
    places[name], begin = (begin, end), end
  return places


def _same(found: Any, expected: Any) -> bool:
  """Whether two values of JSON are one; Python takes 1, 1.0 and true for equal."""
  return json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


def _filled(file: Any, data: bytearray) -> bool:
  """Whether the rest of a file fills `data`, which it is read into; of an archive in parts."""
  view = memoryview(data)
  while len(view) and (count := file.readinto(view[:_PART])):
    view = view[count:]
  return not len(view)
