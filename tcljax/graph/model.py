"""The graph of a Flax model that marks its activations itself, by a field `act`."""

import itertools
import warnings
from collections.abc import Mapping

import flax.linen as nn
import jax
import numpy as np

from tcljax.graph import neurons
from tcljax.graph.assembly import Assembled, assembled
from tcljax.graph.nodes import Graph
from tcljax.graph.operations import find
from tcljax.graph.reading import refusal
from tcljax.graph.record import Kind
from tcljax.graph.remedies import remedy
from tcljax.graph.store import AFFINE, Arrays, Origin
from tcljax.kernels import convolution
from tcljax.layers.activations import ReLU, with_activation
from tcljax.layers.collections import Variables
from tcljax.layers.inputs import told_of_inputs
from tcljax.maths.max_pooling import CURRENTS
from tcljax.maths.trees import Shapes, Tree, stand_in
from tcljax.models.precision import in_float32

# Models are traced with two numbers of examples, so that neither can be mistaken for an axis of the
# network, and what depends on it differs.
BATCHES = (2, 3)


def read_model(model: nn.Module, variables: Variables, input_shape: Shapes) -> Assembled:
  """The graph of a model and its arrays, and what became of each operation.

  Warns of a maximum of input currents that stands in the model itself: the spiking network takes
  the largest current of each step, whose mean lies above the maximum of the mean currents.

  Args:
    model: a network with a field `act`.
    variables: `params`, `batch_stats` and whatever else it reads.
    input_shape: shape of one input, without the batch; of several inputs a tree of shapes.

  Raises:
    ValueError: if the model does to an activation what spikes cannot carry, naming the operation
      and where it stands; if it uses the number of examples in a batch, cannot be run, or does not
      return arrays that depend on its input.
  """
  network = with_activation(model, neurons.Marker)
  one, other = (_traced(network, variables, stand_in(input_shape, batch)) for batch in BATCHES)
  check_batch_size_unused(one, other)
  _check_maxima(one.graph, one.origins)
  return one


def trace_model(
  model: nn.Module, variables: Variables, input_shape: Shapes
) -> tuple[Graph, Arrays]:
  """The graph of a model and its arrays, by node and by name; see `read_model`."""
  found = read_model(model, variables, input_shape)
  return found.graph, found.arrays


def check_convertible(model: nn.Module, variables: Variables, input_shape: Shapes) -> None:
  """Raises ValueError if `tcljax.convert` would refuse the model; asked before it is trained."""
  graph, _ = trace_model(in_float32(model), variables, input_shape)
  if not graph.populations():
    raise ValueError(
      f"{type(model).__name__} applies its field act nowhere: write self.act(name='act1')(x) "
      "after each layer, in place of nn.relu"
    )


def _traced(network: nn.Module, variables: Variables, x: Tree) -> Assembled:
  """The graph of a network on a batch of these shapes, and what is known of its nodes."""
  with told_of_inputs(network, variables, x):
    with convolution.as_written(), nn.intercept_methods(_refuse_relu):
      closed, returned = jax.make_jaxpr(lambda x: network.apply(variables, x), return_shape=True)(x)
  found = assembled(closed, returned, x, inserts=False)
  for left in found.unread:
    if left is not None:
      raise left.error
  return found


def _refuse_relu(call, args, kwargs, context):
  """Tells of an activation that the swap has not reached: it would stay without a threshold."""
  if isinstance(context.module, ReLU):
    raise ValueError(
      f"activation {'/'.join(context.module.path)!r} stays tcljax.ReLU when the "
      "model's field act is swapped: pass act=self.act on to inner modules"
    )
  return call(*args, **kwargs)


def check_batch_size_unused(one: Assembled, other: Assembled) -> None:
  """Raises ValueError if what was read at two numbers of examples differs."""
  if (origin := differing(one, other)) is not None:
    raise ValueError(
      f"the model uses the number of examples in a batch{_at(origin)}: the answer for one would "
      "depend on how many others there are; use x.shape[0] in reshapes alone"
    )


def differing(one: Assembled, other: Assembled) -> Origin | None:
  """Where the first node comes from that differs in two graphs; None if they agree."""
  for node, its_twin in itertools.zip_longest(one.graph.nodes, other.graph.nodes):
    mine, theirs = (
      of.arrays.get(n.name, {}) if n else {} for of, n in ((one, node), (other, its_twin))
    )
    same = node == its_twin and mine.keys() == theirs.keys()
    if same and all(np.array_equal(mine[k], theirs[k], equal_nan=True) for k in mine):
      continue
    # What is a scale by 1 at one number of examples is no node there.
    of, at = (
      (other, its_twin) if node is None or (its_twin and its_twin.op == AFFINE) else (one, node)
    )
    return of.origins[at.name]
  return None


def _check_maxima(graph: Graph, origins: Mapping[str, Origin]) -> None:
  """Raises ValueError unless every maximum is one of input currents, on their way into neurons.

  Of spikes it would be no sum of spikes; and after a maximum, BatchNorm could not be folded into
  the convolution before it, as a negative scale would make a minimum of it. Warns of the others.

  Args:
    graph: of the model.
    origins: for each node where it comes from.
  """
  nodes = {node.name: node for node in graph.nodes}
  kinds = {node.name: find(node.op).kind for node in graph.nodes}
  taken = graph.input_names()

  def only_spikes(name):  # moved or scaled, but not yet summed by weights; or pixels
    if name in taken or kinds[name] is Kind.NEURONS:
      return True
    return kinds[name] is not Kind.SYNAPSES and all(map(only_spikes, nodes[name].inputs))

  for name, kind in kinds.items():
    if kind is Kind.MAXIMUM:
      readers = [node.name for node in graph.nodes if name in node.inputs]
      read_by = {kinds[reader] for reader in readers}
      if only_spikes(name) or read_by - {Kind.NEURONS} or name in graph.outputs():
        raise refusal(origins[name], remedy(origins[name].primitive))
      warnings.warn(
        f"the model takes a maximum{_at(origins[name])} right before activation {readers[0]!r}: "
        "its spiking network takes the largest current of each step, which does not come to the "
        "ANN however many steps there are; give the pooling to the activation, "
        f"self.act(name=..., max_pool=tcljax.MaxPool(2, of={CURRENTS!r}))(x)",
        stacklevel=2,
      )


def _at(origin: Origin) -> str:
  place = f" in {origin.place}" if origin.place else ""
  line = f" ({origin.source})" if origin.source else ""
  return f", by `{origin.primitive}`{place}{line}"
