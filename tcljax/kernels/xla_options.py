"""Options for XLA's compiler on CPUs: to take less memory, or to be done sooner."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

from tcljax.kernels import targets

Options = dict[str, str | int | bool]

# By default it orders a program for the most parts that could run at the same time, so arrays are
# made long before they are used: the gradient through time then takes twice the memory, in the same
# time. And its newer way to write a fused loop keeps some 0.9 MiB for each of them until all are
# compiled, more than a gigabyte for a VGG-16 through time. But it writes equal ones once: a network
# of many equal layers compiles in a third of the time, see benchmarks/compile_time.py.
_ON_CPUS: Options = {
  "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
  "xla_cpu_use_fusion_emitters": False,
}
_EMITTERS = "xla_cpu_use_fusion_emitters"
# So many operations for each that differs from all others, by type and shapes, make it worth its
# memory. Of gradients through 8 steps a VGG-16 has 14 (nothing gained), a ResNet-20 30 (half).
_REPEATS = 20
# Of what runs once, most of the time goes into the optimizer, and into starting its threads.
_ONCE_ON_CPUS: Options = {
  "xla_backend_optimization_level": 0,
  "xla_cpu_use_fusion_emitters": False,
  "xla_cpu_parallel_codegen_split_count": 1,
}


def saving_memory() -> Options:
  """For `jax.jit(..., compiler_options=)` of functions that no other compiled function calls.

  Returns:
    Those of the options that the compiler knows, for they are no part of XLA's public interface;
    none where the devices are no CPUs.
  """
  return _known(_ON_CPUS)


class Jitted:
  """A function compiled with `saving_memory`, and sooner where its program repeats itself.

  The options are those that suit the arguments of the first call.

  Args:
    function: to be compiled.
    **settings: those of `jax.jit`, such as `donate_argnums`.
  """

  def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
    self._function, self._settings = function, settings
    self._jitted: Any = None

  def __call__(self, *arguments: Any) -> Any:
    """What the function returns."""
    return self._compilable(arguments)(*arguments)

  def lower(self, *arguments: Any) -> Any:
    """As of `jax.jit`."""
    return self._compilable(arguments).lower(*arguments)

  def trace(self, *arguments: Any) -> Any:
    """As of `jax.jit`."""
    return self._compilable(arguments).trace(*arguments)

  def _compilable(self, arguments):
    if self._jitted is None:
      # JAX keeps what it traces by function and types: the second one traces nothing.
      traced = jax.jit(self._function, **self._settings).trace(*arguments)
      options = saving_memory()
      if repeats(traced.jaxpr.jaxpr) >= _REPEATS:
        options = {option: value for option, value in options.items() if option != _EMITTERS}
      self._jitted = jax.jit(self._function, compiler_options=options, **self._settings)
    return self._jitted


def repeats(jaxpr: core.Jaxpr) -> float:
  """How many operations a program has for each that differs in type or shapes from all others."""
  operations = list(_operations(jaxpr))
  return len(operations) / max(1, len(set(operations)))


def _operations(jaxpr: core.Jaxpr) -> Iterator[tuple[Any, ...]]:
  for equation in jaxpr.eqns:
    inner: list[Any] = [  # open or closed
      getattr(value, "jaxpr", value)
      for held in equation.params.values()
      for value in (held if isinstance(held, (tuple, list)) else [held])
      if isinstance(value, (core.Jaxpr, core.ClosedJaxpr))
    ]
    for program in inner:
      yield from _operations(program)
    if not inner:
      shapes = (tuple(v.aval for v in of) for of in (equation.invars, equation.outvars))
      yield (equation.primitive.name, *shapes)


def compiling_quickly() -> Options:
  """The same for functions that run once, whose compilation then takes a third of the time."""
  return _known(_ONCE_ON_CPUS)


def _known(options: Options) -> Options:
  if targets.platform() != "cpu":
    return {}
  return {option: value for option, value in options.items() if _is_known(option, value)}


@functools.cache
def _is_known(option: str, value: str | int | bool) -> bool:
  try:
    jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
