"""The results of a run: a table for the terminal, results.json and a picture."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from tcljax.columns import table
from tcljax.evaluation.accuracy import Evaluation, reported_time_steps
from tcljax.evaluation.diagnosis import Diagnosis
from tcljax.files import write_text, written_beside
from tcljax.reporting.drawing import DPI, INK, curve_style, new_figure, styled, time_axis

MEAN_THRESHOLD = "mean threshold (% of the largest activation)"


def summary(evaluation: Evaluation) -> dict[str, Any]:
  """The keys that train.py and convert.py share; accuracies in percent, maps from T."""
  time_steps = reported_time_steps(len(evaluation.snn))

  def at(values):
    return {str(t): round(float(values[t - 1]), 4) for t in time_steps}

  return {
    "images": evaluation.images,
    "ann": round(evaluation.ann, 4),
    "clipped": round(evaluation.clipped, 4),
    "snn": at(evaluation.snn),
    "agreement": at(evaluation.agreement),
    "spikes_per_neuron": at(evaluation.spikes_per_neuron),
    "firing_rates": {name: round(rate, 6) for name, rate in evaluation.firing_rates.items()},
  }


def threshold_summary(thresholds: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
  """For each activation its mean threshold after each stage, from those by stage and activation."""
  activations = next(iter(thresholds.values()))
  return {
    name: {stage: round(float(found[name].mean()), 6) for stage, found in thresholds.items()}
    for name in activations
  }


def accuracy_table(results: dict[str, Any]) -> str:
  """Accuracy, spikes and agreement at each T as text."""
  columns = [("T", list(results["snn"]), "{}")]
  columns += [
    (f"{name} %", list(curve.values()), "{:.2f}") for name, curve in _stages(results).items()
  ]
  columns += [
    ("agrees with ANN %", list(results["agreement"].values()), "{:.2f}"),
    ("spikes/neuron", list(results["spikes_per_neuron"].values()), "{:.3f}"),
  ]
  if costs := results.get("costs"):
    columns += [
      ("synaptic ops", list(costs["synaptic_operations"].values()), "{:.0f}"),
      ("MACs", list(costs["macs"].values()), "{:.0f}"),
      ("µJ", list(costs["energy_arithmetic"]["snn"].values()), "{:.4g}"),
      ("µJ with memory", list(costs["energy_memory"]["snn"].values()), "{:.4g}"),
    ]
  lines = [
    f"ANN {results['ann']:.2f} %, clipped ANN {results['clipped']:.2f} %, "
    f"on {results['images']} test images",
    table(columns),
  ]
  return "\n".join(lines)


def energy_lines(costs: dict[str, Any]) -> str:
  """The energy of the ANN, of 32 bits and of 8, from what `Costs.summary` holds."""
  plain, memory = costs["energy_arithmetic"], costs["energy_memory"]
  last = list(plain["snn"])[-1]
  times = lambda of, name: f"{of['snn'][last] / max(of[name], 1e-30):.3g}"
  return "\n".join(
    f"{title}: {plain[name]:.4g} µJ for an image, {memory[name]:.4g} with memory; the spiking "
    f"network takes {times(plain, name)} and {times(memory, name)} times as much at T = {last}"
    for title, name in (("ANN", "ann"), ("ANN of 8 bits", "ann_int8"))
  )


def _stages(results: dict[str, Any]) -> dict[str, dict[str, float]]:
  """The spiking network's accuracies by T after each stage, by what the stage is called."""
  if "stage" not in results:
    return {"SNN": results["snn"]}
  curves = {**results["earlier_stages"], results["stage"]: results["snn"]}
  return {f"SNN, {stage}": curve for stage, curve in curves.items()}


def threshold_table(results: dict[str, Any]) -> str:
  """Thresholds after each stage as text."""
  rows = results["thresholds"]
  stages = next(iter(rows.values()))
  return table(
    [
      ("activation", list(rows), "{}"),
      *(
        (f"threshold, {stage}", [row[stage] for row in rows.values()], "{:.4f}") for stage in stages
      ),
      ("firing rate", [results["firing_rates"][name] for name in rows], "{:.4f}"),
    ]
  )


def write_results(directory: pathlib.Path, results: dict[str, Any], title: str) -> None:
  """Writes results.json and accuracy.png, accuracy against T."""
  write_text(directory / "results.json", json.dumps(results, indent=2) + "\n")
  plot_accuracy(directory / "accuracy.png", results, title)


def plot_accuracy(path: pathlib.Path, results: dict[str, Any], title: str) -> None:
  """Draws accuracy against T: the spiking network after each stage, below its ANN."""
  plot_curves(
    path,
    {
      label: {int(t): accuracy for t, accuracy in curve.items()}
      for label, curve in _stages(results).items()
    },
    title,
    ann=results["ann"],
  )


def plot_curves(
  path: pathlib.Path,
  curves: dict[str, dict[int, float]],
  title: str,
  what: str = "test accuracy (%)",
  ann: float | None = None,
) -> None:
  """Draws curves of a figure against T, the last one on top.

  Args:
    path: of the picture, a PNG.
    curves: the figure by T, by what a curve is called.
    title: of the picture.
    what: the figure, in words.
    ann: the same of the ANN, a line; None for none.
  """
  with styled():
    figure = new_figure(4, 6.4)
    axes = figure.add_subplot()
    if ann is not None:
      axes.axhline(ann, color=INK, linestyle="--", linewidth=1.4, label=f"ANN ({ann:.2f} %)")
    for n, (label, curve) in enumerate(curves.items()):
      style = curve_style(len(curves) - 1 - n)
      axes.plot(list(curve), list(curve.values()), label=label, markersize=5, **style)
    time_axis(axes, sorted({t for curve in curves.values() for t in curve}))
    axes.set(ylabel=what, title=title)
    figure.legend(loc="outside lower center", ncols=2)  # hides no point
    with written_beside(path) as beside:
      figure.savefig(beside, format="png", dpi=DPI)


def diagnosis_table(found: dict[str, Diagnosis]) -> str:
  """One line an activation: its errors in percent of the ANN's activation, dead and saturated."""
  fields = [field.name for field in dataclasses.fields(Diagnosis)]
  return table(
    [("activation", list(found), "{}")]
    + [
      (f"{field} %", [100 * getattr(one, field) for one in found.values()], "{:.1f}")
      for field in fields
    ]
  )


def left_out(delays: dict[str, dict[int, float]]) -> str:
  """How many steps at the start answers leave out, of each curve that has a number; else empty."""
  alike: dict[str, list[str]] = {}
  for name, curve in delays.items():
    at = {delay: [t for t in sorted(curve) if curve[t] == delay] for delay in curve.values()}
    parts = [f"{delay} at T = {', '.join(map(str, steps))}" for delay, steps in at.items()]
    alike.setdefault(" and ".join(parts), []).append(name)
  told = [f"{', '.join(names)}: {delays}" for delays, names in alike.items()]
  return f"Steps at the start that answers leave out, of {'; of '.join(told)}." if told else ""


def curve_table(curves: dict[str, dict[int, float]]) -> str:
  """Figures in percent as text: a line for each curve, a column for each T."""
  time_steps = sorted({t for curve in curves.values() for t in curve})
  return table(
    [("method", list(curves), "{}")]
    + [
      (f"T={t}", [f"{curve[t]:.2f}" if t in curve else "" for curve in curves.values()], "{}")
      for t in time_steps
    ]
  )
