"""What tests read of programs: the operations they are made of, and the memory they take."""

import jax
from jax.extend import core


def primitives(f, *args):
  """Names of all primitives, those inside calls too."""

  def names(jaxpr):
    for eqn in jaxpr.eqns:
      yield str(eqn.primitive)
      for inner in eqn.params.values():
        if isinstance(inner, core.ClosedJaxpr):
          yield from names(inner.jaxpr)

  return set(names(jax.make_jaxpr(f)(*args).jaxpr))


def temporary_bytes(function, *arguments, **options):
  """Memory of the compiled function beside its arguments and results."""
  compiled = jax.jit(function, compiler_options=options).lower(*arguments).compile()
  return compiled.memory_analysis().temp_size_in_bytes
