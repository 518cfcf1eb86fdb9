"""Any function that JAX can trace, as a network with neuron populations."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tcljax.checks import check_choice, check_function, must_be
from tcljax.files import kind_and_why
from tcljax.graph.assembly import Assembled, assembled
from tcljax.graph.comparison import check_same
from tcljax.graph.explanation import fates_of, fates_of_graph
from tcljax.graph.fates import Fate, source_of_error, table
from tcljax.graph.fold import folded
from tcljax.graph.model import BATCHES, check_batch_size_unused, differing
from tcljax.graph.network import GraphNetwork
from tcljax.graph.nodes import Graph
from tcljax.kernels import convolution
from tcljax.layers.collections import PARAMS, Variables
from tcljax.maths.trees import Shapes, thawed, without_batch
from tcljax.models.pooling import POOLINGS


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
  """A function as a network: what `calibrate` and all that follows it take.

  Attributes:
    model: runs the function's graph; a Flax module with a field `act`.
    variables: its weights; `calibrate` adds thresholds.
    operations: what became of each operation of the function, see `tcljax.explain`.
    input_shape: of one input, without the batch, as `tcljax.convert` takes it; of a function of
      several arrays a tuple or dictionary of their shapes.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> weights = jax.random.normal(jax.random.key(0), (4, 3))
    >>> network = tcljax.trace(lambda x: jax.nn.relu(x @ weights), jnp.ones((1, 4)))
    >>> network.model.apply(network.variables, jnp.ones((2, 4))).shape, network.populations
    ((2, 3), ('relu',))
  """

  model: GraphNetwork = dataclasses.field(repr=False)
  variables: Variables = dataclasses.field(repr=False)
  operations: tuple[Fate, ...] = dataclasses.field(repr=False)
  input_shape: Shapes = ()

  @property
  def populations(self) -> tuple[str, ...]:
    """The names of its populations of neurons, in the order in which they are computed."""
    return tuple(self.model.graph.populations())


def trace(function: Callable[[Any], Any], example: Any, *, pooling: str = "gate") -> Traced:
  """Makes a network with neuron populations of any function that JAX can trace.

  What computes max(x, 0), in whatever guise, becomes a population of neurons; everything between
  must be affine. Scales and shifts are folded into the weights.

  Args:
    function: of one batch, whose weights it closes over, as it runs for inference:
      `lambda x: model.apply(variables, x)`, `jax.vmap(model)`. It returns one array, or several in
      a tuple or a dictionary.
    example: one batch of inputs [B, ...], or its shape and type as a `jax.ShapeDtypeStruct`; of a
      function of several arrays a tuple or dictionary of these. Of a function that takes a list
      give one here; the network takes and returns a tuple in its place. The number of examples
      does not matter.
    pooling: how maximum pooling is done by spikes, wherever it stands: "gate", as many spikes as
      the neuron of a window that fired most; "before", one neuron a window, driven by the largest
      of its summed input currents; or "average", which changes the network: means take the place of
      maxima. See docs/your-own-network.md.

  Returns:
    The network. With thresholds that nothing reaches it answers as the function, which is checked.

  Raises:
    ValueError: if the function does what spikes cannot carry, naming the operation, its place and
      what to do; if its answer for one example depends on the others; if it cannot be traced; or
      if the network differs from it on random inputs.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> weights = jax.random.normal(jax.random.key(0), (4, 8)), jnp.ones((8, 3))
    >>> network = tcljax.trace(lambda x: jax.nn.relu(x @ weights[0]) @ weights[1], jnp.ones((1, 4)))
    >>> network.populations
    ('relu',)
    >>> images = jax.random.normal(jax.random.key(1), (8, 4))
    >>> variables = tcljax.calibrate(network.model, network.variables, [images])
    >>> spiking = tcljax.SpikingConfig(time_steps=4)
    >>> tcljax.simulate(network.model, variables, images, spiking).logits.shape
    (8, 3)
  """
  check_function("function", function, ("a batch of inputs",))
  check_choice("pooling", pooling, POOLINGS)
  example = _shapes(example)
  found = _at_two_batch_sizes(function, example, "gate" if pooling == "average" else pooling)
  traced, into = _folded(found)
  if not traced.populations:
    for left in found.unread:
      if left is not None:
        raise left.error
    raise ValueError(
      "the function applies no ReLU to what depends on its input: there is nothing to convert"
    )
  endings = check_same(function, traced.model.apply, traced.variables, example, found.unread)
  if pooling == "average":  # another network, which the function does not compute
    found = _at_two_batch_sizes(function, example, pooling)
    traced, into = _folded(found)
  fates = fates_of(found, into, traced.model.graph, endings)
  shape = thawed(without_batch(example))  # no list, which no function takes for several arrays
  return dataclasses.replace(traced, operations=fates, input_shape=shape)


def explain(function: Any, example: Any = None, *, pooling: str = "gate") -> str:
  """A table of every operation of a network that depends on its input, with its fate.

  The fates are: `affine`; `folded` into the weights of another; `moved`, which costs nothing;
  `population`, neurons; `pooling`, done by neurons; `dropped`, a softmax or sigmoid at the end, as
  the logits tell the answer; `refused`, with the reason; `after a refusal`; and `not used`.

  Args:
    function: what `tcljax.trace` takes, which is refused at no operation here; or what it gave; or
      a network from `tcljax.convert`. One from `tcljax.load` knows its own operations alone, and no
      longer those of the model that it was made from.
    example: as for `tcljax.trace`; not for networks.
    pooling: as for `tcljax.trace`.

  Returns:
    Lines of text, an operation each: its name, its fate, the user's modules around it, the line of
    the user's source, and what it became.

  Raises:
    ValueError: if the function cannot be traced by JAX.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> kernel = jnp.ones((4, 3))
    >>> table = tcljax.explain(lambda x: jnp.tanh(jax.nn.relu(x @ kernel) + 1.0), jnp.ones((1, 4)))
    >>> [line.split()[:2] for line in table.splitlines()[1:]]
    [['dot_general', 'affine'], ['max', 'population'], ['add', 'affine'], ['tanh', 'refused']]
  """
  if isinstance(function, Traced):
    return table(function.operations)
  if isinstance(graph := getattr(function, "graph", None), Graph):
    return table(getattr(function, "operations", ()) or fates_of_graph(graph))
  check_function("function", function, ("a batch of inputs",))
  check_choice("pooling", pooling, POOLINGS)
  example = _shapes(example)
  found = _read(function, example, BATCHES[0], pooling, lenient=True)
  traced, into = _folded(found)
  endings = ["" for _ in found.unread]
  if any(left is not None for left in found.unread):
    try:
      endings = check_same(function, traced.model.apply, traced.variables, example, found.unread)
    except ValueError:
      pass  # what is refused stands in the table
  return table(fates_of(found, into, traced.model.graph, endings))


def _shapes(example: Any) -> Any:
  """Shapes and types of an example, [B, ...].

  Raises:
    ValueError: if it holds something else than arrays with a batch.
  """
  leaves = jax.tree.leaves(example)
  for leaf in leaves or [example]:
    if len(getattr(leaf, "shape", ())) < 1 or not _holds_numbers(leaf):
      wanted = "a batch of inputs [B, ...], or jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)"
      raise ValueError(must_be("example", leaf, wanted))
    if 0 in leaf.shape[1:]:
      raise ValueError(
        f"example has inputs of shape {tuple(leaf.shape[1:])}, which hold no numbers"
      )
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), example)


def _holds_numbers(leaf):
  """Whether an array holds real numbers: no complex ones, no text, no keys of random numbers."""
  try:
    kind = np.dtype(leaf.dtype)
  except (AttributeError, TypeError):
    return False
  return any(jnp.issubdtype(kind, of) for of in (jnp.floating, jnp.integer, jnp.bool_))


_CHANGES = (
  "the function does not do the same in every call: it keeps values from one call for the next, as "
  "keys of random numbers or counts; let it depend on its input alone"
)


def _read(
  function: Callable[[Any], Any], example: Any, batch: int, pooling: str, lenient: bool = False
) -> Assembled:
  """What was read of a function at one number of examples.

  Raises:
    ValueError: if it cannot be traced, in one line.
  """
  sized = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype), example
  )
  try:
    with convolution.as_written():
      # A function of our own, as JAX remembers what it has traced of the user's.
      closed, returned = jax.make_jaxpr(lambda x: thawed(function(x)), return_shape=True)(sized)
  except jax.errors.UnexpectedTracerError:
    raise ValueError(_CHANGES) from None
  except Exception as error:  # of any kind, as the function is the user's
    shapes = [leaf.shape for leaf in jax.tree.leaves(sized)]
    at = source_of_error(error)
    raise ValueError(
      f"the function cannot be traced on inputs of shape {', '.join(map(str, shapes))}"
      f"{at and f' ({at})'}: {_reader(function)}{kind_and_why(error)}"
    ) from error
  if any(isinstance(held, Tracer) for held in closed.consts):  # of a call before
    raise ValueError(_CHANGES)
  return assembled(closed, returned, sized, inserts=True, pooling=pooling, lenient=lenient)


def _reader(function: Any) -> str:
  """Which function reads a network of a framework, where one was given in place of a function."""
  bases = [f"{of.__module__}." for of in type(function).__mro__]
  named = [name for start, name in _READERS.items() if any(b.startswith(start) for b in bases)]
  return f"give this network to tcljax.{named[0]}; " if named else ""


_READERS = {
  "torch.": "from_torch",
  "flax.linen.": "from_flax",
  "flax.nnx.": "from_nnx",
  "equinox.": "from_equinox",
  "keras.": "from_keras",
}


def _at_two_batch_sizes(function: Callable[[Any], Any], example: Any, pooling: str) -> Assembled:
  """What was read of a function, which is the same at two numbers of examples."""
  one, other = (_read(function, example, batch, pooling) for batch in BATCHES)
  if differing(one, other) is not None:
    again = _read(function, example, BATCHES[0], pooling)
    if differing(one, again) is not None:
      raise ValueError(_CHANGES)
  check_batch_size_unused(one, other)
  return one


def _folded(found: Assembled) -> tuple[Traced, dict[str, str]]:
  """The network in which scales and shifts are folded, and what became of each node."""
  short = folded(found.graph, found.arrays)
  variables = {PARAMS: jax.tree.map(jnp.asarray, short.arrays)}
  return Traced(GraphNetwork(short.graph), variables, ()), short.into
