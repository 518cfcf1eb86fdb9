"""What computing costs in energy: named models, each with its source.

All are of one technology, 45 nm at 0.9 V: M. Horowitz, "Computing's energy problem (and what we can
do about it)", ISSCC 2014, pages 10 to 14. In picojoules a multiplication takes 3.7 and an addition
0.9 in floating point of 32 bits; in whole numbers a multiplication of 8 bits takes 0.2 and an
addition of 32 bits 0.1. To read or write 64 bits of an on-chip memory of 32 KiB takes 20.

They are estimates for comparisons, and no measurement of a chip.
"""

import dataclasses
from typing import Any

from tcljax.checks import check_choice


@dataclasses.dataclass(frozen=True)
class Work:
  """What is done for one image, on average; of a spiking network arrays [T], after 1, 2, ... steps.

  Attributes:
    macs: multiplications by a weight, each with an addition.
    accumulates: additions of a weight, each for one spike: synaptic operations.
    updates: of membrane potentials, one for each neuron and step.
    biases: additions of a bias.
    accesses: numbers that are read from memory or written there.
  """

  macs: Any
  accumulates: Any
  updates: Any
  biases: Any
  accesses: Any


@dataclasses.dataclass(frozen=True)
class Prices:
  """Picojoules for one multiply-accumulate, one addition, and one access to memory."""

  mac: float
  addition: float
  access: float

  def of(self, work: Work) -> Any:
    """Microjoules for this work, in its shape."""
    additions = work.accumulates + work.updates + work.biases
    return 1e-6 * (self.mac * work.macs + self.addition * additions + self.access * work.accesses)


@dataclasses.dataclass(frozen=True)
class EnergyModel:
  """What operations cost.

  Attributes:
    name: of the model.
    source: where the numbers are from.
    float32: prices in floating point of 32 bits, in which converted networks compute.
    int8: prices where weights and activations are quantized to whole numbers of 8 bits, whose
      sums have 32.

  Examples:
    >>> from tcljax.evaluation.energy import ENERGY_MODELS
    >>> [(name, model.float32.mac) for name, model in ENERGY_MODELS.items()]
    [('arithmetic', 4.6), ('memory', 4.6)]
  """

  name: str
  source: str
  float32: Prices
  int8: Prices


_SOURCE = "M. Horowitz, ISSCC 2014, 45 nm at 0.9 V"
ENERGY_MODELS = {
  model.name: model
  for model in (
    EnergyModel("arithmetic", _SOURCE, Prices(4.6, 0.9, 0.0), Prices(0.3, 0.1, 0.0)),
    # 20 pJ for 64 bits: 10 for a number of 32, 2.5 for one of 8.
    EnergyModel(
      "memory",
      f"{_SOURCE}; every access to a memory of 32 KiB, none saved by using a number twice",
      Prices(4.6, 0.9, 10.0),
      Prices(0.3, 0.1, 2.5),
    ),
  )
}


def energy_model(model: str | EnergyModel) -> EnergyModel:
  """A model by its name, or one of the user's own.

  Raises:
    ValueError: if there is none of this name.
  """
  if isinstance(model, EnergyModel):
    return model
  check_choice("model", model, tuple(ENERGY_MODELS))
  return ENERGY_MODELS[model]
