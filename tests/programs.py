"""What tests read of programs: the operations they are made of, and the memory they take."""

import jax
from jax.extend import core


def primitives(f, *args):
  """Names of all primitives, those inside calls too."""
  return {str(eqn.primitive) for eqn in _equations(jax.make_jaxpr(f)(*args).jaxpr)}


def how_often(primitive, f, *args):
  """How many operations are this one, those inside calls too."""
  names = [str(eqn.primitive) for eqn in _equations(jax.make_jaxpr(f)(*args).jaxpr)]
  return names.count(primitive)


def most_operands(primitive, f, *args):
  """How many operands that operation has which has most, of this kind."""
  equations = _equations(jax.make_jaxpr(f)(*args).jaxpr)
  return max(len(eqn.invars) for eqn in equations if str(eqn.primitive) == primitive)


def sums_over_first(f, *args):
  """Shapes of the arrays that are summed over their first axis alone, and leave more than one."""
  return {
    eqn.invars[0].aval.shape
    for eqn in _equations(jax.make_jaxpr(f)(*args).jaxpr)
    if str(eqn.primitive) == "reduce_sum"
    and eqn.params["axes"] == (0,)
    and eqn.invars[0].aval.shape[0] > 1
    and len(eqn.outvars[0].aval.shape) > 1
  }


def _equations(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for inner in eqn.params.values():
      if isinstance(inner, core.ClosedJaxpr):
        yield from _equations(inner.jaxpr)


def temporary_bytes(function, *arguments, **options):
  """Memory of the compiled function beside its arguments and results."""
  compiled = jax.jit(function, compiler_options=options).lower(*arguments).compile()
  return compiled.memory_analysis().temp_size_in_bytes
