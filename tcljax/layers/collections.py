"""The collections that a network's variables may hold; the one place that knows their insides.

    params, batch_stats   weights, and the statistics of BatchNorm
    clipping              for each activation `raw_threshold` and `v_init`
    teacher               variables of the network whose answers are learned
    membrane              for each activation `v`, `step`, `sums` (pooled), and `sent` (signed)
    totals                for each activation `current` and `spikes`, added up over all steps
    spikes                for each activation `count`, and `active` of bursts, of one call
    constant_currents     for some activations `current`, which is the same in every step

The first four are a network's variables; the others are of a simulation.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.typing import ArrayLike

from tcljax.checks import must_be
from tcljax.maths import clipping
from tcljax.maths.inputs import as_numbers
from tcljax.maths.values import check_thresholds, widened

# Collections of variables by name; each is a tree of arrays.
Variables = Mapping[str, Any]
Path = tuple[str, ...]  # of an activation in its network

PARAMS, BATCH_STATS, CLIPPING, TEACHER = "params", "batch_stats", "clipping", "teacher"
COLLECTIONS = (PARAMS, BATCH_STATS, CLIPPING, TEACHER)
MEMBRANE, TOTALS, SPIKES, CONSTANT = "membrane", "totals", "spikes", "constant_currents"


class Thresholds(NamedTuple):
  """What `clipping` holds of one activation.

  Attributes:
    raw_threshold: what stands for tau, see `tcljax.threshold_from_raw`; a scalar or [C].
    v_init: initial potential as a fraction of V_th, in the shape of `raw_threshold`, or with one
      axis more in front where it comes in instalments, see `clipping.instalments`.
  """

  raw_threshold: ArrayLike
  v_init: ArrayLike

  @property
  def tau(self) -> jax.Array:
    """The threshold in activation units, a scalar or [C], in float32 at least."""
    return clipping.threshold_from_raw(widened(self.raw_threshold)[0])

  @property
  def instalments(self) -> jax.Array:
    """The parts of v_init as fractions of V_th, [S] or [S, C]."""
    return clipping.instalments(widened(self.v_init)[0], self.raw_threshold)


RAW_THRESHOLD, V_INIT = Thresholds._fields


class Rates(NamedTuple):
  """What each neuron of one activation did on average: input current and spikes, [B, ...]."""

  current: jax.Array
  spikes: jax.Array


class Membrane(NamedTuple):
  """The state of one activation's neurons while a simulation runs.

  Attributes:
    running: whether the state was there before this call.
    v: potentials, [B, ...].
    step: how many steps were run.
    sums: what maxima are taken of, added up over all steps: spikes of each neuron, or currents
      before the pooling, [B, ...]; None where nothing is pooled.
    sent: spikes of each neuron less those taken back, [B, ...]; None where they take none back.
  """

  running: bool
  v: nn.Variable
  step: nn.Variable
  sums: nn.Variable | None
  sent: nn.Variable | None


def check_variables(variables: Variables) -> None:
  """Raises ValueError unless these are collections by name."""
  if not isinstance(variables, Mapping):
    wanted = "collections by name, as model.init gives them; of a SpikingNetwork network.variables"
    raise ValueError(must_be("variables", variables, wanted))


def as_variables(variables: Variables) -> dict[str, Any]:
  """A network's variables with numbers that JAX keeps as they are; other collections untouched.

  Raises:
    ValueError: naming the array that holds others, see `maths.inputs.as_numbers`.
  """
  check_variables(variables)
  own = {name: held for name, held in variables.items() if name in COLLECTIONS}
  named = lambda path, x: as_numbers(jax.tree_util.keystr(path, simple=True, separator="/"), x)
  return {**variables, **jax.tree_util.tree_map_with_path(named, own)}


def require_clipping(variables: Variables) -> dict[str, Any]:
  """`as_variables` of those that must have thresholds and initial potentials that can be.

  Raises:
    ValueError: if they have none; values are looked at as far as they are known.
  """
  variables = as_variables(variables)
  if CLIPPING not in variables:
    raise ValueError("the variables have no collection 'clipping': run tcljax.calibrate first")
  if not isinstance(variables[CLIPPING], Mapping):
    raise ValueError("the collection 'clipping' holds no thresholds by name: calibrate anew")
  for path, held in _by_path(variables[CLIPPING]).items():
    if not all(isinstance(name, str) for name in (*path, *held)):
      raise ValueError(
        f"the collection 'clipping' has {(*path, *held)} for names, which must be text: calibrate "
        "anew"
      )
    activation = "/".join(path) or next(iter(held))
    if not set(held) >= set(Thresholds._fields):
      raise no_threshold(activation)
    check_thresholds(activation, **{field: held[field] for field in Thresholds._fields})
  return variables


def no_threshold(activation: str) -> ValueError:
  """The error of an activation that the collection `clipping` does not know."""
  return ValueError(
    f"no threshold for activation {activation!r} in the collection 'clipping': run "
    "tcljax.calibrate on this model first"
  )


def has_clipping(variables: Variables) -> bool:
  """Whether the variables have thresholds."""
  return CLIPPING in variables


def new_thresholds(raw_threshold: jax.Array, v_init: float, instalments: int) -> Thresholds:
  """Thresholds of one activation whose initial potential has the same value in every part.

  Args:
    raw_threshold: a scalar or [C].
    v_init: initial potential, or each of its parts, as a fraction of V_th.
    instalments: S, the number of parts.
  """
  parts = (instalments,) if instalments > 1 else ()
  return Thresholds(raw_threshold, jnp.full(parts + raw_threshold.shape, v_init, jnp.float32))


def thresholds_by_path(variables: Variables) -> dict[Path, Thresholds]:
  """The thresholds of every activation, by its path.

  Raises:
    ValueError: if there are none, or one has no initial potential.
  """
  found = {}
  for path, held in _by_path(require_clipping(variables)[CLIPPING]).items():
    if set(held) != set(Thresholds._fields):
      raise no_threshold("/".join(path))
    found[path] = Thresholds(**held)
  return found


def with_thresholds(variables: Variables, thresholds: Mapping[Path, Thresholds]) -> Variables:
  """The variables with these thresholds in place of those that they may have."""
  flat = {
    (*path, field): value
    for path, held in thresholds.items()
    for field, value in held._asdict().items()
  }
  return {**variables, CLIPPING: traverse_util.unflatten_dict(flat)}


def with_float_clipping(variables: Variables) -> Variables:
  """The variables with whole numbers in `clipping` as float32, so that they can be trained."""
  is_float = lambda a: jnp.issubdtype(jnp.result_type(a), jnp.floating)
  as_float = lambda a: a if is_float(a) else jnp.asarray(a, jnp.float32)
  return {**variables, CLIPPING: jax.tree.map(as_float, variables[CLIPPING])}


def thresholds_of(module: nn.Module, make: Callable[[], Thresholds]) -> Thresholds:
  """The thresholds of the activation that is being called; `make` makes them on `init`.

  Raises:
    ValueError: if they are missing.
  """
  if not module.is_initializing() and not module.has_variable(CLIPPING, "raw_threshold"):
    raise no_threshold("/".join(module.path))
  return Thresholds(
    module.variable(CLIPPING, "raw_threshold", lambda: make().raw_threshold).value,
    module.variable(CLIPPING, "v_init", lambda: make().v_init).value,
  )


def membrane_of(
  module: nn.Module, start: Callable[[], jax.Array], pooled: tuple[int, ...] | None, signed: bool
) -> Membrane:
  """The state of the neurons that are being called, made where there is none.

  Args:
    module: the activation.
    start: makes their potentials at rest, [B, ...].
    pooled: shape of what maxima are taken of, [B, ...]; None where nothing is pooled.
    signed: whether the neurons take back what they have sent.
  """
  running = module.has_variable(MEMBRANE, "v")
  v = module.variable(MEMBRANE, "v", start)
  step = module.variable(MEMBRANE, "step", lambda: jnp.zeros((), jnp.int32))
  sums = module.variable(MEMBRANE, "sums", jnp.zeros, pooled, jnp.float32) if pooled else None
  sent = module.variable(MEMBRANE, "sent", lambda: jnp.zeros_like(v.value)) if signed else None
  return Membrane(running, v, step, sums, sent)


def totals_of(module: nn.Module, like: jax.Array) -> dict[str, nn.Variable]:
  """`current` and `spikes` of the neurons that are being called, by name, where they are asked for.

  They begin at zero, in the shape of `like`, [B, ...]. None if the collection is not mutable.
  """
  if not module.is_mutable_collection(TOTALS):
    return {}
  return {name: module.variable(TOTALS, name, jnp.zeros_like, like) for name in Rates._fields}


def leave_spike_count(module: nn.Module, count: jax.Array, active: jax.Array | None) -> None:
  """Leaves the spikes of each step and example, and of bursts how many neurons sent any, [K, B]."""
  leave(module, SPIKES, "count", count)
  if active is not None:
    leave(module, SPIKES, "active", active)


def leave(module: nn.Module, collection: str, name: str, value: Any) -> None:
  """Leaves a value in a collection, where it is mutable; it replaces what was left before."""
  module.sow(collection, name, value, init_fn=lambda: cast(Any, None), reduce_fn=lambda _, new: new)


def take_spikes(state: Variables) -> tuple[Variables, Any]:
  """What a call of a network has left: the state to carry on, and the collection `spikes`."""
  return without(state, SPIKES), state.get(SPIKES, {})


def spike_counts(spikes: Any) -> dict[str, jax.Array]:
  """Of the collection `spikes`: by activation, the spikes of each step and example, [K, B]."""
  return {"/".join(path): held["count"] for path, held in _by_path(spikes).items()}


def potentials(state: Variables) -> dict[str, jax.Array]:
  """Of the state of a simulation: by activation, the potentials, [B, ...]."""
  return {"/".join(path): held["v"] for path, held in _by_path(state.get(MEMBRANE, {})).items()}


def without_broken(logits: jax.Array, state: Variables) -> jax.Array:
  """NaN in place of the answers, [B, ...], of examples with a potential that is not finite.

  A neuron of NaN never fires. Without this, what is not finite in an image or a weight would end in
  an answer like any other.
  """
  for v in potentials(state).values():
    finite = jnp.isfinite(v).all(axis=range(1, v.ndim))
    logits = jnp.where(finite.reshape(-1, *[1] * (logits.ndim - 1)), logits, jnp.nan)
  return logits


def mean_rates(state: Variables, time_steps: int) -> Any:
  """Of the state of a simulation after T steps: the collection `totals`, divided by T."""
  return jax.tree.map(lambda total: total / time_steps, state.get(TOTALS, {}))


def rates_by_path(rates: Any) -> dict[Path, Rates]:
  """What `mean_rates` gave, by the path of each activation."""
  return {path: Rates(**held) for path, held in _by_path(rates).items()}


def teacher_of(variables: Variables) -> Variables | None:
  """The variables of the network whose answers are learned; None if there are none of its own."""
  return variables.get(TEACHER)


def with_teacher(variables: Variables, teacher: Variables) -> Variables:
  """The variables with these ones as their teacher's."""
  return {**variables, TEACHER: teacher}


def without(variables: Variables, collection: str) -> Variables:
  """The variables without one of their collections."""
  return {name: tree for name, tree in variables.items() if name != collection}


def _by_path(collection: Any) -> dict[Path, dict[str, Any]]:
  """What a collection holds of each activation, by its path."""
  found: dict[Path, dict[str, Any]] = {}
  for (*path, field), value in traverse_util.flatten_dict(collection).items():
    found.setdefault(tuple(path), {})[field] = value
  return found
