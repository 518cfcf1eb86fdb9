"""What a model computes, as affine maps and neuron populations."""

from tcljax.graph.fold import fold
from tcljax.graph.model import check_convertible, trace_model
from tcljax.graph.network import GraphNetwork
from tcljax.graph.nodes import Graph, Node
from tcljax.graph.trace import Traced, explain, trace

__all__ = [
  "Graph",
  "GraphNetwork",
  "Node",
  "Traced",
  "check_convertible",
  "explain",
  "fold",
  "trace",
  "trace_model",
]
