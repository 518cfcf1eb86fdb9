"""What outputs score against the ANN's and against labels: sums of each image, and their figures.

Networks are compared by sums over images, each counted once, so that no figure depends on batches:
a mean intersection over union is that of all images together, and no mean over them.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.simulation.outputs import CLASSES, QUANTITIES, Output, answers, labels_of

Sums = dict[str, jax.Array]
_MOST_CONFUSED = 1024  # classes: a table of more would take more memory than it is worth


def class_sums(output: jax.Array, ann: jax.Array, labels: jax.Array | None) -> Sums:
  """Of logits, at how many positions of each image a network answers as it is to.

  Args:
    output: of one network, [..., B, *positions, C]; axes in front are steps.
    ann: of the ANN, [B, *positions, C].
    labels: class numbers, [B, *positions], or None.

  Returns:
    `agreement` with the ANN, [..., B]. Where there are labels, `correct`, [..., B], and of maps
    `counts`, [..., B, 3, classes]: for each class the positions that are it by answer and label, by
    answer, and by label.
  """
  found, reference = answers(output), answers(ann)
  positions = tuple(range(found.ndim - reference.ndim + 1, found.ndim))
  same = lambda wanted: (found == jnp.broadcast_to(wanted, found.shape)).sum(axis=positions)
  sums = {"agreement": same(reference)}
  if labels is None:
    return sums
  sums["correct"] = same(labels)
  if positions:
    _, classes = labels_of(ann.shape[1:], quantities=False)
    answered = jax.nn.one_hot(found, classes, dtype=bool)
    labelled = jnp.broadcast_to(jax.nn.one_hot(labels, classes, dtype=bool), answered.shape)
    counted = [a.sum(axis=positions) for a in (answered & labelled, answered, labelled)]
    sums["counts"] = jnp.stack(counted, axis=-2)
  return sums


def quantity_sums(output: jax.Array, ann: jax.Array, labels: jax.Array | None) -> Sums:
  """Of quantities, the squares of each image.

  Args:
    output: of one network, [..., B, *shape]; axes in front are steps.
    ann: of the ANN, [B, *shape].
    labels: targets, [B, *shape], or None.

  Returns:
    Sums over the shape, [..., B]: `error`, squares of the distance from the ANN; `scale`, squares
    of the ANN's outputs; and where there are labels `target_error`, squares of the distance from
    them.
  """
  sums = distance_sums(output, ann)
  if labels is None:
    return sums
  return {**sums, "target_error": _squares(output - _like(output, labels), output, ann)}


def distance_sums(output: jax.Array, ann: jax.Array) -> Sums:
  """`error` and `scale` of `quantity_sums`."""
  apart = output - _like(output, ann)
  return {"error": _squares(apart, output, ann), "scale": _squares(ann, output, ann)}


def _like(output, wanted):
  return jnp.broadcast_to(wanted, output.shape)


def _squares(a, output, ann):
  """Sums of squares of each image, in the form of outputs [..., B, *shape]."""
  axes = tuple(range(output.ndim - ann.ndim + 1, output.ndim))
  return jnp.square(_like(output, a).astype(jnp.float32)).sum(axes)


def over_images(sums: Sums, mask: jax.Array, axis: int) -> Sums:
  """The sums over those images, along an axis, that a mask [B] lets through."""

  def total(a):
    return a.sum(axis=axis, where=jnp.expand_dims(mask, [i for i in range(a.ndim) if i != axis]))

  return jax.tree.map(total, sums)


def confusion_of(outputs: Sequence[Output]) -> Output | None:
  """The output whose classes can be confused: the only one of classes, one for each image."""
  found = [one for one in outputs if not one.quantities]
  if len(found) != 1 or found[0].labels[0] or found[0].labels[1] > _MOST_CONFUSED:
    return None
  return found[0]


def confusion(taken_for: jax.Array, labels: jax.Array, mask: jax.Array, classes: int) -> jax.Array:
  """How many images of each class are taken for each, [time steps reported, classes, classes].

  Args:
    taken_for: the classes that the spiking network answers with in each step, [T, B].
    labels: those that are right, [B].
    mask: which images count, [B].
    classes: how many there are.
  """
  steps = np.array(reported_time_steps(len(taken_for))) - 1
  found = jax.nn.one_hot(taken_for[steps], classes)
  right = jax.nn.one_hot(labels, classes) * mask[:, None]
  return jnp.einsum("bi,tbj->tij", right, found).astype(jnp.int32)


def reported_time_steps(time_steps: int) -> list[int]:
  """1, 2, 4, ... up to T, and T itself."""
  powers = [2**i for i in range(time_steps.bit_length()) if 2**i <= time_steps]
  return sorted({*powers, time_steps})


def class_figures(totals: dict[str, Any], answered: int, time_steps: int) -> dict[str, Any]:
  """The fields of an `Evaluation` that tell of classes.

  Args:
    totals: sums over all images of `ann`, `clipped` and `snn`, those with an axis [T] in front.
    answered: positions of all images together.
    time_steps: T.
  """
  nothing = {"ann": np.nan, "clipped": np.nan, "snn": np.full(time_steps, np.nan)}
  percent = lambda name: {
    network: 100 * sums[name] / answered if name in sums else nothing[network]
    for network, sums in totals.items()
  }
  correct = percent("correct")
  found = {
    "ann": float(correct["ann"]),
    "clipped": float(correct["clipped"]),
    "snn": correct["snn"],
    "agreement": percent("agreement")["snn"],
  }
  if "error" in totals["ann"]:
    found["error"] = error_figure(totals)
  if "counts" in totals["ann"]:
    found["mean_iou"] = {network: mean_iou(sums["counts"]) for network, sums in totals.items()}
  return found


def mean_iou(counts: np.ndarray) -> Any:
  """Mean intersection over union in percent, [...] of counts [..., 3, classes] by `class_sums`.

  Over the classes that a label or an answer names.
  """
  both, answered, labelled = np.moveaxis(counts, -2, 0)
  union = answered + labelled - both
  found = 100 * (both / np.maximum(union, 1)).sum(axis=-1) / (union > 0).sum(axis=-1)
  return found if found.ndim else float(found)


def quantity_figures(totals: dict[str, Any], numbers: int, time_steps: int) -> dict[str, Any]:
  """The fields of an `Evaluation` that tell of quantities; `numbers` are in all outputs together.

  The others as in `class_figures`.
  """
  nothing = np.full(time_steps, np.nan)
  found = {"ann": np.nan, "clipped": np.nan, "snn": nothing, "agreement": nothing}
  found["error"] = error_figure(totals)
  if "target_error" in totals["ann"]:
    found["target_error"] = {
      network: np.sqrt(sums["target_error"] / numbers)[()] for network, sums in totals.items()
    }
  return found


def error_figure(totals: dict[str, Any]) -> np.ndarray:
  """The spiking network's distance from the ANN as a share of the ANN's outputs, [T]."""
  with np.errstate(divide="ignore", invalid="ignore"):  # an ANN that answers nothing but zeros
    share = np.sqrt(totals["snn"]["error"] / totals["ann"]["scale"])
  return np.where(totals["snn"]["error"] > 0, share, 0.0)


def figures_of(
  outputs: Sequence[Output], scores: dict[str, Any], images: int, time_steps: int
) -> dict[str, Any]:
  """The fields of an `Evaluation` that tell of outputs.

  Args:
    outputs: of the network.
    scores: sums over all images of `ann`, `clipped` and `snn`, by the names of outputs.
    images: how many there are.
    time_steps: T.
  """
  by_output = {}
  for one in outputs:
    totals = {network: sums[one.name] for network, sums in scores.items()}
    numbers = images * math.prod(one.labels[0])
    figures = quantity_figures if one.quantities else class_figures
    by_output[one.name] = figures(totals, numbers, time_steps)
  if len(outputs) == 1:
    return by_output[outputs[0].name]

  def only(kind):
    """The figures of the output of a kind, where there is one alone."""
    found = [by_output[one.name] for one in outputs if one.kind == kind]
    return found[0] if len(found) == 1 else {}

  nothing = np.full(time_steps, np.nan)
  errors = np.stack([figures["error"] for figures in by_output.values()])
  return {
    **{"ann": np.nan, "clipped": np.nan, "snn": nothing, "agreement": nothing},
    **only(CLASSES),
    "target_error": only(QUANTITIES).get("target_error", {}),
    "error": np.sqrt(np.mean(np.square(errors), axis=0)),
    "by_output": {
      name: {figure: value for figure, value in figures.items() if is_measured(value)}
      for name, figures in by_output.items()
    },
  }


def is_measured(value: Any) -> bool:
  """Whether a figure is there: not None, nor empty, nor all of it NaN."""
  if isinstance(value, (float, np.ndarray)):
    return not np.isnan(value).all()
  return value is not None and value != {}
