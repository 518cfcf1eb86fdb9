"""What a model computes, as affine maps and neuron populations."""

from tcljax.graph.fold import fold
from tcljax.graph.network import GraphNetwork
from tcljax.graph.nodes import Graph, Node
from tcljax.graph.trace import check_convertible, trace

__all__ = ["Graph", "GraphNetwork", "Node", "check_convertible", "fold", "trace"]
