"""Costs as text that can be read without the manual."""

from typing import TYPE_CHECKING

from tcljax.columns import table
from tcljax.evaluation.accuracy import reported_time_steps
from tcljax.evaluation.energy import ENERGY_MODELS

if TYPE_CHECKING:
  from tcljax.evaluation.cost_figures import Costs

_ANNS = {
  "ann": "ANN",
  "ann_without_zeros": "ANN, no zeros",
  "ann_int8": "ANN, 8 bits",
  "ann_int8_without_zeros": "ANN, 8 bits, no zeros",
}
_WORDS = (
  "synaptic ops  spikes times connections whose weight is not 0, an addition each\n"
  "MACs          numbers that are no spikes, as pixels, times such weights; kept if they stay\n"
  "updates       of the potential of each neuron, one a step\n"
  "accesses      numbers read or written; 'µJ' takes them for free, 'µJ with memory' takes each\n"
  "              from a memory of 32 KiB\n"
  "no zeros      on hardware that leaves out weights and numbers that are 0\n"
  "Energies are estimates for 45 nm (Horowitz, 2014), in 32 bits but where 8 bits are named."
)


def told(costs: "Costs") -> str:
  """Lines of text: each layer after T steps, the totals after 1, 2, 4, ... steps, and the ANN."""
  silent, zeros = 100 * costs.activation_sparsity, 100 * costs.connection_sparsity
  return (
    f"mean of {costs.images} images; {costs.footprint} bytes; of the weights {zeros:.1f} % are 0, "
    f"of the neurons in a step {silent:.1f} % are silent\n{_by_layer(costs)}\n\n"
    f"{_totals(costs)}\n\n{_shares(costs)}\n{_ratios(costs)}\n\n{_WORDS}"
  )


def _by_layer(costs: "Costs") -> str:
  layers = costs.layers
  return table(
    [
      ("layer", list(layers), "{}"),
      ("into", [", ".join(one.into) for one in layers.values()], "{}"),
      ("connections", [one.connections for one in layers.values()], "{:.0f}"),
      ("nonzero", [one.nonzero for one in layers.values()], "{:.0f}"),
      ("synaptic ops", [one.synaptic_operations.sum() for one in layers.values()], "{:.0f}"),
      ("MACs", [one.macs.sum() for one in layers.values()], "{:.0f}"),
      ("MACs, ANN, no zeros", [one.ann_macs for one in layers.values()], "{:.0f}"),
    ]
  )


def _totals(costs: "Costs") -> str:
  time_steps, work = reported_time_steps(costs.time_steps), costs.work
  plain, memory = costs.energy("arithmetic"), costs.energy("memory")
  at = lambda values: [values[t - 1] for t in time_steps]
  anns = [costs.ann_work(), costs.ann_work(without_zeros=True)] * 2
  return table(
    [
      ("T", [*time_steps, *_ANNS.values()], "{}"),
      ("synaptic ops", [*at(work.accumulates), *[ann.accumulates for ann in anns]], "{:.0f}"),
      ("MACs", [*at(work.macs), *[ann.macs for ann in anns]], "{:.0f}"),
      ("updates", [*at(work.updates), *[ann.updates for ann in anns]], "{:.0f}"),
      ("biases", [*at(work.biases), *[ann.biases for ann in anns]], "{:.0f}"),
      ("accesses", [*at(work.accesses), *[ann.accesses for ann in anns]], "{:.0f}"),
      ("µJ", [*at(plain["snn"]), *[plain[way] for way in _ANNS]], "{:.4g}"),
      ("µJ with memory", [*at(memory["snn"]), *[memory[way] for way in _ANNS]], "{:.4g}"),
    ]
  )


def _shares(costs: "Costs") -> str:
  """What the spiking network's energy goes into, without memory."""
  prices, work = ENERGY_MODELS["arithmetic"].float32, costs.work
  parts = {
    "synaptic operations": prices.addition * work.accumulates[-1],
    "MACs": prices.mac * work.macs[-1],
    "membrane updates": prices.addition * work.updates[-1],
    "biases": prices.addition * work.biases[-1],
  }
  multiplying = [name for name, layer in costs.layers.items() if layer.macs.any()]
  where = f" (of numbers that come to {', '.join(multiplying)})" if multiplying else ""
  whole = sum(parts.values())
  shares = (
    f"{100 * part / max(whole, 1e-30):.1f} % {name}{where if name == 'MACs' else ''}"
    for name, part in parts.items()
  )
  energy = costs.energy()["snn"][-1]
  return f"of the {energy:.4g} µJ after {costs.time_steps} steps are\n  {', '.join(shares)};"


def _ratios(costs: "Costs") -> str:
  plain, memory = costs.energy("arithmetic"), costs.energy("memory")
  times = lambda of, ann: f"{of['snn'][-1] / max(of[ann], 1e-30):.3g}"
  return (
    f"that is {times(plain, 'ann')} times the energy of its ANN, and {times(plain, 'ann_int8')} "
    f"times that of the ANN of 8 bits; with memory {times(memory, 'ann')} and "
    f"{times(memory, 'ann_int8')} times"
  )
