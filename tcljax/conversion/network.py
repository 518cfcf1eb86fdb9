"""From a network with thresholds to a spiking network that stands on its own."""

import dataclasses
import functools
import os
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.checks import must_be
from tcljax.conversion.checking import check_weights
from tcljax.conversion.strict_json import to_json
from tcljax.graph import Fate, Graph, GraphNetwork, depth, fates_of, folded, read_model
from tcljax.graph.comparison import check_same
from tcljax.layers.activations import ReLU, check_model, with_activation
from tcljax.layers.collections import (
  MEMBRANE,
  PARAMS,
  Variables,
  check_variables,
  no_threshold,
  require_clipping,
  thresholds_by_path,
  with_thresholds,
)
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths.encoding import count_examples
from tcljax.maths.inputs import as_inputs, check_keys
from tcljax.maths.trees import (
  Shapes,
  Tree,
  as_shapes,
  check_same_count,
  count,
  is_shape,
  on_device,
  paired,
  stand_in,
)
from tcljax.models.precision import in_float32
from tcljax.simulation.chunks import with_chunk
from tcljax.simulation.settings import ChunkConfig, SpikingConfig, check_spiking
from tcljax.simulation.time_loop import simulate_any_time_steps


@dataclasses.dataclass(frozen=True, eq=False)
class SpikingNetwork:
  """A converted network: affine maps with BatchNorm folded in, and IF neurons with V_th = tau.

  Of neurons that send bursts, V_th = tau / burst.

  It equals itself alone, and has a hash. To compare two, compare their fields.

  Attributes:
    graph: what it computes.
    variables: `params` by node and `clipping` by population, in arrays of JAX; NumPy's become such.
    input_shape: of one input, without the batch; of frames that of one frame. Of a network that
      takes several arrays, a tuple or dictionary of their shapes.
    spiking: how it is simulated unless told otherwise.
    metadata: whatever else belongs to it, as JSON holds it: preprocessing, data set, accuracy.
    operations: what became of each operation of the model that it was converted from, see
      `tcljax.explain`. They are not saved, and a model that was traced has them itself.

  Raises:
    ValueError: if a field is of another kind.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1), dataset="noise")
    >>> network(images, time_steps=16).shape, network.spiking.time_steps, network.metadata
    ((8, 3), 8, {'dataset': 'noise'})
  """

  graph: Graph = dataclasses.field(repr=False)  # these two would fill pages
  variables: Variables = dataclasses.field(repr=False)
  input_shape: Shapes
  spiking: SpikingConfig = SpikingConfig()
  metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
  operations: tuple[Fate, ...] = dataclasses.field(default=(), repr=False)

  def __post_init__(self) -> None:
    if not isinstance(self.graph, Graph):
      raise ValueError(
        must_be("graph", self.graph, "that of a network from tcljax.convert or tcljax.load")
      )
    check_variables(self.variables)
    object.__setattr__(self, "variables", on_device(self.variables))
    if not isinstance(self.input_shape, (tuple, dict)):
      raise ValueError(must_be("input_shape", self.input_shape, "a tuple, such as (28, 28, 1)"))
    check_spiking(self.spiking)
    if not isinstance(self.metadata, dict):
      raise ValueError(must_be("metadata", self.metadata, "a dictionary"))
    for name, value in self.metadata.items():
      try:
        to_json({name: value})
      except ValueError as error:
        raise ValueError(
          f"{name} of the metadata cannot be stored as JSON, {error}: give text, numbers, lists or "
          "dictionaries, such as array.tolist()"
        ) from error

  @property
  def model(self) -> nn.Module:
    """The network as a Flax module with a field `act`, for all that works on modules."""
    return GraphNetwork(self.graph)

  @property
  def depth(self) -> int:
    """Steps that come on top of T where each layer takes one; see `tcljax.graph.pipeline`."""
    return depth(self.graph)

  def __call__(self, x: Any, time_steps: int | None = None, keys: jax.Array | None = None) -> Any:
    """Simulates the network; compiled once for each shape of `x`, whatever T.

    And once for each K, which is chosen as `tcljax.simulate` says where `spiking` leaves it open:
    on CPUs it is always 1; and once more for T within `spiking.delay`, where the answer is the mean
    of all steps. For gradients, differentiate `simulate` of `model` and `variables`.

    Args:
      x: inputs as the network was trained on (normalised images), [B, ...]; where the encoding is
        "frames" [T, B, ...], one frame for each step. Several arrays come as `input_shape` has
        their shapes.
      time_steps: T; by default that of `spiking`, and of frames their number.
      keys: random keys, [B], where the encoding is "poisson".

    Returns:
      Mean output over T steps, [B, ...]: the logits. Several come as the model returned them.

    Raises:
      ValueError: if the inputs are no real numbers, or other ones in JAX, or have another shape
        than `input_shape`, if keys are not one for each, or T < 1 or not the number of frames.
    """
    x, spiking = self.checked(x, time_steps, keys)
    return _logits(self.graph, spiking.one_chunk, self.variables, x, keys, spiking.time_steps)

  def checked(
    self, x: Any, time_steps: int | None = None, keys: jax.Array | None = None
  ) -> tuple[Tree, SpikingConfig]:
    """Inputs as arrays, and how they are simulated over T steps, with K chosen.

    Raises:
      ValueError: as a call does.
    """
    x, spiking = jax.tree.map(jnp.asarray, as_inputs("inputs", x)), self.spiking
    axes = ("time steps", "batch") if spiking.encoding == "frames" else ("batch",)
    for name, wanted, given in paired("inputs", self.input_shape, x, is_shape):
      shape = tuple(given.shape[len(axes) :])
      if given.ndim < len(axes) or shape != wanted:
        remedy = ""
        if tuple(given.shape) == wanted:
          remedy = ": give a batch, of one input x[None]"
        elif spiking.encoding == "frames" and tuple(given.shape[1:]) == wanted:
          remedy = ": give a batch of sequences, of one x[:, None]"
        elif wanted[1:] and shape == wanted[1:]:
          remedy = ": convert it anew, with the input_shape of one input, without the batch"
        raise ValueError(
          f"{name} have shape {tuple(given.shape)}, expected ({', '.join(map(str, axes))}, "
          f"{', '.join(map(str, wanted))}){remedy}"
        )
    check_same_count("inputs", x, len(axes) - 1, "examples")
    check_keys(keys, count_examples(x, spiking.encoding))
    if spiking.encoding == "frames":
      if time_steps not in (None, frames := count(x)):
        raise ValueError(f"time_steps={time_steps} and inputs have {frames} frames: leave it out")
      time_steps = frames
    if time_steps is not None:
      spiking = spiking.with_time_steps(time_steps)
    # One step at a time on CPUs, as that divides every T.
    return x, with_chunk(self.model, self.variables, x, spiking, on_cpus=1)

  def check_shapes(self) -> None:
    """Raises what a call would raise because shapes do not fit, at the cost of no arithmetic.

    Raises:
      Exception: whatever the operations raise for such shapes or settings, most often ValueError
        or TypeError.
    """
    jax.eval_shape(
      functools.partial(self.model.clone(act=IF).apply, mutable=[MEMBRANE]),
      self.variables,
      stand_in(self.input_shape, 1),
    )


def check_network(network: Any) -> None:
  """Raises ValueError unless this is a `SpikingNetwork`."""
  if isinstance(network, SpikingNetwork):
    return
  remedy = "make one by tcljax.convert(model, variables, input_shape)"
  if isinstance(network, (str, os.PathLike)):
    remedy = "read it first, by tcljax.load"
  raise ValueError(must_be("network", network, f"a tcljax.SpikingNetwork: {remedy}"))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(
  graph: Graph,
  config: ChunkConfig,
  variables: Variables,
  x: Tree,
  keys: jax.Array | None,
  time_steps: int,
) -> Tree:
  return simulate_any_time_steps(GraphNetwork(graph), variables, x, config, time_steps, keys=keys)


def convert(
  model: nn.Module,
  variables: Variables,
  input_shape: Shapes,
  spiking: SpikingConfig = SpikingConfig(),
  **metadata: Any,
) -> SpikingNetwork:
  """Converts a network: traces what it computes, folds BatchNorm, sets V_th = tau.

  Of neurons that send bursts, V_th = tau / burst.

  Args:
    model: any Flax module with a field `act`, called as `model(x)` for inference, whose operations
      between two activations are affine (convolutions, products, average pooling, BatchNorm,
      reshapes, sums of branches). Maximum pooling is given to the activation before it
      (`max_pool`) or after it (`MaxPool.of`).
    variables: its variables with the collection `clipping`, from `calibrate` or `tune`.
    input_shape: of one input, without the batch; of frames that of one frame. Of a model that takes
      several arrays, a tuple or dictionary of their shapes.
    spiking: stored as the network's way of being simulated.
    **metadata: stored with the network; JSON values.

  Returns:
    The spiking network, which computes in float32; its logits are those of simulating `model`, to
    rounding (that of the model's own precision, if it computes in less).

  Raises:
    ValueError: if the model does what spikes cannot carry, a weight is not finite or a threshold
      not above 0 or missing, or if the ANN of what was read of the model answers otherwise than the
      model on random inputs.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=(), act=tcljax.TCL)
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> network = tcljax.convert(model, variables, (4, 4, 1), tcljax.SpikingConfig(time_steps=8))
    >>> simulated = tcljax.simulate(model, variables, images, network.spiking).logits
    >>> bool(abs(network(images) - simulated).max() < 1e-5)  # BatchNorm is folded in
    True
  """
  check_model(model)
  variables = require_clipping(variables)
  found = thresholds_by_path(variables)
  check_spiking(spiking)
  shape = as_shapes("input_shape", input_shape)
  read = read_model(in_float32(model), variables, shape)
  graph, arrays, into = folded(read.graph, read.arrays)
  thresholds = {}
  for name in graph.populations():  # alone, as there may be thresholds of an earlier model
    named = [held for path, held in found.items() if ".".join(path) == name]
    if not named:
      raise no_threshold(name)
    if len(named) > 1:
      raise ValueError(
        f"the collection 'clipping' has {len(named)} thresholds by the name {name!r}, as a dot in "
        "the name of an activation or module separates them too: leave dots out of names"
      )
    thresholds[name,] = named[0]
  network = SpikingNetwork(
    graph, with_thresholds({PARAMS: arrays}, thresholds), shape, spiking, metadata
  )
  if not isinstance(model, GraphNetwork):  # whose operations are the nodes themselves
    network = dataclasses.replace(network, operations=fates_of(read, into, graph))
  check_weights(network.variables)
  network.check_shapes()
  exact, example = in_float32(model), stand_in(shape, 1)
  check_same(
    lambda x: with_activation(exact, ReLU).apply(variables, x),
    with_activation(network.model, ReLU).apply,
    network.variables,
    example,
  )
  return network
