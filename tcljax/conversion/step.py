"""One time step of a spiking network as a program of StableHLO, which JAX alone can call.

The program holds no weights: they are its first argument. So it is small, and its file and that of
the weights can be looked at apart.
"""

import contextlib
import functools
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from tcljax.conversion.network import SpikingNetwork
from tcljax.conversion.places import told
from tcljax.graph import Graph, GraphNetwork
from tcljax.graph.whole_numbers import Shape
from tcljax.kernels import convolution
from tcljax.layers import collections
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths.spikes import Neuron
from tcljax.maths.trees import Tree, is_shape

PLATFORMS = ("cpu", "cuda", "tpu")
_LOCATIONS = "jax_traceback_in_locations_limit"
_KEPT = 4  # programs of networks that are saved again


class _Neurons(IF):
  """Neurons in plain operations, which are at rest where no step was run, and tell who fires."""

  def _has_kernel(self) -> bool:
    """Never: a program for several platforms can have the kernels of none."""
    return False

  def _before(self, v: jax.Array, at_rest: jax.Array, step: jax.Array) -> jax.Array:
    """The potentials that were carried; before the first step v_init * V_th, whatever came."""
    return jnp.where(step == 0, at_rest, v)

  def _run(self, *args: Any) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    """As of `IF`, with the spikes of each neuron, [K, B, ...], in place of their number.

    Those that take back others are below 0.
    """
    spikes, v, *_ = super()._run(*args)
    return spikes, v, spikes, None


def check_can_export() -> None:
  """Raises ValueError unless JAX can write programs: it needs a package that it does not bring."""
  if importlib.util.find_spec("flatbuffers") is None:
    raise ValueError(
      "step.stablehlo cannot be written, as jax.export needs the package flatbuffers: run "
      "pip install flatbuffers, or save the network with step=False"
    )


def export_step(network: SpikingNetwork) -> bytes:
  """One time step, `step(weights, state, x) -> (state, output, spikes)`, for any batch.

  docs/network-format.md says what these are. All are dictionaries of arrays; input and output are
  the trees that `input_shape` and the graph's output are.

  Args:
    network: from `convert`.

  Returns:
    What `jax.export.deserialize` reads: a program for each of `PLATFORMS`.

  Raises:
    ValueError: if the package is missing that JAX needs for this, or JAX cannot write the network
      for a batch of any size.
  """
  check_can_export()
  flat: dict[str, Any] = traverse_util.flatten_dict(dict(network.variables), sep="/")
  weights = tuple(sorted((name, jnp.shape(array)) for name, array in flat.items()))
  leaves, structure = jax.tree.flatten(network.input_shape, is_leaf=is_shape)
  try:
    return _exported(network.graph, weights, tuple(leaves), structure, network.spiking.neuron)
  except Exception as error:  # none is known; of JAX they have no common class
    raise ValueError(
      f"step.stablehlo cannot be written, {told(error)}: save the network with step=False"
    ) from error


@functools.lru_cache(maxsize=_KEPT)
def _exported(
  graph: Graph,
  weights: tuple[tuple[str, Shape], ...],
  shapes: tuple[Shape, ...],
  structure: Any,
  neuron: Neuron,
) -> bytes:
  (batch,) = jax.export.symbolic_shape("batch")
  of = lambda shape, *axes: jax.ShapeDtypeStruct((*axes, *shape), jnp.float32)
  x = jax.tree.unflatten(structure, [of(shape, batch) for shape in shapes])
  given = {name: of(shape) for name, shape in weights}
  model = GraphNetwork(graph, act=functools.partial(_Neurons, neuron=neuron))

  def apply(weights: Mapping[str, Any], state: Any, x: Tree) -> Any:
    variables = traverse_util.unflatten_dict(weights, sep="/")
    with convolution.as_written():  # other forms serve CPUs alone
      return model.apply(
        {**variables, collections.MEMBRANE: state},
        x,
        mutable=[collections.MEMBRANE, collections.SPIKES],
      )

  def step(weights: Mapping[str, Any], state: Any, x: Tree) -> Any:
    output, left = apply(weights, state, x)
    left, spikes = collections.take_spikes(left)
    output = jax.tree.map(lambda a: collections.without_broken(a, left), output)
    fired = {name: of_steps[0] for name, of_steps in collections.spike_counts(spikes).items()}
    return left.get(collections.MEMBRANE, {}), output, fired

  _, state = jax.eval_shape(lambda weights, x: apply(weights, {}, x), given, x)
  with _without_locations():
    program = jax.export.export(jax.jit(step), platforms=PLATFORMS)
    return bytes(program(given, state.get(collections.MEMBRANE, {}), x).serialize())


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
  """Where programs do not tell which lines, in which folder of this machine, they come from."""
  before = getattr(jax.config, _LOCATIONS)
  jax.config.update(_LOCATIONS, 0)
  try:
    yield
  finally:
    jax.config.update(_LOCATIONS, before)
