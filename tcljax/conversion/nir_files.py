"""Files of the Neuromorphic Intermediate Representation (NIR), read with suspicion.

NIR is stored as HDF5, which can hold far more than its bytes: arrays that unpack to any size, and
groups within themselves. So the file is looked over before the package `nir` reads it whole.
"""

import os
import pathlib
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

from tcljax.checks import in_a_line
from tcljax.conversion import nir_survey
from tcljax.frameworks.importing import framework

if TYPE_CHECKING:
  import nir

_SECONDS = 20.0  # for the survey of a small file; a process takes one or two to begin
_BYTES_A_SECOND = 2**24


def read_graph(path: pathlib.Path) -> "nir.NIRGraph":
  """The graph that a file holds.

  Raises:
    ValueError: if it is none of NIR, or larger than a network can be.
  """
  nir = framework("nir", "nir")
  try:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
      raise ValueError("it is no file")
    _look_over(path)
    return nir.read(path, type_check=False)  # all shapes are worked out anew
  except Exception as error:  # h5py and nir raise many kinds for what is no such file
    why = " ".join(str(error).split()) if type(error) in (ValueError, OSError) else ""
    raise ValueError(
      f"graph={str(path)!r} cannot be read as NIR: {why or in_a_line(error)}"
    ) from error


def _look_over(path):
  """Raises ValueError for what a process of its own finds wrong, or if that does not end well."""
  if not sys.executable:  # Python within another program
    return nir_survey.survey(str(path))
  seconds = _SECONDS + os.path.getsize(path) / _BYTES_A_SECOND
  try:
    done = subprocess.run(
      [sys.executable, nir_survey.__file__, path],
      capture_output=True,
      text=True,
      check=False,
      timeout=seconds,
    )
  except subprocess.TimeoutExpired:
    raise ValueError(f"HDF5 has not read it after {seconds:.0f} seconds: it is damaged") from None
  if done.returncode:
    raise ValueError(done.stdout.strip() or "HDF5 fails on it: it is damaged")
