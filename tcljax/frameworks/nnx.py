"""Networks of Flax NNX."""

from typing import Any

import jax

from tcljax.checks import must_be
from tcljax.frameworks.inference import traced
from tcljax.graph import Traced


def from_nnx(
  model: Any,
  example: jax.Array | jax.ShapeDtypeStruct,
  *,
  pooling: str = "gate",
  **arguments: Any,
) -> Traced:
  """Traces a network of Flax NNX in evaluation mode; the model itself stays as it is.

  Args:
    model: an `nnx.Module` that is called with a batch.
    example: inputs [B, ...], or their shape and type; a tuple or dictionary of several.
    pooling: see `tcljax.trace`.
    **arguments: what else the model is called with for inference, such as `train=False`.

  Returns:
    The network, its populations named after the attributes that hold the user's modules.

  Raises:
    ValueError: if this is no `nnx.Module` or one without numbers, if it draws random numbers, and
      as `tcljax.trace` does.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> from flax import nnx
    >>> rngs = nnx.Rngs(0)
    >>> model = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 3, rngs=rngs))
    >>> tcljax.from_nnx(model, jnp.ones((1, 4))).populations
    ('relu',)
  """
  from flax import nnx

  if not isinstance(model, nnx.Module):
    wanted = "an nnx.Module, such as nnx.Sequential(...) or nnx.merge(graphdef, state)"
    raise ValueError(must_be("model", model, wanted))
  definition, state = nnx.split(model)
  for path, held in nnx.to_flat_state(state):
    if isinstance(held.get_value(), jax.ShapeDtypeStruct):
      raise ValueError(
        f"model has no numbers in {'.'.join(map(str, path))}, as nnx.eval_shape makes it: give one "
        "whose state was trained or restored"
      )

  def run(x):
    # A copy, in which modes and names are set. Made while it is traced, as nnx.scan and nnx.remat
    # take no variables from outside.
    own = nnx.merge(definition, state, copy=True)
    own.eval()
    for path, module in nnx.iter_modules(own):
      if path:
        _name(module, ".".join(map(str, path)))
    return own(x, **arguments)

  return traced(run, example, pooling)


def _name(module: Any, name: str) -> None:
  """Has a module run under a name, which the operations that it traces to then carry."""
  kind = type(module)

  def call(self, *args, **kwargs):
    with jax.named_scope(name):
      return kind.__call__(self, *args, **kwargs)

  if callable(module):
    module.__class__ = type(kind.__name__, (kind,), {"__call__": call})
