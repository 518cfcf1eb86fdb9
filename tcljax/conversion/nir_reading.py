"""A graph of the Neuromorphic Intermediate Representation (NIR) as a spiking network."""

import graphlib
import math
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tcljax.checks import check_number, in_a_line
from tcljax.conversion.checking import check_counts
from tcljax.conversion.network import SpikingNetwork
from tcljax.conversion.nir_files import read_graph
from tcljax.conversion.nir_layers import Reader
from tcljax.conversion.strict_json import from_json
from tcljax.files import checked_path
from tcljax.frameworks.importing import framework
from tcljax.maths.spikes import Neuron
from tcljax.simulation.settings import SpikingConfig, check_spiking

if TYPE_CHECKING:
  import nir


def from_nir(
  graph: "nir.NIRGraph | str | pathlib.Path",
  spiking: SpikingConfig | None = None,
  dt: float = 1.0,
) -> SpikingNetwork:
  """The spiking network of a NIR graph, from `to_nir` or from elsewhere.

  All thresholds of the network are 1: currents are divided by those of the graph, and spikes are 0
  and 1 as there. Neurons fire when v >= threshold, whatever the graph's definition says of equals.

  Args:
    graph: one without recurrence, of one input and one output, or the path of a file that holds it.
    spiking: how the network is simulated; by default what `to_nir` left in the graph's metadata.
    dt: how long a step is in units of the graph's time, by which its resistances are multiplied:
      1 in graphs of `to_nir` and sinabs, by default 1e-4 in those that SpikingJelly writes.

  Returns:
    The network, with channels last.

  Raises:
    ValueError: if the package `nir` is not installed, if the file cannot be read, if a node is none
      that tcljax has, naming it, or if nothing says how neurons are reset.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1))
    >>> read = tcljax.from_nir(tcljax.to_nir(network))
    >>> bool(abs(read(images) - network(images)).max() < 1e-5)
    True
  """
  nir = framework("nir", "nir")
  if spiking is not None:
    check_spiking(spiking)
  check_number("dt", dt)
  if not 0 < dt < math.inf:
    raise ValueError(f"dt={dt} must be finite and above 0: the length of a step")
  made: Any = graph
  if not isinstance(graph, nir.NIRGraph):
    made = read_graph(checked_path("graph", graph))
  said = made.metadata if isinstance(made.metadata, Mapping) else {}
  spiking = spiking or _spiking(said)
  check_counts(len(made.nodes), len(made.edges))
  reader = Reader(float(dt))
  for name, sources in _order(made).items():
    try:
      reader.read(name, made.nodes[name], sources)
    except ValueError as error:
      raise ValueError(f"NIR node {in_a_line(name)}: {error}") from error
  return reader.network(spiking, _own_metadata(said))


def _order(graph: "nir.NIRGraph") -> dict[str, list[str]]:
  """The names of its nodes, each after those that it reads, and these."""
  before: dict[str, set[str]] = {name: set() for name in graph.nodes}
  for source, name in graph.edges:
    if source not in before or name not in before:
      raise ValueError(
        f"the edge from {in_a_line(source)} to {in_a_line(name)} names a node that is not there"
      )
    before[name].add(source)
  try:
    order = graphlib.TopologicalSorter(before).static_order()
    return {name: sorted(before[name]) for name in order}
  except graphlib.CycleError as error:
    circle = in_a_line(" -> ".join(map(str, error.args[1])))
    raise ValueError(f"the graph is recurrent, and tcljax has none such: {circle}") from error


def _spiking(said: Mapping[str, Any]) -> SpikingConfig:
  """How the network is simulated, from metadata."""
  if "reset" not in said:
    raise ValueError(
      "the graph does not say how its neurons are reset, which NIR has no words for: give "
      "spiking=tcljax.SpikingConfig(time_steps=32, neuron=tcljax.Neuron(reset='soft'))"
    )
  reset: Any = str(said["reset"])  # whatever it is, which Neuron checks
  try:
    return SpikingConfig(
      time_steps=int(said.get("time_steps", SpikingConfig.time_steps)),
      delay=int(said.get("delay", 0)),
      encoding=str(said.get("encoding", "constant")),
      neuron=Neuron(reset),
    )
  except (OverflowError, TypeError, ValueError) as error:
    raise ValueError(f"the graph's metadata cannot be used: {error}: give spiking") from error


def _own_metadata(said: Mapping[str, Any]) -> dict[str, Any]:
  """The metadata of the network that the graph was written from; empty where there is none."""
  try:
    found = from_json(str(said.get("network", "{}")).encode())
  except ValueError:
    return {}
  return found if isinstance(found, dict) else {}
