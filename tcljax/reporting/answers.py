"""Some images, the answers of the spiking network to them over time, and when they could leave."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tcljax.conversion.early_exit import leaving_at
from tcljax.reporting.drawing import (
  BLUE,
  COLORS,
  GREEN,
  INK,
  MUTED,
  VERMILLION,
  WIDTH,
  Drawn,
  label,
  new_figure,
)
from tcljax.simulation.outputs import answers, class_logits, margins

SHOWN = 6
_CURVES = 3
_ROW, _BELOW = 1.36, 0.2  # inches


@dataclasses.dataclass(frozen=True)
class Exits:
  """Images looked at, and the step after which each could leave.

  Attributes:
    logits: mean output after each step, [T, images, classes], of two classes at least.
    leave: after how many steps each leaves, [images].
    margin: from which an answer is settled; infinite where none is before T.
    chosen: positions of those that are shown.
    labels: of the images, or None.
  """

  logits: np.ndarray
  leave: np.ndarray
  margin: float
  chosen: list[int]
  labels: np.ndarray | None

  @property
  def last(self) -> np.ndarray:
    """The answer of each image after all steps."""
    return answers(self.logits[-1])


def exits(given: np.ndarray, margin: float, delay: int, labels: np.ndarray | None) -> Exits:
  """When images leave, and which are shown: early and late ones, and those answered wrongly.

  Args:
    given: mean output after each step, [T, images, classes].
    margin: from which an answer is settled.
    delay: steps at the start after which nothing leaves.
    labels: of the images, or None.
  """
  logits = class_logits(np.asarray(given))
  delay = min(delay, len(logits) - 1)
  leave = delay + 1 + leaving_at(margins(logits[delay:]), margin)
  order = [int(k) for k in np.argsort(leave, kind="stable")]
  wrong = [] if labels is None else np.flatnonzero(answers(logits[-1]) != labels).tolist()
  chosen = list(dict.fromkeys([*order[:2], *wrong[:2], *order[::-1][:2], *order]))[:SHOWN]
  return Exits(logits, leave, margin, sorted(chosen, key=lambda k: (leave[k], k)), labels)


def picture_of(image: np.ndarray) -> np.ndarray | None:
  """An image as uint8 [H, W] or [H, W, 3]; of frames, and of other channels, their sum.

  None of what is no image.
  """
  image = np.asarray(image)
  if image.ndim == 4:
    image = image.sum(axis=0, dtype=np.float64)
  if image.ndim == 3 and image.shape[-1] == 4:
    image = image[..., :3]
  if image.ndim == 3 and image.shape[-1] not in (1, 3):
    image = image.sum(axis=-1, keepdims=True, dtype=np.float64)
  if image.ndim == 3 and image.shape[-1] == 1:
    image = image[..., 0]
  if image.ndim not in (2, 3) or min(image.shape[:2]) < 2 or not np.isfinite(image).all():
    return None
  if image.dtype != np.uint8:
    low, high = float(image.min()), float(image.max())
    image = np.rint(255 * (image - low) / (high - low or 1.0)).astype(np.uint8)
  return image


def over_time(found: Exits, pictures: Sequence[Any], names: Sequence[str]) -> Drawn:
  """A row for each image: the picture, and its largest mean outputs after each step.

  Args:
    found: from `exits`.
    pictures: of those chosen, from `picture_of`.
    names: of the classes.
  """
  shown = len(found.chosen)
  height = _BELOW + _ROW * shown
  figure = new_figure(height, layout=None)
  inch = 1 / height
  data = []
  steps = np.arange(1, len(found.logits) + 1)
  for row, (k, pixels) in enumerate(zip(found.chosen, pictures)):
    bottom = 1 - inch * (_ROW * (row + 1) - 0.25)
    if pixels is not None:
      picture = figure.add_axes((0.01, bottom, 0.8 / WIDTH, 0.8 * inch))
      picture.imshow(pixels, cmap="gray", interpolation="nearest")
      picture.set_axis_off()
    axes = figure.add_axes((1.28 / WIDTH, bottom, (WIDTH - 2.4) / WIDTH, 0.8 * inch))
    curves = found.logits[:, k]
    best = np.argsort(-curves[-1], kind="stable")[:_CURVES]
    right = None if found.labels is None else int(found.labels[k])
    if right is not None and right not in best:
      best[-1] = right
    for rank, (j, color) in enumerate(zip(best, (BLUE, VERMILLION, GREEN, *COLORS))):
      axes.plot(steps, curves[:, j], color=color, linewidth=1.5)
      y = 0.92 - 0.3 * rank
      axes.text(1.05, y, "■", color=color, transform=axes.transAxes, fontsize=9, va="center")
      axes.text(1.15, y, label(names[j], 13), transform=axes.transAxes, fontsize=8.5, va="center")
    left = int(found.leave[k])
    axes.axvline(left, color=INK, linestyle="--", linewidth=1)
    when = f"leaves after {left}" if left < len(steps) else f"stays for all {left}"
    told = f"answer {label(names[int(found.last[k])], 14)}, {when}"
    if right is not None:
      told = f"label {label(names[right], 14)}, {told}"
    figure.text(0.01, bottom + 0.88 * inch, told, fontsize=8.5)
    axes.set_xlim(0.8, max(2, len(steps)) + 0.2)
    axes.tick_params(labelsize=7.5)
    axes.locator_params(axis="x", integer=True, nbins=6)
    axes.locator_params(axis="y", nbins=3)
    data.append(
      {
        "image": k,
        "label": right,
        "answer": int(found.last[k]),
        "leaves_after": left,
        "outputs": {str(names[j]): curves[:, j].tolist() for j in best},
      }
    )
  below = "time steps; up: mean outputs; dashed: the image may leave"
  figure.text(0.01, 0.08 * inch, below, fontsize=8, color=MUTED)
  alt = (
    f"The largest outputs over time for {shown} images, which may leave after "
    f"{', '.join(str(int(found.leave[k])) for k in found.chosen)} steps."
  )
  return Drawn("answers", figure, {"margin": found.margin, "images": data}, alt)
