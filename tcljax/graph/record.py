"""The record of an operation, and what its readers are given."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tcljax.graph.forms import Form

if TYPE_CHECKING:
  from tcljax.graph.builder import Builder


@dataclasses.dataclass(frozen=True)
class Use:
  """One use of a primitive of JAX in a model.

  Attributes:
    primitive: its name.
    inputs: symbols, constants, and comparisons of symbols with constants.
    params: of the primitive.
    shapes: of its outputs in the model, the batch included.
    bind: computes it from arrays.
  """

  primitive: str
  inputs: Sequence[Any]
  params: Mapping[str, Any]
  shapes: Sequence[tuple[int, ...]]
  bind: Callable[..., Any]


class Refused(Exception):
  """A reader does not read this use of a primitive, or an operation cannot do what it is asked."""


class Kind(enum.Enum):
  """What an operation does to what flows through it."""

  NEURONS = "spikes of input currents; `run` is given `act`, and nodes have names of their own"
  SYNAPSES = "sums by weights, which are input currents"
  MAXIMUM = "a maximum, which is taken of input currents alone and that neurons alone read"
  PASSAGE = "what came in, moved, scaled or added: spikes of spikes and currents of currents"


# Makes nodes of one use of a primitive, one of whose inputs at least is no constant; gives the
# symbol of its output, or one for each output where there are several.
Reader = Callable[["Builder", Use], Any]


@dataclasses.dataclass(frozen=True)
class Operation:
  """All that is known of one operation.

  Attributes:
    name: stands in graphs and files as `Node.op`.
    run: `run(*inputs, **arrays, **settings)`: its output [B, ...] from its inputs [B, ...].
    form: `form(inputs, settings, listed)`: from the shapes of its inputs, its settings, and the
      shapes that its arrays are said to have, what must hold of them; see `tcljax.graph.forms`. It
      raises ValueError where they do not fit together. None for an operation that cannot be stored.
    read: for each JAX primitive that makes it, by name, the reader that turns one use of the
      primitive into nodes. It raises `Refused` for a use that is not this operation, as one that
      mixes examples; other operations may read the same primitive.
    kind: what it does to what flows through it.
    fold: `fold(arrays, scale, shift)`: its arrays once it has taken up that its output is
      multiplied by `scale` and moved by `shift`. These are float64, of one output without the batch
      or of size 1 along its axes. Raises `Refused` where that is more than the arrays can hold.
      None for an operation that takes up nothing.
    synaptic_operations: `synaptic_operations(*spikes, **arrays, **settings)`: how many spikes
      arrive at each element of its output, [B, ...], where each element of its inputs, [B, ...],
      has sent so many along every connection: `run` with 1 for each weight that is not 0, and
      without shifts. It is linear in the spikes. So borders count exactly, as padding sends
      nothing; given arrays of ones it counts connections whose weight is 0 too. Arrivals at
      `Kind.SYNAPSES` are synaptic operations, those at `Kind.PASSAGE` are spikes on their way. None
      where `run` itself counts so, as it moves or adds and does not scale; of neurons, which begin
      anew; and of maxima, at which no spikes arrive.
    nir: `nir(net, values, node, arrays)`: the value of its node, where `values` are those of the
      inputs; it gives `net` what nodes of the Neuromorphic Intermediate Representation it takes.
      See `tcljax.graph.nir_forms`. Neurons are given `threshold` and `v_init` as arrays. It imports
      `nir` when called, and raises `Refused`, with the reason, for what NIR cannot say. None for an
      operation that it never can.
  """

  name: str
  run: Callable[..., jax.Array]
  read: Mapping[str, Reader]
  kind: Kind = Kind.PASSAGE
  form: Callable[..., Form] | None = None
  fold: Callable[..., dict[str, np.ndarray]] | None = None
  synaptic_operations: Callable[..., jax.Array] | None = None
  nir: Callable[..., Any] | None = None


def integers(value: Any) -> Any:
  """Tuples of integers, whatever sequence types the parameters of a primitive use."""
  return tuple(integers(v) for v in value) if isinstance(value, (tuple, list)) else int(value)
