"""Compiled programs are kept on disk, so that a run that goes on need not wait for them again."""

import contextlib
import os
import pathlib
from typing import Any

import jax

from tcljax.kernels import targets


def keep_programs() -> None:
  """Has JAX keep what takes long to compile in the user's cache folder, `tcljax/compiled`.

  Not in that of a workdir: what is read from there is run, and a workdir may come from others. Not
  on CPUs, where a program may hold instructions that another machine with the same home lacks. A
  folder that JAX was told of (JAX_COMPILATION_CACHE_DIR) is left as it is, on all devices.
  """
  config: Any = jax.config  # which does not declare what it holds
  if targets.platform() == "cpu" or config.jax_compilation_cache_dir:
    return
  with contextlib.suppress(OSError, RuntimeError):  # no home, or none that can be written
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(base) / "tcljax" / "compiled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config.update("jax_compilation_cache_dir", str(folder))
