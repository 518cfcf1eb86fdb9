"""What a spiking network costs: operations, memory and energy, beside its ANN."""

import dataclasses
from typing import Any

import numpy as np

from tcljax.evaluation import cost_table
from tcljax.evaluation.accuracy import reported_time_steps
from tcljax.evaluation.energy import EnergyModel, Work, energy_model


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCosts:
  """What one layer does for one image, on average; arrays [T] hold each step by itself.

  A layer is a convolution or a product with weights; or a place where spikes come to neurons, or to
  the output, without weights, as by the shortcut of a residual block.

  Attributes:
    operation: of the graph: "conv", "dense", or of a place without weights the last one on the way.
    into: what reads it: populations of neurons, other layers, "output".
    weighted: whether it has weights.
    connections: how many there are, weights of 0 included; nothing arrives from a border.
    nonzero: how many of these have a weight that is not 0.
    outputs: how many numbers it gives.
    once: whether it is computed in the first step alone, as its input is constant.
    synaptic_operations: spikes that arrive, one for each connection whose weight is not 0.
    macs: numbers other than spikes that arrive and are not 0, one for each such connection.
    biases: additions of a bias that is not 0.
    ann_macs: of the ANN, as `macs`.
    ann_additions: of the ANN, numbers that are not 0 and arrive without a weight.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> network = tcljax.convert(model, model.init(jax.random.key(1), images), (4, 4, 1))
    >>> first, last = tcljax.costs(network, images).layers.values()
    >>> first.connections, first.once, last.into  # 3x3 on 4x4 pixels: 100 connections a channel
    (400, True, ('output',))
  """

  operation: str
  into: tuple[str, ...]
  weighted: bool
  connections: int
  nonzero: int
  outputs: int
  once: bool
  synaptic_operations: np.ndarray
  macs: np.ndarray
  biases: np.ndarray
  ann_macs: float
  ann_additions: float


@dataclasses.dataclass(frozen=True, eq=False)
class Costs:
  """What a spiking network does for one image, on average, and what its ANN does.

  Attributes:
    images: how many were looked at.
    time_steps: T.
    layers: the costs of each layer, by the name of its node in the graph, in their order.
    neurons: how many each population has.
    spikes: of each population, the spikes fired in each step, [T].
    active: of each population, the neurons that fired in each step, [T]; as many as spikes, unless
      they come in bursts.
    footprint: bytes of weights, thresholds and initial potentials.
    connection_sparsity: share of the weights that are 0.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> network = tcljax.convert(model, model.init(jax.random.key(1), images), (4, 4, 1))
    >>> found = tcljax.costs(network, images, time_steps=4)
    >>> found.work.updates.tolist()  # 64 neurons, each in each step
    [64.0, 128.0, 192.0, 256.0]
    >>> energy = found.energy()  # microjoules for an image
    >>> list(energy), energy["snn"].shape
    (['snn', 'ann', 'ann_without_zeros', 'ann_int8', 'ann_int8_without_zeros'], (4,))
  """

  images: int
  time_steps: int
  layers: dict[str, LayerCosts]
  neurons: dict[str, int]
  spikes: dict[str, np.ndarray]
  active: dict[str, np.ndarray]
  footprint: int
  connection_sparsity: float

  @property
  def activation_sparsity(self) -> float:
    """Share of all neurons, steps and images without a spike."""
    active = sum(neurons.sum() for neurons in self.active.values())
    return float(1 - active / (sum(self.neurons.values()) * self.time_steps))

  @property
  def synaptic_operations(self) -> np.ndarray:
    """Spikes that have arrived after each number of steps, one for each connection, [T]."""
    return _sum([layer.synaptic_operations for layer in self.layers.values()], self.time_steps)

  @property
  def macs(self) -> np.ndarray:
    """Multiply-accumulates after each number of steps, [T]: of what is no spike."""
    return _sum([layer.macs for layer in self.layers.values()], self.time_steps)

  @property
  def work(self) -> Work:
    """All that is done, after each number of steps, [T].

    Accesses to memory, if nothing that was read is kept for a second use: of a synaptic operation
    the weight, and the potential read and written; of a multiply-accumulate the weight and the
    number; of a layer of numbers each output written, and read in each later step if the layer is
    computed once; of an update the potential read and written; of a bias itself; of a spike itself,
    written and read.
    """
    steps = np.arange(1, self.time_steps + 1)
    updates = 1.0 * sum(self.neurons.values()) * steps
    biases = _sum([layer.biases for layer in self.layers.values()], self.time_steps)
    fired = _sum([*self.spikes.values()], self.time_steps)
    written = sum(layer.outputs * steps for layer in self.layers.values() if layer.macs.any())
    accesses = 3 * self.synaptic_operations + 2 * self.macs + written + 2 * updates + biases
    return Work(self.macs, self.synaptic_operations, updates, biases, accesses + 2 * fired)

  def ann_work(self, without_zeros: bool = False) -> Work:
    """What the ANN does for an image.

    Its accesses to memory are those of weight and number for each multiply-accumulate, of each
    bias, and of each number that a layer gives.

    Args:
      without_zeros: whether it leaves out weights and numbers that are 0.
    """
    layers = self.layers.values()
    weighted = [layer for layer in layers if layer.weighted]
    if without_zeros:
      macs = sum(layer.ann_macs for layer in weighted)
      additions = sum(layer.ann_additions for layer in layers)
    else:
      macs = 1.0 * sum(layer.connections for layer in weighted)
      additions = 1.0 * sum(layer.connections for layer in layers if not layer.weighted)
    biases = float(sum(layer.biases[0] for layer in layers))
    written = sum(layer.outputs for layer in weighted)
    return Work(macs, additions, 0.0, biases, 2 * macs + 2 * additions + biases + written)

  def energy(self, model: str | EnergyModel = "arithmetic") -> dict[str, Any]:
    """Microjoules for an image.

    Args:
      model: "arithmetic" counts multiplications and additions, "memory" accesses to memory too; or
        a model of your own, see `tcljax.EnergyModel`.

    Returns:
      `snn`, the spiking network after each number of steps, [T]; `ann`, and `ann_int8`, the ANN
      quantized to 8 bits; and these two `_without_zeros`, on hardware that leaves out weights and
      numbers that are 0.

    Raises:
      ValueError: if there is no model of this name.
    """
    chosen = energy_model(model)
    every, needed = self.ann_work(), self.ann_work(without_zeros=True)
    return {
      "snn": chosen.float32.of(self.work),
      "ann": chosen.float32.of(every),
      "ann_without_zeros": chosen.float32.of(needed),
      "ann_int8": chosen.int8.of(every),
      "ann_int8_without_zeros": chosen.int8.of(needed),
    }

  def neurobench(self) -> dict[str, Any]:
    """The figures that NeuroBench 2.3 reports of the same network, by its own names.

    Unlike those above, `synaptic_operations` are those of T executions, of layers with weights
    alone: a layer whose input is constant is executed in each step, and zeros count in `Dense`.
    """
    layers = [layer for layer in self.layers.values() if layer.weighted]
    times = lambda layer: self.time_steps if layer.once else 1
    return {
      "footprint": self.footprint,
      "connection_sparsity": round(self.connection_sparsity, 4),
      "activation_sparsity": self.activation_sparsity,
      "synaptic_operations": {
        "Effective_MACs": float(sum(times(one) * one.macs.sum() for one in layers)),
        "Effective_ACs": float(sum(times(one) * one.synaptic_operations.sum() for one in layers)),
        "Dense": float(self.time_steps * sum(one.connections for one in layers)),
      },
    }

  def summary(self) -> dict[str, Any]:
    """The totals after 1, 2, 4, ... and T steps as JSON holds them; energies in microjoules."""
    at = lambda values, digits=6: {
      str(t): round(float(values[t - 1]), digits) for t in reported_time_steps(self.time_steps)
    }
    found: dict[str, Any] = {
      "images": self.images,
      "footprint": self.footprint,
      "connection_sparsity": round(self.connection_sparsity, 6),
      "activation_sparsity": round(self.activation_sparsity, 6),
    }
    work = dataclasses.asdict(self.work)
    found |= {_NAMES[name]: at(values) for name, values in work.items()}
    ann = dataclasses.asdict(self.ann_work())
    found["ann"] = {_NAMES[name]: round(float(value), 6) for name, value in ann.items()}
    for model in ("arithmetic", "memory"):
      energy = self.energy(model)
      found[f"energy_{model}"] = {
        name: at(value, 9) if name == "snn" else round(float(value), 9)  # small ones have few µJ
        for name, value in energy.items()
      }
    return found

  def table(self) -> str:
    """Lines of text: each layer after T steps, the totals after 1, 2, 4, ... steps, and the ANN.

    And in words what most of the energy goes into, and how it compares with the ANN's.
    """
    return cost_table.told(self)


_NAMES = {
  "macs": "macs",
  "accumulates": "synaptic_operations",
  "updates": "membrane_updates",
  "biases": "bias_additions",
  "accesses": "memory_accesses",
}


def _sum(arrays: list[np.ndarray], time_steps: int) -> np.ndarray:
  """The sum of arrays [T], after each number of steps."""
  return sum(arrays, np.zeros(time_steps)).cumsum()
