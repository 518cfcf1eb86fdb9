"""What a report is made of: plain results and arrays, measured elsewhere."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.conversion.network import SpikingNetwork
from tcljax.evaluation.accuracy import Evaluation
from tcljax.evaluation.cost_figures import Costs
from tcljax.evaluation.portrait import Portrait
from tcljax.evaluation.scores import is_measured


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
  """All that is known of a network or a run. What is not known is left out of its report.

  Attributes:
    name: of the network.
    data: of the images that it was measured on, in words.
    time_steps: the T that its thresholds were made for.
    evaluation: on these images.
    thresholds: of each activation, of its channels or of the layer.
    class_names: of its classes; empty for numbers.
    network: the converted one; of a run whose network cannot be converted there is none, and with
      it no operations, costs, portrait and images.
    unconverted: why it cannot be.
    operations: what became of each operation of its model, `tcljax.explain`.
    costs: of the network.
    portrait: of the network, on the first of the images.
    images: those of the portrait, as they are stored.
    labels: their class numbers.
    margin: from which early exit lets an image go; None where answers are no classes.
    earlier: accuracy by T after the earlier stages of a run, by their names.
    records: of a run of training, lines of metrics.jsonl; None where no run is told of.
    made: how it was made: by title, what stands there by name.
  """

  name: str
  data: str
  time_steps: int
  evaluation: Evaluation
  thresholds: Mapping[str, np.ndarray]
  class_names: Sequence[str] = ()
  network: SpikingNetwork | None = None
  unconverted: str = ""
  operations: str = ""
  costs: Costs | None = None
  portrait: Portrait | None = None
  images: Any = None
  labels: np.ndarray | None = None
  margin: float | None = None
  earlier: Mapping[str, Mapping[int, float]] = dataclasses.field(default_factory=dict)
  records: Sequence[Mapping[str, Any]] | None = None
  made: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

  @property
  def has_accuracy(self) -> bool:
    """Whether there are labels of classes."""
    return is_measured(self.evaluation.ann)

  @property
  def has_agreement(self) -> bool:
    """Whether there are classes, with labels or without."""
    return is_measured(self.evaluation.agreement)

  @property
  def at(self) -> int:
    """T, or the largest number of steps that was measured where that is less."""
    return min(self.time_steps, len(self.evaluation.snn))

  def class_name(self, number: int) -> str:
    """The name of a class, or its number where it has none."""
    return str(self.class_names[number]) if number < len(self.class_names) else str(number)
