"""Strict mode for every test: eight simulated devices, no silent broadcasting of ranks."""

import atexit
import os
import shutil
import tempfile

# Before JAX is imported anywhere.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KERAS_BACKEND"] = "jax"
# Threads of NumPy and PyTorch wait for each other by turning in circles. On two busy cores a small
# network of scikit-learn takes 30 times as long to train with two of them as with one.
# Processes that pytest starts, its workers too, take these variables.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Machine code that is not optimised is compiled in a tenth of the time.
# `XLA_FLAGS= python -m pytest` tests what users get, as .ci/run does for tests of bits or of
# compiled programs.
os.environ.setdefault(
  "XLA_FLAGS",
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
  " --xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"

# No operation of a program says which lines of Python it comes from, as this takes time to write.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# Many tests run the same small networks: what one compiles, the others and their processes find.
# Set JAX_COMPILATION_CACHE_DIR to keep it for the next run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-by-tests-")
  atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax
import numpy as np
import pytest
from running import run_train

from tcljax.conversion import step, storage
from tcljax.models import VGG
from tcljax.training import candidates, delivered

jax.config.update("jax_numpy_rank_promotion", "raise")

# Nothing that is written here has to outlive a power cut, so nothing waits for the disk.
os.fsync = lambda descriptor: None

# Trying hundreds of thresholds on thousands of neurons takes 15 times as long where machine code is
# not optimised, as it is not here, and runs in many tests. So this function alone is.
delivered.squared_errors = jax.jit(
  candidates.squared_errors.__wrapped__,
  static_argnames="neuron",
  compiler_options={"xla_backend_optimization_level": 2},
)

# Writing the program of a time step takes half a second, and hundreds of networks are saved here.
# Tests of it take it from `tcljax.conversion.step`, or ask for the fixture `exported`.
_export_step, _check = storage.export_step, step.check_can_export
storage.export_step = lambda network: b"stands in for a program"
step.check_can_export = lambda: None


@pytest.fixture
def exported(monkeypatch):
  """Networks are saved with their program."""
  pytest.importorskip("flatbuffers", reason="jax.export needs the package flatbuffers")
  monkeypatch.setattr(storage, "export_step", _export_step)
  monkeypatch.setattr(step, "check_can_export", _check)


@pytest.fixture
def rng():
  return np.random.default_rng(0)


@pytest.fixture(scope="session")
def vgg():
  """A small VGG with BatchNorm whose statistics are not those of initialisation."""
  model = VGG(num_classes=10, stages=((8, 8), (16,)), dense=(32,))
  variables = dict(model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32)))
  rng = np.random.default_rng(1)
  variables["batch_stats"] = jax.tree.map(
    lambda a: np.asarray(a + rng.uniform(-0.1, 0.1, a.shape), np.float32), variables["batch_stats"]
  )
  variables["params"] = jax.tree.map(
    lambda a: np.asarray(a + rng.normal(0, 0.1, a.shape), np.float32), variables["params"]
  )
  return model, variables


@pytest.fixture(scope="session")
def images():
  return np.random.default_rng(2).normal(size=(16, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """A finished run of the digits config in small sizes; not to be changed."""
  path = tmp_path_factory.mktemp("commands") / "run"
  assert run_train(path) == 0
  return path


@pytest.fixture
def tiny_state(rng):
  """A state dict of the network that `run_train` makes."""
  shapes = {
    "features.0": (4, 1, 3, 3),
    "features.4": (8, 4, 3, 3),
    "classifier.0": (16, 32),
    "classifier.3": (10, 16),
  }
  state = {f"{name}.weight": rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
  state |= {f"{name}.bias": rng.normal(0, 0.1, shape[0]) for name, shape in shapes.items()}
  for name, width in (("features.1", 4), ("features.5", 8)):
    for leaf in ("weight", "bias", "running_mean", "running_var"):
      state[f"{name}.{leaf}"] = rng.uniform(0.5, 1.5, width)
  return state
