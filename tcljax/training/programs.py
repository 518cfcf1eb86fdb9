"""What a phase of training would take, read from its compiled program; nothing is run."""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tcljax.data import Examples
from tcljax.distributed import fsdp, parallel
from tcljax.kernels import targets
from tcljax.layers.collections import Variables
from tcljax.training.feeds import OnDevice, fits_on_device
from tcljax.training.phase import Phase
from tcljax.training.program_text import ProgramText, collectives
from tcljax.training.step import TrainState, train_step, train_steps


@dataclasses.dataclass(frozen=True)
class Program:
  """One device's part of a step of training.

  Attributes:
    weights: bytes of its part of all variables, trained or not.
    optimizer: bytes of its part of the optimizer's state.
    arrays: bytes of everything else: the batch, or images that lie on the device, and what is
      computed on the way to the gradients and back.
    operations: floating-point operations of all convolutions and products of matrices.
    traffic: bytes read and written. On GPUs, those of the operands and results of all kernels.
      Elsewhere by XLA's own count, which knows a loop's body once: times as many as the operations
      are of those that XLA counts.
    collectives: for each kind how often it is in the program, and the bytes it gives.
    seconds: of compiling.
  """

  weights: int
  optimizer: int
  arrays: int
  operations: float
  traffic: float
  collectives: Mapping[str, tuple[int, int]]
  seconds: float

  @property
  def memory(self) -> int:
    """Bytes taken while a step runs."""
    return self.weights + self.optimizer + self.arrays


def compiled(phase: Phase, variables: Variables, split: Examples, mesh: Mesh) -> Program:
  """Compiles a step of a phase as `run_phase` would run it, and reads what it takes.

  Args:
    phase: what would be run.
    variables: shapes and types of those it begins with.
    split: images that would be trained on; their number, shape and type are looked at.
    mesh: of the devices to compile for.
  """
  start = time.perf_counter()
  state, traced, program = step_program(phase, variables, split, mesh)
  seconds = time.perf_counter() - start
  operations = _operations(traced.jaxpr.jaxpr) / mesh.size
  memory, costs = program.memory_analysis(), program.cost_analysis() or {}
  weights, optimizer = _bytes(state.variables), _bytes(state.opt_state)
  # What a step consumes has the place of what it gives.
  whole = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
  )
  text = program.as_text() or ""
  counted, traffic = costs.get("flops", 0.0), costs.get("bytes accessed", 0.0)
  if targets.platform() == "gpu":  # of whose kernels XLA counts nothing
    traffic = ProgramText.read(text).moved()
  else:
    traffic *= max(1.0, operations / counted if counted else 1.0)
  return Program(
    weights=weights,
    optimizer=optimizer,
    arrays=max(0, whole - weights - optimizer),
    operations=operations,
    traffic=traffic,
    collectives=collectives(text),
    seconds=seconds,
  )


def step_program(
  phase: Phase, variables: Variables, split: Examples, mesh: Mesh
) -> tuple[TrainState, Any, Any]:
  """The state that a step of a phase takes, as shapes, and the step as it is traced and compiled.

  The arguments are those of `compiled`.
  """
  copied = lambda tree: parallel.abstract_replicated(mesh, tree)
  shapes = jax.eval_shape(phase.new_state, variables)
  where = fsdp.shardings(mesh, shapes, phase.fsdp)
  state, one = fsdp.abstract(shapes, where), phase.step(where)
  key = copied(jax.eval_shape(lambda: jax.random.key(0)))
  if fits_on_device(split):
    step = train_steps(one, mesh)
    rows = jax.ShapeDtypeStruct((OnDevice.steps_a_call, phase.batch_size), jnp.int32)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    arguments: tuple[Any, ...] = (state, copied(split.arrays), rows, count, key)
  else:
    step = train_step(one)
    halves = NamedSharding(mesh, P("data"))
    batch = {
      name: jax.ShapeDtypeStruct((phase.batch_size, *shape), dtype, sharding=halves)
      for name, shape, dtype in (
        ("image", split.image_shape, split.image_dtype),
        ("label", (), jnp.int32),
      )
    }
    arguments = (state, batch, key)
  traced = step.trace(*arguments)
  return state, traced, traced.lower().compile()


def _bytes(tree):
  """Of one device."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _operations(jaxpr: core.Jaxpr) -> float:
  """Of all devices together, loops as often as they run."""
  total = 0.0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    taken: list[Any] = [variable.aval for variable in equation.invars]
    given: list[Any] = [variable.aval for variable in equation.outvars]
    if name == "dot_general":
      (contracted, _), _ = params["dimension_numbers"]
      summed = math.prod(taken[0].shape[i] for i in contracted)
      total += 2 * math.prod(given[0].shape) * summed
    elif name == "conv_general_dilated":
      kernel = taken[1].shape
      features = kernel[params["dimension_numbers"].rhs_spec[0]]
      total += 2 * math.prod(given[0].shape) * math.prod(kernel) / features
    else:
      times = params["length"] if name == "scan" else 1
      if name == "shard_map":
        times = params["mesh"].size
      total += times * sum(map(_operations, _inner(params)))
  return total


def _inner(params: Mapping[str, Any]) -> Iterator[core.Jaxpr]:
  for held in params.values():
    for value in held if isinstance(held, (tuple, list)) else [held]:
      if isinstance(value, core.ClosedJaxpr):
        yield value.jaxpr
      elif isinstance(value, core.Jaxpr):
        yield value
