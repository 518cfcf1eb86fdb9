"""Figures of a network as a whole: its answers by time, energy and labels, and its training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tcljax.evaluation.scores import reported_time_steps
from tcljax.reporting.drawing import (
  BLUE,
  COLORS,
  INK,
  MUTED,
  ORANGE,
  PAPER,
  VERMILLION,
  WIDTH,
  Drawn,
  clean,
  curve_style,
  label,
  new_figure,
  time_axis,
)

_WIDE = 7.2  # inches
MOST_CLASSES = 20  # of a confusion matrix that is a picture


def accuracy(
  curves: Mapping[str, Mapping[int, float]], lines: Mapping[str, float], what: str = "accuracy"
) -> Drawn:
  """Accuracy against T.

  Args:
    curves: percent by time step, by name; the last is the network that is reported.
    lines: percent of what knows no time, the ANN first.
    what: the words for it.
  """
  figure = new_figure(3.3)
  axes = figure.add_subplot()
  for (name, percent), color, style in zip(lines.items(), (INK, MUTED), ("--", ":")):
    axes.axhline(percent, color=color, linestyle=style, linewidth=1.4, label=name)
  *_, last = curves
  for n, (name, curve) in enumerate(curves.items()):
    shown = [k for k, t in enumerate(curve) if t in reported_time_steps(max(curve))]
    style = curve_style(len(curves) - 1 - n)
    axes.plot([*curve], [*curve.values()], label=name, markevery=shown, markersize=4, **style)
  time_axis(axes, reported_time_steps(max(max(curve) for curve in curves.values())))
  axes.set_ylabel(f"{what} (%)")
  figure.legend(loc="outside lower center", ncols=2)
  data = {"time_steps": {name: dict(curve) for name, curve in curves.items()}, "lines": dict(lines)}
  best = ", ".join(f"{name} {percent:.2f} %" for name, percent in lines.items())
  end = f"{curves[last][max(curves[last])]:.2f} % after {max(curves[last])} steps"
  return Drawn("accuracy", figure, data, f"Curves of {what} against time steps: {end}; {best}.")


def error(curves: Mapping[str, np.ndarray]) -> Drawn:
  """The distance from the ANN's outputs against T, in percent of these; a curve an output."""
  figure = new_figure(3.3)
  axes = figure.add_subplot()
  steps = np.arange(1, len(next(iter(curves.values()))) + 1)
  for n, (name, values) in enumerate(curves.items()):
    color, style = COLORS[n % len(COLORS)], "-" if n < len(COLORS) else ":"
    axes.plot(steps, 100 * np.asarray(values), style, color=color, label=label(name))
  time_axis(axes, reported_time_steps(len(steps)))
  axes.set_ylabel("distance from the ANN (%)")
  axes.set_ylim(bottom=0)
  if len(curves) > 1:
    figure.legend(loc="outside lower center", ncols=2)
  data = {name: np.asarray(values).tolist() for name, values in curves.items()}
  ends = ", ".join(f"{clean(name)} {100 * values[-1]:.2f} %" for name, values in curves.items())
  return Drawn(
    "error", figure, data, f"Distance from the ANN against time steps; at the end: {ends}."
  )


def energy(percent: np.ndarray, ann: float, energies: Mapping[str, Mapping[str, Any]]) -> Drawn:
  """Accuracy against energy, a panel for each model of energy.

  Args:
    percent: accuracy after each step, [T].
    ann: that of the ANN.
    energies: by model, microjoules of `snn`, [T], `ann` and `ann_int8`.
  """
  figure = new_figure(3.4)
  panels = figure.subplots(1, len(energies), sharey=True, squeeze=False)[0]
  decades = lambda value, place: f"{value:g}"  # no mathematics, which text is not read as
  times = reported_time_steps(len(percent))
  for axes, (model, found) in zip(panels, energies.items()):
    snn = np.asarray(found["snn"])
    axes.plot(snn, percent, color=BLUE, label="SNN, step by step")
    at = [t - 1 for t in times]
    axes.plot(snn[at], percent[at], "o", color=BLUE, markersize=4)
    axes.plot(found["ann"], ann, "D", color=VERMILLION, label="ANN")
    axes.plot(found["ann_int8"], ann, "s", color=ORANGE, markeredgecolor=INK, label="ANN, 8 bits")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(decades)
    axes.minorticks_off()
    axes.set(title=_ENERGY_MODELS.get(model, model), xlabel="µJ an image")
  panels[0].set_ylabel("accuracy (%)")
  figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
  plain = lambda value: value.tolist() if isinstance(value, np.ndarray) else float(value)
  data = {
    "accuracy": percent.tolist(),
    "accuracy_of_the_ann": ann,
    "microjoules": {model: {k: plain(v) for k, v in of.items()} for model, of in energies.items()},
  }
  said = "; ".join(
    f"{_ENERGY_MODELS.get(model, model)}: SNN {found['snn'][-1]:.3g}, ANN {found['ann']:.3g}, "
    f"of 8 bits {found['ann_int8']:.3g}"
    for model, found in energies.items()
  )
  return Drawn("energy", figure, data, f"Accuracy against microjoules for an image. {said}.")


_ENERGY_MODELS = {"arithmetic": "arithmetic alone", "memory": "with memory"}


def confusion(counts: np.ndarray, names: Sequence[str]) -> Drawn:
  """How often each class (rows) was taken for each (columns), as a picture with numbers."""
  classes = len(counts)
  wide = classes > 10
  side = _WIDE if wide else WIDTH
  figure = new_figure(0.95 * side, side)
  axes = figure.add_subplot()
  shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
  size = 8 if classes <= 12 else 6.5
  for i in range(classes):
    for j in range(classes):
      share, color = shares[i, j], BLUE if i == j else VERMILLION
      if counts[i, j]:
        depth = 0.2 + 0.8 * share
        axes.fill_between(
          [j - 0.5, j + 0.5], i - 0.5, i + 0.5, color=color, alpha=depth, linewidth=0
        )
        ink = PAPER if depth > 0.55 else INK
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=ink, fontsize=size)
  short = [label(name, 12) for name in names]
  axes.set_xticks(range(classes), short, rotation=0 if max(map(len, short)) < 3 else 90)
  axes.set_yticks(range(classes), short)
  axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5))
  axes.set(xlabel="answer of the spiking network", ylabel="label")
  axes.grid(False)
  right = 100 * np.trace(counts) / max(1, counts.sum())
  data = {"classes": [*names], "counts": counts.tolist()}
  alt = (
    f"Confusion matrix of {classes} classes: {right:.2f} % of {counts.sum()} images lie on its "
    "diagonal."
  )
  return Drawn("confusion", figure, data, alt, wide)


def confusions(counts: np.ndarray, most: int = 20) -> list[tuple[int, int, int]]:
  """The most frequent confusions: class, answer, and how often."""
  wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
  order = np.argsort(-wrong, axis=None, kind="stable")[:most]
  places = [divmod(int(k), len(counts)) for k in order]
  return [(i, j, int(wrong[i, j])) for i, j in places if wrong[i, j]]


def learning(records: Sequence[Mapping[str, Any]]) -> Drawn:
  """Loss and accuracy of each phase of training against its steps.

  Args:
    records: lines of metrics.jsonl: `phase`, `step`, `loss`, `accuracy`.
  """
  phases: dict[str, list[Mapping[str, Any]]] = {}
  for record in records:
    phases.setdefault(str(record["phase"]), []).append(record)
  figure = new_figure(0.6 + 1.6 * len(phases))
  rows = figure.subplots(len(phases), 2, squeeze=False)
  for row, (phase, found) in zip(rows, phases.items()):
    steps = [record["step"] for record in found]
    for axes, key, unit, color in zip(row, ("loss", "accuracy"), ("", " (%)"), (VERMILLION, BLUE)):
      values = [record.get(key, np.nan) for record in found]
      axes.plot(steps, values, color=color, marker="o" if len(steps) < 12 else "", markersize=3)
      axes.set_title(f"{label(phase)}: {key}{unit}")
      axes.locator_params(axis="x", nbins=4)
      if key == "accuracy":  # of which there is no more, where a flat curve would have room for it
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high, 100 + 0.05 * (100 - low)))
  for axes in rows[-1]:
    axes.set_xlabel("optimizer step")
  data = {phase: [dict(record) for record in found] for phase, found in phases.items()}
  ends = "; ".join(
    f"{clean(p)}: {found[-1].get('loss', np.nan):.4g}" for p, found in phases.items()
  )
  return Drawn(
    "learning", figure, data, f"Loss and accuracy against optimizer steps; last loss of {ends}."
  )
