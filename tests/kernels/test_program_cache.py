"""What takes long to compile is kept for the next run, but on CPUs."""

import os
import subprocess
import sys

import pytest

_COMPILING = """
import sys, types
import jax
import jax.numpy as jnp
from tcljax.kernels import program_cache

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
program_cache.targets = types.SimpleNamespace(platform=lambda: sys.argv[1])
jnp.ones(3).sum()  # compiled before
program_cache.keep_programs()
jax.jit(lambda x: x * 7 + 3)(jnp.ones(5))
print(jax.config.jax_compilation_cache_dir)
"""


def compiling(platform, **environment):
  """Where a process on such a device keeps programs, after one was compiled."""
  kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
  done = subprocess.run(
    [sys.executable, "-c", _COMPILING, platform],
    env={**kept, **environment},
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.strip()


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_programs_are_kept_in_the_users_cache(tmp_path, platform):
  folder = tmp_path / "cache" / "tcljax" / "compiled"
  assert compiling(platform, XDG_CACHE_HOME=str(tmp_path / "cache")) == str(folder)
  assert any(path.name.startswith("jit__lambda") for path in folder.iterdir())
  assert folder.stat().st_mode & 0o077 == 0  # what lies there is run


def test_programs_of_cpus_and_of_users_with_a_folder_are_left_alone(tmp_path):
  own = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
  assert compiling("cpu", **own) == "None"
  elsewhere = str(tmp_path / "elsewhere")
  assert compiling("gpu", **own, JAX_COMPILATION_CACHE_DIR=elsewhere) == elsewhere
  assert not (tmp_path / "cache").exists()


def test_a_home_that_cannot_be_written_keeps_nothing(tmp_path):
  (tmp_path / "file").write_text("")
  assert compiling("gpu", XDG_CACHE_HOME=str(tmp_path / "file")) == "None"
