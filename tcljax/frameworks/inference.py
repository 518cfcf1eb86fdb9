"""A framework's model is traced as it runs for inference: trained, and not at random."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tcljax.graph import Traced, trace
from tcljax.graph.fates import source_of


def traced(function: Callable[[Any], Any], example: Any, pooling: str) -> Traced:
  """What `tcljax.trace` makes of a model, of which it is known that it should be a trained one.

  Raises:
    ValueError: if a weight is not finite, or the model draws random numbers, naming the place; and
      as `tcljax.trace` does.
  """
  try:
    closed = jax.make_jaxpr(lambda x: function(x))(example)
  except Exception:  # of any kind, which `trace` tells
    return trace(function, example, pooling=pooling)
  for weight in closed.consts:
    if jnp.issubdtype(weight.dtype, jnp.floating) and not jnp.isfinite(weight).all():
      raise ValueError(
        f"a weight of the model, of shape {weight.shape}, is not finite: load trained weights"
      )
  for eqn, place, line in _operations(closed.jaxpr):
    if eqn.primitive.name == "random_bits":
      where = (f" in {place}" if place else "") + (f" ({line})" if line else "")
      raise ValueError(
        f"the model draws random numbers{where}: run it for inference, without dropout, noise or "
        "stochastic depth"
      )
  return trace(function, example, pooling=pooling)


def _operations(jaxpr: Any, place: str = "", line: str = "") -> Iterator[tuple[Any, str, str]]:
  """All operations of a jaxpr, those inside others too, each with its place and the user's line."""
  for eqn in jaxpr.eqns:
    inside = "/".join(filter(None, (place, str(eqn.source_info.name_stack))))
    at = source_of(eqn.source_info.traceback) or line
    yield eqn, inside, at
    for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
      if _is_jaxpr(value):
        yield from _operations(getattr(value, "jaxpr", value), inside, at)


def _is_jaxpr(value: Any) -> bool:
  return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
