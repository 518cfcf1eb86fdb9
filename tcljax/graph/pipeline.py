"""How many steps later an answer comes where each layer takes a step of its own."""

from tcljax.graph.nodes import Graph
from tcljax.graph.operations import find
from tcljax.graph.record import Kind


def depth(graph: Graph) -> int:
  """How often spikes are sent on, one after another, until they are in the answer.

  That is the most populations in a row between input and output. A population that is the output
  itself does not count: whoever reads its spikes has the answer in the step in which they fire.

  In a simulation a spike passes all layers in the step in which it is fired. Most hardware hands it
  over in the next step. A population there runs its T steps as many steps later as the longest way
  to it has populations, and spikes of shorter ways are held back. Each neuron is then given the
  same currents, and the answer of T steps is there after T + depth. The input is there from the
  first step on. Layers without neurons between them take no step of their own.

  Args:
    graph: traced of any model, folded or not.

  Returns:
    The depth, from 0 on; of several outputs the largest.
  """
  # Of each node the step, less t, in which its value of step t is there: of spikes the step in
  # which they are fired (-1 where there are none), of sums of what has arrived the step of the sum.
  fired, summed = (dict.fromkeys(graph.input_names(), step) for step in (-1, 0))
  for node in graph.nodes:
    kind = find(node.op).kind
    latest = max((fired[name] for name in node.inputs), default=-1)
    sums = max((summed[name] for name in node.inputs), default=0)
    if kind is not Kind.PASSAGE:
      sums = max(latest + 1, sums)  # here spikes arrive
      latest = -1
    if kind is Kind.NEURONS:
      latest, sums = sums, 0
    fired[node.name], summed[node.name] = latest, sums
  return max(max(fired[name], summed[name]) for name in graph.outputs())
