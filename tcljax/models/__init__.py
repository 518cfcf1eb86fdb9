"""Networks that come with tcljax; any Flax module with a field `act` does as well."""

import dataclasses
from typing import Any, cast

from tcljax.checks import check_choice
from tcljax.models.resnet import (
  ResNet,
  ResNet18,
  ResNet20,
  ResNet32,
  ResNet34,
  ResNet44,
  ResNet56,
  ResNet110,
)
from tcljax.models.sizes import check_image_size
from tcljax.models.vgg import CNN, VGG, VGG11, VGG13, VGG16, VGG19

__all__ = [
  "CNN",
  "VGG",
  "VGG11",
  "VGG13",
  "VGG16",
  "VGG19",
  "ResNet",
  "ResNet18",
  "ResNet20",
  "ResNet32",
  "ResNet34",
  "ResNet44",
  "ResNet56",
  "ResNet110",
  "check_image_size",
  "create_model",
]

_MODELS = {
  "cnn": CNN,
  "vgg11": VGG11,
  "vgg13": VGG13,
  "vgg16": VGG16,
  "vgg19": VGG19,
  "resnet18": ResNet18,
  "resnet20": ResNet20,
  "resnet32": ResNet32,
  "resnet34": ResNet34,
  "resnet44": ResNet44,
  "resnet56": ResNet56,
  "resnet110": ResNet110,
}
MODELS = tuple(_MODELS)


def create_model(name: str, num_classes: int, **fields: Any) -> VGG | ResNet:
  """The named network with some of its fields set; a field given as None keeps its default.

  Raises:
    ValueError: on an unknown name, or a field that this network does not have.

  Examples:
    >>> import tcljax
    >>> model = tcljax.create_model("resnet20", num_classes=10, shortcut="projection", dtype=None)
    >>> model.blocks, model.shortcut, model.dtype
    ((3, 3, 3), 'projection', 'float32')
  """
  check_choice("name", name, MODELS)
  given = {field: value for field, value in fields.items() if value is not None}
  model = _MODELS[name]
  has = [field.name for field in dataclasses.fields(cast(Any, model.func))]
  for field, value in given.items():
    if field not in has:
      raise ValueError(f"{field}={value!r} is no field of {name}: leave it out")
  return model(num_classes=num_classes, **given)
