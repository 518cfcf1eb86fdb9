"""The ANN that a network is measured against."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from tcljax.checks import must_be
from tcljax.layers.activations import ReLU, check_module, with_activation
from tcljax.layers.collections import Variables, as_variables


def reference_of(
  model: nn.Module, variables: Variables, reference: tuple[nn.Module, Variables] | None
) -> tuple[nn.Module, Variables]:
  """The reference; where there is none, the model itself with ReLU.

  Raises:
    ValueError: if it is no pair of a model and its variables.
  """
  if reference is None:
    return with_activation(model, ReLU), variables
  pair: Any = reference
  if not isinstance(pair, (tuple, list)) or len(pair) != 2:
    raise ValueError(
      must_be("reference", pair, "a pair, (model, variables): the ANN to compare with, and its own")
    )
  check_module("the model of reference", pair[0])
  if not isinstance(pair[1], Mapping):
    wanted = "the variables of its model, collections by name"
    raise ValueError(must_be("the second of reference", pair[1], wanted))
  return pair[0], as_variables(pair[1])
