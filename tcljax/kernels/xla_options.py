"""Options for XLA's compiler with which a program of many small parts takes less memory on CPUs."""

import functools

import jax

# By default it orders a program for the most parts that could run at the same time, so arrays are
# made long before they are used: the gradient through time then takes twice the memory, in the same
# time. And its newer way to write a fused loop keeps some 0.9 MiB for each of them until all are
# compiled, more than a gigabyte for a VGG-16 through time.
_ON_CPUS = {
  "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
  "xla_cpu_use_fusion_emitters": False,
}


@functools.cache
def saving_memory() -> dict[str, str | bool]:
  """For `jax.jit(..., compiler_options=)` of functions that no other compiled function calls.

  Returns:
    Those of the options that the compiler knows, for they are no part of XLA's public interface;
    none where the devices are no CPUs.
  """
  if jax.default_backend() != "cpu":
    return {}
  return {option: value for option, value in _ON_CPUS.items() if _is_known(option, value)}


def _is_known(option: str, value: str | bool) -> bool:
  try:
    jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
