"""What is read from a compiled step: operations, collectives and memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tcljax.data import Split
from tcljax.distributed import parallel
from tcljax.training import programs
from tcljax.training.optimizers import OptimizerConfig
from tcljax.training.phase import Phase


def operations(function, *arguments):
  return programs._operations(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_operations_are_those_of_products_and_convolutions():
  """Two for each multiplication, as often as a loop runs, and of all devices together."""
  a, b = jnp.ones((2, 3, 4)), jnp.ones((2, 4, 5))
  assert operations(lambda a, b: jnp.einsum("bij,bjk->bik", a, b) + 1, a, b) == 2 * 2 * 3 * 4 * 5

  def loop(a, b):
    return jax.lax.scan(lambda carry, _: (carry, jax.jit(jnp.matmul)(a, b)), 0.0, length=7)

  assert operations(loop, a, b) == 7 * 2 * 2 * 3 * 4 * 5
  x, kernel = jnp.ones((2, 6, 6, 4)), jnp.ones((3, 3, 2, 8))

  def grouped(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
    )

  assert operations(grouped, x, kernel) == 2 * (2 * 6 * 6 * 8) * (3 * 3 * 2)
  mesh = parallel.data_mesh()
  halves = parallel.over_data(mesh, lambda w, x: x @ w, P("data"))
  assert operations(halves, jnp.ones((3, 5)), jnp.ones((16, 3))) == 2 * 16 * 3 * 5


def compiled(optimizer, batch_size, examples, inputs, outputs):
  """A step that trains one product of matrices, over all devices, and its images."""

  def objective(variables, batch, key, done=0.0):
    x = batch["image"].astype(jnp.float32) @ variables["params"]["kernel"]
    return jnp.mean(jnp.square(x)), ({}, {})

  phase = Phase("ann", 10, batch_size, objective, {"params": OptimizerConfig(optimizer)})
  variables = {"params": {"kernel": jax.ShapeDtypeStruct((inputs, outputs), jnp.float32)}}
  split = Split(np.zeros((examples, inputs), np.uint8), np.zeros(examples, np.int32))
  return programs.compiled(phase, variables, split, parallel.data_mesh()), split


@pytest.mark.compiler
def test_a_step_of_data_parallel_training():
  """A product with 8 examples to each of 8 devices, whose gradients are added up."""
  found, _ = compiled("adamw", 64, 100, 256, 512)
  kernel = 4 * 256 * 512
  assert found.weights == kernel
  assert 2 * kernel <= found.optimizer < 2 * kernel + 100  # two moments and counters
  # The product and that for its gradient, of an eighth of the batch.
  assert found.operations == 2 * 2 * 8 * 256 * 512
  assert found.traffic >= 3 * kernel and found.seconds > 0
  count, size = found.collectives["all-reduce"]
  assert count >= 1 and kernel <= size < kernel + 100
  batch = 8 * (256 + 4)
  assert batch < found.arrays < 8 * kernel
  assert found.memory == found.weights + found.optimizer + found.arrays


@pytest.mark.compiler
def test_images_that_lie_on_the_devices_count(monkeypatch):
  """Each device holds all of them, and takes the rows of its batches from there."""
  arrays, size = {}, 5000 * 32
  for lie in (False, True):
    monkeypatch.setattr(programs, "fits_on_device", lambda split, lie=lie: lie)
    found, split = compiled("sgd", 16, 5000, 32, 4)
    assert split.nbytes == size
    assert found.operations == 2 * 2 * 2 * 32 * 4  # one step, though many are in one call
    arrays[lie] = found.arrays
  assert arrays[False] < size < arrays[True] < 2 * size


@pytest.mark.compiler
def test_on_gpus_the_bytes_are_those_of_the_kernels(monkeypatch):
  """There XLA's own count knows none of them."""
  monkeypatch.setattr(programs, "fits_on_device", lambda split: False)
  own, _ = compiled("sgd", 16, 20, 32, 4)
  monkeypatch.setattr(programs.targets, "platform", lambda: "gpu")
  monkeypatch.setattr(programs.ProgramText, "moved", lambda program: len(program.computations))
  found, _ = compiled("sgd", 16, 20, 32, 4)
  assert 0 < found.traffic < own.traffic
