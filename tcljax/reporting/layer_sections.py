"""The sections of a report that tell of each layer: its error, its rates, its costs."""

import dataclasses

import numpy as np

from tcljax.evaluation.energy import energy_model
from tcljax.reporting import layer_figures, page, verdicts
from tcljax.reporting.findings import Findings
from tcljax.reporting.page import Draw, LeftOut, Section


def error(found: Findings, draw: Draw) -> Section:
  """Where the error comes from."""
  if found.network is None or found.portrait is None:
    raise LeftOut(found.unconverted)
  if not found.portrait.diagnosis:
    raise LeftOut("Poisson input has no error of its layers alone, as it is random itself")
  losses = verdicts.losses(found.portrait.diagnosis)
  if not losses:
    raise LeftOut("no layer adds any error")
  says = (
    "The layers that stand first lose most: mend these. What a layer has inherited from those "
    f"before it is not counted again. Measured at T = {found.portrait.time_steps} on "
    f"{found.portrait.images} images."
  )
  worst = verdicts.worst_in_words(losses, found.network.spiking.encoding)
  parts = [page.items(worst), draw(layer_figures.split(losses))]
  return Section("error", "Where the error comes from", says, parts)


def layers(found: Findings, draw: Draw) -> Section:
  """Rates, activations and thresholds of the layers."""
  says = (
    "Thresholds far below the others cut activations off; rates near 0 are neurons that hardly "
    "ever fire."
  )
  parts, rates = [], None
  if found.portrait is not None:
    says = (
      "On the dashed line a layer's spikes say what the ANN's activations say; a band far below it "
      "are spikes that are missing. " + says
    )
    rates = found.portrait.neuron_rates
    parts.append(draw(layer_figures.rates_against_activations(found.portrait)))
  parts.append(draw(layer_figures.distributions(found.thresholds, rates)))
  mean = found.evaluation.firing_rates
  rows = [
    (
      name,
      f"{np.min(tau):.4g}",
      f"{np.mean(tau):.4g}",
      f"{np.max(tau):.4g}",
      f"{mean[name]:.4f}" if name in mean else "",
    )
    for name, tau in found.thresholds.items()
  ]
  titles = ("layer", "least threshold", "mean", "largest", "mean firing rate")
  held = page.table(
    titles, rows, f"Thresholds, and firing rates over {len(found.evaluation.snn)} steps"
  )
  return Section(
    "layers",
    "Rates, activations and thresholds by layer",
    says,
    [page.side_by_side(parts), page.details("As a table", held)],
  )


def costs(found: Findings, draw: Draw) -> Section:
  """Operations and energy."""
  if found.costs is None:
    raise LeftOut(found.unconverted)
  whole, at = found.costs, min(found.time_steps, found.costs.time_steps)
  by_layer, rows = {}, []
  # The costs of one layer are those of a network that has it alone.
  alone = {
    name: dataclasses.replace(whole, layers={name: layer}, neurons={}, spikes={})
    for name, layer in whole.layers.items()
  }
  alone["neurons (updates, spikes)"] = dataclasses.replace(whole, layers={})
  for name, of in [*alone.items(), ("all", whole)]:
    plain, memory = of.energy("arithmetic"), of.energy("memory")
    numbers = {
      "synaptic_operations": float(of.synaptic_operations[at - 1]),
      "macs": float(of.macs[at - 1]),
      "ann_macs": float(of.ann_work().macs),
      "microjoules": float(plain["snn"][at - 1]),
      "microjoules_with_memory": float(memory["snn"][at - 1]),
    }
    if name in whole.layers:
      by_layer[name] = numbers
    energies = [plain["snn"][at - 1], plain["ann"], plain["ann_int8"]]
    energies += [memory["snn"][at - 1], memory["ann"], memory["ann_int8"]]
    counted = [numbers[key] for key in ("synaptic_operations", "macs", "ann_macs")]
    rows.append((name, *[f"{n:,.0f}" for n in counted], *map(_short, energies)))
  says = (
    "A synaptic operation is one addition for one spike; it costs less than a multiplication of "
    "the ANN. The layers with the longest bars are those to make sparser. Means over "
    f"{whole.images} images."
  )
  kinds = ("SNN µJ", "ANN µJ", "8-bit ANN µJ")
  titles = ("layer", "synaptic operations", "SNN MACs", "ANN MACs", *kinds)
  titles = (*titles, *[f"{kind}, with memory" for kind in kinds])
  held = page.table(titles, rows, f"For an image, after {verdicts.steps(at)}")
  *_, last = rows
  totals = [
    (name, last[4 + k], last[7 + k])
    for k, name in enumerate((f"SNN, T = {at}", "ANN", "ANN of 8 bits"))
  ]
  sums = page.table(("µJ for an image", "arithmetic alone", "with memory"), totals, "Energy")
  source = energy_model("memory").source
  sources = f"Energies are estimates, no measurement of a chip. Their source: {source}."
  drawn = draw(layer_figures.costs(by_layer, at))
  beside = page.side_by_side([drawn, f"<div>{sums}{page.paragraph(sources)}</div>"])
  in_full = page.details("By layer, as a table", held)
  return Section("costs", "Costs by layer", says, [beside, in_full])


def _short(number: float) -> str:
  """A number of three digits."""
  return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
