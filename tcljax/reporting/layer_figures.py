"""Figures of a network by its layers: errors, rates, thresholds, costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.evaluation.portrait import Portrait
from tcljax.reporting.drawing import (
  BLUE,
  GREEN,
  INK,
  MUTED,
  ORANGE,
  PINK,
  SKY,
  VERMILLION,
  Drawn,
  label,
  new_figure,
)
from tcljax.reporting.verdicts import CAUSES, Loss

MOST_LAYERS, _MOST_PANELS = 60, 18
_COLUMNS = 3
_BINS = 12
_SEEN = 0.05  # percent; less is no bar
_LIMIT = 1.6  # activations shown, as multiples of the threshold
_CAUSE_COLORS = dict(zip(CAUSES, (PINK, VERMILLION, BLUE, ORANGE)))


def split(found: Sequence[Loss]) -> Drawn:
  """What each layer adds to the error, by causes; of many layers those that add most."""
  shown = sorted(found, key=lambda loss: -loss.share)[:MOST_LAYERS]
  shown = [loss for loss in found if loss in shown]
  figure, axes = _rows([loss.layer for loss in shown], 0.9)
  left = np.zeros(len(shown))
  for cause in CAUSES:
    values = np.array([loss.parts[cause] for loss in shown])
    if values.max() > _SEEN:
      axes.barh(range(len(shown)), values, left=left, color=_CAUSE_COLORS[cause], label=cause)
    left += values
  axes.set_xlabel("share of the error that layers add (%)")
  figure.legend(loc="outside lower center", ncols=3)
  worst = max(found, key=lambda loss: loss.share)
  data = [{"layer": loss.layer, "share": loss.share, "parts": loss.parts} for loss in found]
  alt = (
    f"Bars of the error that each layer adds, by cause: {worst.layer} adds most, "
    f"{worst.share:.0f} %."
  )
  return Drawn("error_by_layer", figure, data, alt)


def rates_against_activations(portrait: Portrait) -> Drawn:
  """A panel a layer: the firing rate over the ANN's activation, its middle and where most are."""
  names = _some([*portrait.activations], _MOST_PANELS)
  rows = -(-len(names) // _COLUMNS)
  # Fixed, as a layout of so many panels would take seconds.
  height = 0.75 + 1.25 * rows
  figure = new_figure(height, layout=None)
  figure.subplots_adjust(0.105, 0.55 / height, 0.985, 1 - 0.28 / height, 0.12, 0.42)
  panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
  edges, data = np.linspace(0, _LIMIT, _BINS + 1), {}
  for axes, name in zip(panels, names):
    middle, low, half, high = _bands(portrait.activations[name], portrait.rates[name], edges)
    axes.plot([0, 1, _LIMIT], [0, 1, 1], "--", color=MUTED, linewidth=1)
    axes.fill_between(middle, low, high, color=SKY, alpha=0.45, linewidth=0)
    axes.plot(middle, half, color=BLUE, marker="o", markersize=2.5, linewidth=1.3)
    axes.set_title(label(name, 20), fontsize=8, pad=3)
    axes.set(xlim=(0, _LIMIT), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.tick_params(labelsize=8)
    columns = {"activation": middle, "rate_10": low, "rate_50": half, "rate_90": high}
    data[name] = {key: column.tolist() for key, column in columns.items()}
  for axes in panels[len(names) :]:
    axes.set_visible(False)
  for axes in panels[max(0, len(names) - _COLUMNS) : len(names)]:
    axes.tick_params(labelbottom=True)
  figure.supxlabel("activation of the ANN / threshold", fontsize=9, y=0.06 / height)
  figure.supylabel("firing rate (share of the most spikes)", fontsize=9, x=0.0)
  alt = (
    f"Firing rate against the ANN's activation in {len(names)} layers; a faithful layer lies on "
    "the dashed line, which rises to 1 at the threshold."
  )
  return Drawn("rates", figure, data, alt)


def _bands(activations, rates, edges):
  """Of each bin of activations that has neurons: their mean, and 10, 50 and 90 % of the rates."""
  kept = activations > 0
  activations, rates = activations[kept], rates[kept]
  place = np.digitize(activations, edges) - 1
  bins = [k for k in range(len(edges) - 1) if (place == k).sum() >= 3]
  found = [
    (activations[place == k].mean(), *np.percentile(rates[place == k], (10, 50, 90))) for k in bins
  ]
  return np.array(found).reshape(-1, 4).T


def distributions(
  thresholds: Mapping[str, np.ndarray], rates: Mapping[str, np.ndarray] | None
) -> Drawn:
  """Of each layer where its thresholds and the firing rates of its neurons lie.

  Args:
    thresholds: of each channel, or of the layer.
    rates: mean firing rate of each neuron.
  """
  names = _some([*thresholds], MOST_LAYERS)
  kinds = [("thresholds (units of the activation)", thresholds, VERMILLION)]
  if rates is not None:
    kinds.append(("firing rates (share of the most spikes)", rates, BLUE))
  figure = new_figure(1.0 + 0.2 * len(names))
  panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
  data = {}
  for axes, (title, values, color) in zip(panels, kinds):
    for row, name in enumerate(names):
      low, p10, half, p90, high = np.percentile(np.ravel(values[name]), (0, 10, 50, 90, 100))
      axes.plot([low, high], [row, row], color=MUTED, linewidth=1)
      axes.plot([p10, p90], [row, row], color=color, linewidth=5, alpha=0.55, solid_capstyle="butt")
      axes.plot(half, row, "o", color=color, markeredgecolor=INK, markersize=4)
      data.setdefault(name, {})[title.split(" (")[0]] = [low, p10, half, p90, high]
    axes.set_xlabel(title.replace(" (", "\n("))
    axes.set_xlim(left=0)
  _name_rows(panels[0], names)
  alt = "Of each layer the range of its thresholds" + (" and firing rates" if rates else "")
  return Drawn("distributions", figure, data, f"{alt}: all, the middle 80 %, and the median.")


def costs(layers: Mapping[str, Mapping[str, float]], time_steps: int) -> Drawn:
  """Operations of each layer for an image: the SNN's, and beside them those of the ANN.

  Args:
    layers: by layer `synaptic_operations` and `macs` of the SNN, and `ann_macs`; what else there
      is stands in the file of numbers.
    time_steps: after which they were counted.
  """
  size = lambda name: layers[name]["synaptic_operations"] + layers[name]["ann_macs"]
  names = sorted(layers, key=lambda name: -size(name))[:MOST_LAYERS]
  names = [name for name in layers if name in names]
  figure, axes = _rows(names, 0.9)
  rows = np.arange(len(names))
  column = lambda key: np.array([layers[name][key] for name in names])
  spikes, numbers = column("synaptic_operations"), column("macs")
  axes.barh(
    rows - 0.2, spikes, 0.38, color=BLUE, label=f"SNN, synaptic operations, T = {time_steps}"
  )
  axes.barh(rows - 0.2, numbers, 0.38, left=spikes, color=GREEN, label="SNN, multiplications")
  axes.barh(rows + 0.2, column("ann_macs"), 0.38, color=VERMILLION, label="ANN, multiplications")
  axes.set_xlabel("operations for an image")
  axes.xaxis.set_major_formatter(lambda value, place: _short(value))
  axes.locator_params(axis="x", nbins=6)
  figure.legend(loc="outside lower center", ncols=1)
  total = spikes.sum()
  alt = f"Bars of the operations of each layer: {total:.4g} synaptic operations in all of them."
  return Drawn("costs", figure, {"time_steps": time_steps, "layers": dict(layers)}, alt)


def _short(number: float) -> str:
  """A number with a letter for its thousands, "1.2 M"."""
  for letter, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
    if abs(number) >= size:
      return f"{number / size:g} {letter}"
  return f"{number:g}"


def _rows(names: Sequence[str], extra: float) -> tuple[Any, Any]:
  """A figure with a row for each layer, the first on top."""
  figure = new_figure(extra + 0.5 + 0.22 * len(names))
  axes = figure.add_subplot()
  _name_rows(axes, names)
  return figure, axes


def _name_rows(axes: Any, names: Sequence[str]) -> None:
  axes.set_yticks(range(len(names)), [label(name, 18) for name in names], fontsize=8)
  axes.set_ylim(len(names) - 0.4, -0.6)
  axes.grid(False, axis="y")


def _some(names: list[str], most: int) -> list[str]:
  """At most so many, from the first to the last at even distances."""
  if len(names) <= most:
    return names
  return [names[k] for k in np.linspace(0, len(names) - 1, most).round().astype(int)]
