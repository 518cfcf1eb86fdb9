"""What the figures of a report come to, in words."""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from tcljax.evaluation.diagnosis import PARTS, Diagnosis

_LAYERS = (
  (r"stem_act", "the stem"),
  (r"stage(\d+)_block(\d+)[./]act(\d+)", "stage {}, block {}, activation {}"),
  (r"act_dense(\d+)", "dense layer {}"),
  (r"act(\d+)_(\d+)", "stage {}, layer {}"),
)
# What a layer itself adds to the error, by `Diagnosis`.
CAUSES = tuple(part for part in PARTS if part != "inherited")
_WORDS = dict(
  pooling=(
    "a maximum inside the model sees currents that vary",
    "give the pooling to the activation, max_pool=",
  ),
  clipping=(
    "activations are cut off at the threshold",
    "raise the thresholds: tune with more steps, or calibrate by a larger percentile",
  ),
  quantization=(
    "so few time steps have too few levels",
    "simulate more time steps, or tune for these",
  ),
  unevenness=(
    "spikes come too early or too late",
    "tune with more steps, or simulate more time steps",
  ),
)
_CLOSE, _NEAR = 0.5, 2.0  # points of accuracy


def layer_in_words(name: str) -> str:
  """The name of an activation as people say it; of one that is not of our models, the name."""
  for pattern, words in _LAYERS:
    if found := re.fullmatch(pattern, name):
      return words.format(*found.groups())
  return f"layer {name}"


@dataclasses.dataclass(frozen=True)
class Loss:
  """What one layer adds to the error.

  Attributes:
    layer: its name.
    share: of all that layers add, in percent, by squares.
    parts: the same of each of `CAUSES`; they come to `share`.
  """

  layer: str
  share: float
  parts: dict[str, float]

  @property
  def cause(self) -> str:
    """The largest part."""
    return max(self.parts, key=lambda part: self.parts[part])


def losses(diagnosis: dict[str, Diagnosis]) -> list[Loss]:
  """What each layer adds, in the order of the layers; empty where none adds anything.

  What a layer has inherited was added before it.
  """
  squares = {
    name: {cause: getattr(found, cause) ** 2 for cause in CAUSES}
    for name, found in diagnosis.items()
  }
  finite = {name: of for name, of in squares.items() if math.isfinite(sum(of.values()))}
  total = sum(sum(of.values()) for of in finite.values())
  if not total:
    return []
  return [
    Loss(name, 100 * sum(of.values()) / total, {c: 100 * part / total for c, part in of.items()})
    for name, of in finite.items()
  ]


def worst_in_words(found: Sequence[Loss], encoding: str, most: int = 5) -> list[str]:
  """A sentence on each of the layers that add most, the worst first.

  Args:
    found: from `losses`.
    encoding: of the input; of frames there are no more steps than of these.
    most: of the layers.
  """
  worst = sorted(found, key=lambda loss: -loss.share)[:most]
  sentences = []
  for loss in worst:
    why, remedy = _WORDS[loss.cause]
    if encoding == "frames":
      remedy = remedy.replace("simulate more time steps", "bin recordings into more frames")
    sentences.append(f"{layer_in_words(loss.layer)} adds {loss.share:.0f} % of it: {why}; {remedy}")
  return [sentence[:1].upper() + sentence[1:] + "." for sentence in sentences]


def accuracy_in_words(ann: float, snn: np.ndarray, time_steps: int) -> str:
  """How a spiking network stands against its ANN after T steps.

  Args:
    ann: percent.
    snn: percent after each step.
    time_steps: T, the steps that the thresholds were made for.
  """
  at = min(time_steps, len(snn))
  found = float(snn[at - 1])
  lost = ann - found
  how = (
    "loses next to nothing"
    if lost <= _CLOSE
    else "loses a little"
    if lost <= _NEAR
    else f"loses {lost:.1f} points"
  )
  text = (
    f"The spiking network {how}: {found:.2f} % after {steps(at)}, where its ANN has {ann:.2f} %."
  )
  near = np.flatnonzero(snn >= ann - 1)
  if len(near):
    text += f" It comes within one point of the ANN after {steps(int(near[0]) + 1)}."
  else:
    text += f" It does not come within one point of the ANN in {steps(len(snn))}."
  return text


def is_far(ann: float, snn: float) -> bool:
  """Whether an accuracy in percent is so far below that of the ANN that a user should be told."""
  return ann - snn > _NEAR


def far_in_words(ann: float, snn: float, time_steps: int) -> str:
  """That it is so, of percents after T steps."""
  return f"T = {time_steps} is far from the ANN: {snn:.2f} % where that has {ann:.2f} %."


def shortfall_in_words(
  ann: float, snn: float, quantized: float, time_steps: int, worst: Sequence[str], encoding: str
) -> str:
  """What a spiking network that is far from its ANN loses, where, and what helps.

  Args:
    ann: percent.
    snn: percent after T steps.
    quantized: percent if every spike came in time, with the same thresholds. Not a limit: tuned
      thresholds suit the spikes as they come.
    time_steps: T.
    worst: sentences on the layers that add most, from `worst_in_words`.
    encoding: of the input.
  """
  if quantized <= snn:
    why = "which gains nothing: these thresholds suit spikes that come too early or too late"
  elif quantized - snn > ann - quantized:
    why = "so most is lost to spikes that come too early or too late"
  else:
    why = f"so most is lost as {steps(time_steps)} have too few levels"
  more = "recordings binned into more frames" if encoding == "frames" else "more time steps"
  return "\n".join(
    [
      f"{far_in_words(ann, snn, time_steps)} If every spike came in time it would be "
      f"{quantized:.2f} %, {why}.",
      *(
        ["The error of the firing rates:", *(f"  {sentence}" for sentence in worst)]
        if worst
        else []
      ),
      f"What helps: {more}; tuning with more steps; tune.calibration='delivered', which chooses "
      "thresholds layer by layer; training the weights too, joint.through='snn'; neurons that send "
      "bursts, snn.burst.",
    ]
  )


def latency_in_words(depth: int, time_steps: int | None = None) -> str:
  """When an answer comes on hardware, of a network as deep as `SpikingNetwork.depth` says.

  Args:
    depth: steps that come on top of T.
    time_steps: T; None to say it of every T.
  """
  at = f", that of {time_steps} after {time_steps + depth}" if time_steps else ""
  return (
    "On hardware that takes a step for each layer, the answer of T steps comes after "
    f"T + {depth}{at}."
  )


def energy_in_words(snn: float, ann: float, int8: float, time_steps: int) -> str:
  """The energy of an image after T steps against that of the ANN, of 32 bits and of 8."""
  return (
    f"After {steps(time_steps)} it takes {_times(snn, ann)} the energy of the ANN and "
    f"{_times(snn, int8)} that of the ANN of 8 bits, counting multiplications and additions alone."
  )


def steps(count: int) -> str:
  """A number of time steps in words."""
  return "1 step" if count == 1 else f"{count} steps"


def _times(a: float, b: float) -> str:
  return f"{a / b:.3g} times" if b else "more than"
