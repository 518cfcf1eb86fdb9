"""Looks over a file of NIR and reads each of its arrays once: python nir_survey.py FILE.

`nir_files` runs it in a process of its own, as HDF5's library may crash or never end on a damaged
file. Prints what is wrong, in one line, with status 1. Imports nothing of tcljax.
"""

import os
import sys
from typing import Any

_MOST_OBJECTS = 2**15  # groups and arrays; a node takes some ten
_DEEPEST = 8  # groups within each other
_MOST_TEXTS = 2**15  # two of each edge and one of each node
_MOST_BYTES = 2**30  # of all arrays, which are small in the file where one value is repeated
_MOST_TIMES = 16  # the bytes of the file, where that is more


def survey(path: str) -> None:
  """Raises ValueError if a file holds no graph, more than a network can, or leads elsewhere."""
  import h5py

  count, size, texts = 0, 0, 0
  most = max(_MOST_BYTES, _MOST_TIMES * os.path.getsize(path))
  with h5py.File(path, "r") as file:
    waiting: list[Any] = [(file, 0)]
    arrays: list[Any] = []
    while waiting:
      group, depth = waiting.pop()
      if depth > _DEEPEST:
        raise ValueError(f"it nests more than {_DEEPEST} groups")
      for name in group:
        if (count := count + 1) > _MOST_OBJECTS:
          raise ValueError(f"it has more than {_MOST_OBJECTS} groups and arrays")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
          raise ValueError(f"{name!r} is a link to elsewhere")
        found = group[name]
        if isinstance(found, h5py.Group):
          waiting.append((found, depth + 1))
        elif isinstance(found, h5py.Dataset):
          if found.is_virtual or found.external:
            raise ValueError(f"{name!r} is kept in other files")
          size += found.nbytes
          texts += (found.size or 0) if found.dtype.hasobject else 0
          arrays.append(found)
      if size > most:
        raise ValueError(f"its arrays take more than {most} bytes")
      if texts > _MOST_TEXTS:
        raise ValueError(f"it has more than {_MOST_TEXTS} texts")
    for array in arrays:
      array[()]
    typed: Any = file["node/type"]
    kind = typed[()]
    if kind != b"NIRGraph":
      raise ValueError(f"it holds {kind!r:.40} and no graph")


if __name__ == "__main__":
  try:
    survey(sys.argv[1])
  except Exception as error:  # h5py raises many kinds
    print(" ".join(f"{error}".split()) or type(error).__name__)
    sys.exit(1)
