"""Networks of Flax Linen."""

from typing import Any

import flax.linen as nn
import jax

from tcljax.frameworks.inference import traced
from tcljax.graph import Traced
from tcljax.layers.activations import check_module
from tcljax.layers.collections import Variables, as_variables
from tcljax.layers.inputs import FALSE_BY_DEFAULT, told_of_inputs

_FOR_INFERENCE = (
  "give its argument, as by tcljax.from_flax(module, variables, example, train=False), or "
  f"{FALSE_BY_DEFAULT}"
)


def from_flax(
  module: nn.Module,
  variables: Variables,
  example: jax.Array | jax.ShapeDtypeStruct,
  *,
  pooling: str = "gate",
  **arguments: Any,
) -> Traced:
  """Traces a network of Flax Linen, whose ReLUs become neurons; it needs no field `act`.

  Args:
    module: the network.
    variables: its variables, as `module.init` gave them and training changed them.
    example: inputs [B, ...], or their shape and type; of a module whose first argument is a tuple
      or dictionary of several, such a one.
    pooling: see `tcljax.trace`.
    **arguments: what else the module is called with for inference, such as `train=False`.

  Returns:
    The network, its populations named after the modules that they stand in.

  Raises:
    ValueError: as `tcljax.trace` does; if the module does not run on these inputs, or runs as it is
      trained.

  Examples:
    >>> import flax.linen as nn
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> module = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(3, (1, 1))])
    >>> images = jnp.ones((1, 8, 8, 1))
    >>> variables = module.init(jax.random.key(0), images)
    >>> tcljax.from_flax(module, variables, images).populations
    ('Sequential.relu',)
  """
  check_module("module", module)
  variables = as_variables(variables)
  leaves = jax.tree.leaves(example)
  if not arguments and leaves and all(hasattr(leaf, "shape") for leaf in leaves):
    x = jax.tree.map(lambda of: jax.ShapeDtypeStruct((2, *of.shape[1:]), of.dtype), example)
    with told_of_inputs(module, variables, x, inference=_FOR_INFERENCE):
      jax.eval_shape(module.apply, variables, x)
  return traced(lambda x: module.apply(variables, x, **arguments), example, pooling)
