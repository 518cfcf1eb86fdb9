"""The graph of a Flax model that marks its activations itself, by a field `act`."""

import itertools
import warnings
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tcljax.graph import neurons
from tcljax.graph.assembly import Assembled, assembled
from tcljax.graph.nodes import INPUT, Graph
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
from tcljax.models.precision import in_float32

# Models are traced with two numbers of examples, so that neither can be mistaken for an axis of the
# network, and what depends on it differs.
BATCHES = (2, 3)


def trace_model(
  model: nn.Module, variables: Variables, input_shape: tuple[int, ...]
) -> tuple[Graph, Arrays]:
  """The graph of a model and its arrays.

  Warns of a maximum of input currents that stands in the model itself: the spiking network takes
  the largest current of each step, whose mean lies above the maximum of the mean currents.

  Args:
    model: a network with a field `act`.
    variables: `params`, `batch_stats` and whatever else it reads.
    input_shape: shape of one input, without the batch.

  Returns:
    The graph and its arrays, by node and by name.

  Raises:
    ValueError: if the model does to an activation what spikes cannot carry, naming the operation
      and where it stands; if it uses the number of examples in a batch, cannot be run, or does not
      return one array that depends on its input.
  """
  network = with_activation(model, neurons.Marker)
  one, other = (_traced(network, variables, (batch, *input_shape)) for batch in BATCHES)
  check_batch_size_unused(one, other)
  _check_maxima(one.graph, one.origins)
  return one.graph, one.arrays


def check_convertible(model: nn.Module, variables: Variables, input_shape: tuple[int, ...]) -> None:
  """Raises ValueError if `tcljax.convert` would refuse the model; asked before it is trained."""
  graph, _ = trace_model(in_float32(model), variables, input_shape)
  if not graph.populations():
    raise ValueError(
      f"{type(model).__name__} applies its field act nowhere: write self.act(name='act1')(x) "
      "after each layer, in place of nn.relu"
    )


def _traced(network: nn.Module, variables: Variables, shape: tuple[int, ...]) -> Assembled:
  """The graph of a network on a batch of this shape, and what is known of its nodes."""
  x = jax.ShapeDtypeStruct(shape, jnp.float32)
  with told_of_inputs(network, variables, x):
    with convolution.as_written(), nn.intercept_methods(_refuse_relu):
      closed, returned = jax.make_jaxpr(lambda x: network.apply(variables, x), return_shape=True)(x)
  if not isinstance(returned, jax.ShapeDtypeStruct):
    count = len(jax.tree.leaves(returned))
    raise ValueError(
      f"the model returns a {type(returned).__name__} of {count} arrays: let it return one "
      "array, such as the logits"
    )
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
    where = _at(of.origins[at.name])
    raise ValueError(
      f"the model uses the number of examples in a batch{where}: the answer for one would depend "
      "on how many others there are; use x.shape[0] in reshapes alone"
    )


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

  def only_spikes(name):  # moved or scaled, but not yet summed by weights; or pixels
    if name == INPUT or kinds[name] is Kind.NEURONS:
      return True
    return kinds[name] is not Kind.SYNAPSES and all(map(only_spikes, nodes[name].inputs))

  for name, kind in kinds.items():
    if kind is Kind.MAXIMUM:
      readers = [node.name for node in graph.nodes if name in node.inputs]
      read_by = {kinds[reader] for reader in readers}
      if only_spikes(name) or read_by - {Kind.NEURONS} or name in graph.outputs():
        raise refusal(origins[name], "", remedy(origins[name].primitive))
      warnings.warn(
        f"the model takes a maximum{_at(origins[name])} right before activation {readers[0]!r}: "
        "its spiking network takes the largest current of each step, which does not come to the "
        "ANN however many steps there are; give the pooling to the activation, "
        f"self.act(name=..., max_pool=tcljax.MaxPool(2, of={CURRENTS!r}))(x)",
        stacklevel=2,
      )


def _at(origin: Origin) -> str:
  place = f" in {origin.place}" if origin.place else ""
  return f", by `{origin.primitive}`{place}"
