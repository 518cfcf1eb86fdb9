"""What a model computes, as affine maps and neuron populations."""

from tcljax.graph.explanation import fates_of
from tcljax.graph.fates import Fate
from tcljax.graph.fold import folded
from tcljax.graph.model import check_convertible, read_model, trace_model
from tcljax.graph.network import GraphNetwork
from tcljax.graph.nodes import Graph, Node
from tcljax.graph.pipeline import depth
from tcljax.graph.trace import Traced, explain, trace

__all__ = [
  "Fate",
  "Graph",
  "GraphNetwork",
  "Node",
  "Traced",
  "check_convertible",
  "depth",
  "explain",
  "fates_of",
  "folded",
  "read_model",
  "trace",
  "trace_model",
]
