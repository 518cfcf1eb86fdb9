"""The precision that layers compute in.

Parameters, BatchNorm's statistics, thresholds, membrane potentials and logits are float32 whatever
it is. bfloat16 is meant for GPUs and TPUs, whose matrix units take it; no speed was measured yet.
"""

import flax.linen as nn
import jax.numpy as jnp

from tcljax.checks import check_choice

_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def compute_dtype(name: str) -> type:
  """The type that a model's field `dtype` names.

  Raises:
    ValueError: if it is neither "float32" nor "bfloat16".
  """
  check_choice("dtype", name, tuple(_DTYPES))
  return _DTYPES[name]


def in_float32(model: nn.Module) -> nn.Module:
  """The same network computing in float32, as converted ones do."""
  return model.clone(dtype="float32") if getattr(model, "dtype", None) == "bfloat16" else model
