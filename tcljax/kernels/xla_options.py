"""Options for XLA's compiler on CPUs: to take less memory, or to be done sooner."""

import functools

import jax

Options = dict[str, str | int | bool]

# By default it orders a program for the most parts that could run at the same time, so arrays are
# made long before they are used: the gradient through time then takes twice the memory, in the same
# time. And its newer way to write a fused loop keeps some 0.9 MiB for each of them until all are
# compiled, more than a gigabyte for a VGG-16 through time.
_ON_CPUS: Options = {
  "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
  "xla_cpu_use_fusion_emitters": False,
}
# Of what runs once, most of the time goes into the optimizer, and into starting its threads.
_ONCE_ON_CPUS: Options = {
  "xla_backend_optimization_level": 0,
  "xla_cpu_use_fusion_emitters": False,
  "xla_cpu_parallel_codegen_split_count": 1,
}


@functools.cache
def saving_memory() -> Options:
  """For `jax.jit(..., compiler_options=)` of functions that no other compiled function calls.

  Returns:
    Those of the options that the compiler knows, for they are no part of XLA's public interface;
    none where the devices are no CPUs.
  """
  return _known(_ON_CPUS)


@functools.cache
def compiling_quickly() -> Options:
  """The same for functions that run once, whose compilation then takes a third of the time."""
  return _known(_ONCE_ON_CPUS)


def _known(options: Options) -> Options:
  if jax.default_backend() != "cpu":
    return {}
  return {option: value for option, value in options.items() if _is_known(option, value)}


def _is_known(option: str, value: str | int | bool) -> bool:
  try:
    jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
