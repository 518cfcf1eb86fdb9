"""What is known of nodes before populations are put after them."""

from tcljax.graph.builder import Builder
from tcljax.graph.operations import OPERATIONS
from tcljax.graph.populations import is_nonnegative, population


def test_sums_of_sums_are_looked_at_once_each():
  graph = Builder(OPERATIONS, inserts=True, pooling="gate")
  graph.shapes["input:0"] = (2, 3)
  spikes = population(graph, "input:0")
  both = spikes
  for _ in range(2000):  # which are 2 ** 2000 ways from the neurons
    both = graph.node("add", (both, both), (2, 3))
  assert is_nonnegative(graph, both) and not is_nonnegative(graph, "input:0")
  assert not is_nonnegative(graph, graph.node("add", (both, "input:0"), (2, 3)))
