"""Networks that come with tcljax; any Flax module with a field `act` does as well."""

from typing import Any

import flax.linen as nn

from tcljax.checks import check_choice
from tcljax.models.vgg import CNN, VGG, VGG16, check_image_size

__all__ = ["CNN", "VGG", "VGG16", "check_image_size", "create_model"]

_MODELS = {"cnn": CNN, "vgg16": VGG16}
MODELS = tuple(_MODELS)


def create_model(name: str, num_classes: int, **fields: Any) -> nn.Module:
  """The named network with some of its fields set; a field given as None keeps its default.

  Raises:
    ValueError: on an unknown name.
  """
  check_choice("model.name", name, MODELS)
  given = {field: value for field, value in fields.items() if value is not None}
  return _MODELS[name](num_classes=num_classes, **given)
