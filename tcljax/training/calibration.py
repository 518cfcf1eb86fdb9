"""First thresholds for a network, from the activations it has on real inputs."""

import functools
import math
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from tcljax.checks import (
  check_batches,
  check_choice,
  check_count,
  check_number,
  check_percentile,
)
from tcljax.graph import check_convertible
from tcljax.kernels import xla_options
from tcljax.layers.activations import Activation, check_model, with_activation
from tcljax.layers.collections import (
  CLIPPING,
  Path,
  Variables,
  as_variables,
  check_variables,
  leave,
  new_thresholds,
  thresholds_by_path,
  with_thresholds,
  without,
)
from tcljax.layers.inputs import told_of_inputs
from tcljax.maths import clipping
from tcljax.maths.encoding import as_simulated, constant_input, of_one_step
from tcljax.maths.histogram import (
  LIMIT,
  Histogram,
  histogram,
  least_squares_threshold,
  percentile_threshold,
)
from tcljax.maths.inputs import as_floats, check_all_finite, check_variables_finite
from tcljax.maths.trees import Tree, count, map_named, on_device, without_batch
from tcljax.simulation.settings import SpikingConfig, check_spiking
from tcljax.training.delivered import for_delivered_currents, remembered

DELIVERED = "delivered"
METHODS = ("percentile", "maximum", "least_squares", DELIVERED)


class _Observed(Activation):
  """ReLU that leaves a histogram of what it passes on.

  Where it pools, that is the largest of each window: what the others are clipped or rounded to
  reaches no layer.
  """

  per_channel: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    self.check_name()
    self.check_first_use("observed", "histogram")
    x = self.activate(self.pooled(x))
    bound = math.inf if self.bound is None else self.bound
    leave(self, "observed", "histogram", (histogram(x, self.per_channel), bound))
    return x


class CalibrationError(ValueError):
  """A network whose activations give no thresholds: not finite, out of range, or all dead."""


def usual_instalments(method: str, time_steps: int) -> int:
  """In how many parts initial potentials come where nobody says; enough to wait for T / 2."""
  return max(8, time_steps // 2 + 1) if method == DELIVERED else 8


def check_calibration(
  method: str, percentile: float, v_init: float, instalments: int | None
) -> None:
  """Raises ValueError on an unknown method or on values it cannot work with."""
  check_choice("method", method, METHODS)
  check_percentile(percentile)
  check_number("v_init", v_init)
  if not math.isfinite(v_init):
    raise ValueError(f"v_init={v_init} must be finite, such as 0.5")
  if instalments is not None:
    check_count("instalments", instalments, 1)


def calibrate(
  model: nn.Module,
  variables: Variables,
  batches: Iterable[Any],
  spiking: SpikingConfig = SpikingConfig(),
  *,
  method: str = "least_squares",
  percentile: float = 99.9,
  per_channel: bool = True,
  v_init: float = 0.25,
  instalments: int | None = None,
) -> Variables:
  """Sets the thresholds of every activation from real inputs.

  One pass; memory does not grow with the number of batches (`tcljax.maths.histogram`).

  The defaults are a start for `tcljax.tune`. Without tuning, method="delivered" is better, by far
  in deep networks; it takes minutes. Of the others `v_init=0.5` with `instalments=1`
  is then better (benchmarks/results/defaults.md).

  Args:
    model: a network with a field `act`.
    variables: its trained variables; a collection `clipping` already there is replaced.
    batches: inputs [B, ...] as the network takes them, from the training set, without labels;
      integers and booleans are taken as float32. Where `spiking` has encoding="frames", each is
      [T, B, ...], and the activations are those of the mean of the T frames. Of a network that
      takes several arrays, each batch is a tuple or dictionary of them.
    spiking: the simulation that the thresholds are for; "least_squares" knows its T and
      how many levels a neuron has in these steps.
    method: the threshold of "least_squares" error of the T-step quantized activation, the
      "percentile" of the activations (Rueckauer et al., 2017), or their "maximum" (Diehl et al.,
      2015). Where a percentile is zero, of what is seldom active, a channel takes that of its
      layer, and a layer its maximum. "delivered" starts with "least_squares" and goes through the
      layers once more: each takes the threshold and initial potential with the least squared error
      of its T-step firing rates, on the currents that the spiking layers before it deliver
      (`training.delivered`), on up to 256 inputs. The error of what it has said on the way counts a
      little, too.
    percentile: in (0, 100), for method="percentile".
    per_channel: one threshold a channel (the last axis) instead of one a layer. A channel that
      never was active takes the threshold of its whole layer, and a layer that never was the
      largest of all layers, or its `bound`: as that of LeakyReLU's negative side, on data without
      negative numbers. `tcljax.diagnose` tells which ones are `dead`.
    v_init: initial membrane potential as a fraction of V_th, or each of its parts. One
      half in one part rounds to nearest, the best for a constant current; less waits for more of a
      current that varies. "delivered" chooses it.
    instalments: S: `v_init` gets parts that are added before each of the first S steps, see
      `clipping.instalments`; every part starts at the given value. Neurons can then wait at first
      and still round to nearest in the end, which is worth most at few steps. "delivered" uses the
      first and one more: a layer can wait for a quarter or half of the steps, but no longer than
      until the last part. None takes 8 parts, or for "delivered" T // 2 + 1 if that is more.

  Returns:
    The variables with the collection `clipping`: for each activation `raw_threshold` and
    `v_init`, scalars or [C], the latter [S] or [S, C] if it comes in S > 1 instalments.

  Raises:
    ValueError: on an unknown method, a percentile outside (0, 100), no batches, NaN or infinity in
      inputs or variables, inputs that are no real numbers or other ones in JAX, or a model that
      `tcljax.convert` would refuse, such as one without a field `act`.
    CalibrationError: on activations that are not finite or beyond 1.7e7, or a layer that never was
      active in a network that gives all inputs the same answer.

  Examples:
    >>> import jax
    >>> import numpy as np
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=())
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> trained = model.init(jax.random.key(1), images)
    >>> variables = tcljax.calibrate(model, trained, [images], method="maximum")
    >>> clipped = model.clone(act=tcljax.TCL).apply(variables, images)
    >>> bool(abs(clipped - model.apply(trained, images)).max() < 1e-5)  # nothing lies above
    True
  """
  check_model(model)
  check_spiking(spiking)
  if instalments is None:
    instalments = usual_instalments(method, spiking.time_steps)
  check_calibration(method, percentile, v_init, instalments)
  check_batches(batches)
  check_variables(variables)
  if method == DELIVERED:
    kept: list[Any] = []
    first = calibrate(
      model,
      variables,
      remembered(batches, spiking, kept),
      spiking,
      per_channel=per_channel,
      v_init=0.5,
      instalments=1,
    )
    return for_delivered_currents(model, first, kept, spiking, per_channel, instalments)
  network = with_activation(model, functools.partial(_Observed, per_channel=per_channel))

  @xla_options.Jitted
  def observe(variables, x):
    x = as_floats("batches", x)
    x = constant_input(x, spiking.encoding, time_axis=0)
    return network.apply(variables, x, mutable=["observed"])[1]["observed"]

  # Without what earlier thresholds may hold, as new ones take their place.
  trained = as_variables(without(variables, CLIPPING))
  check_variables_finite(trained)
  trained = on_device(trained)
  totals: dict[Path, Histogram] = {}
  bounds: dict[Path, float] = {}
  shapes = []
  largest, examples = None, 0  # of the batches
  for batch in batches:
    batch = as_simulated("batches", batch, spiking.encoding, spiking.time_steps)
    given = of_one_step(batch, spiking.encoding)
    if (shape := without_batch(given)) not in shapes:
      check_convertible(model, trained, shape)
      shapes.append(shape)
    map_named(check_all_finite, "batches", batch)
    with told_of_inputs(model, trained, given):
      left = jax.device_get(observe(trained, batch))
    observed: dict[Path, Any] = traverse_util.flatten_dict(left)
    for (*path, _), (new, bound) in observed.items():
      new = Histogram(new.counts.astype(np.int64), new.maximum)
      totals[tuple(path)] = totals[tuple(path)] + new if tuple(path) in totals else new
      bounds[tuple(path)] = float(bound)
    if count(given) > examples:
      largest, examples = batch, count(given)
  if not totals:
    raise ValueError("batches is empty: give inputs to calibrate on, such as [images]")

  def choose(activations):
    if method == "percentile":
      return percentile_threshold(activations, percentile)
    if method == "maximum":
      return np.asarray(activations.maximum, np.float64)
    return least_squares_threshold(activations, spiking.levels, v_init / spiking.neuron.grain)

  chosen = {}
  for path, activations in totals.items():
    name = "/".join(path)
    if not np.isfinite(activations.maximum).all():
      raise CalibrationError(f"activation {name!r} is not finite on the calibration inputs")
    if activations.maximum.max() >= LIMIT:
      raise CalibrationError(
        f"activation {name!r} reaches {activations.maximum.max():.3g}, more "
        f"than {LIMIT:.3g}: scale the inputs or the weights down"
      )
    thresholds = choose(activations)
    if (
      activations.maximum.max() > 0 and not thresholds.all()
    ):  # dead, or so seldom active that the percentile is zero
      layer = Histogram(
        activations.counts.sum(axis=0, keepdims=True), activations.maximum.max(keepdims=True)
      )
      thresholds = np.where(thresholds > 0, thresholds, choose(layer)[0] or layer.maximum[0])
    chosen[path] = thresholds
  silent = [path for path, thresholds in chosen.items() if not thresholds.any()]
  if silent:
    if len(silent) == len(chosen) or _answers_alike(network, trained, largest, spiking):
      raise CalibrationError(
        f"activation {'/'.join(silent[0])!r} never is above zero on these inputs: "
        "the network is dead there, no threshold can be found"
      )
    most = max(thresholds.max() for thresholds in chosen.values())
    chosen |= {path: np.full_like(chosen[path], min(most, bounds[path])) for path in silent}
  found = {}
  for path, thresholds in chosen.items():
    tau = jnp.asarray(thresholds if per_channel else thresholds[0], jnp.float32)
    found[path] = new_thresholds(clipping.raw_from_threshold(tau), v_init, instalments)
  return with_thresholds(variables, found)


def _answers_alike(
  network: nn.Module, variables: Variables, batch: Tree, spiking: SpikingConfig
) -> bool:
  """Whether a network gives all inputs of a batch the same answer; of one input it is not known."""
  x = constant_input(as_floats("batches", batch), spiking.encoding, time_axis=0)
  outputs, _ = network.apply(variables, x, mutable=["observed"])
  leaves = jax.tree.leaves(jax.device_get(outputs))
  return count(x) > 1 and all((leaf == leaf[:1]).all() for leaf in leaves)


def thresholds(variables: Variables) -> dict[str, np.ndarray]:
  """tau of every activation, by its path: scalars or [C], in activation units.

  Where an activation has a `bound` that is smaller, that is its threshold. `calibrate` sets none
  above it.

  Raises:
    ValueError: if the variables have no collection `clipping`.

  Examples:
    >>> import jax
    >>> import tcljax
    >>> model = tcljax.CNN(num_classes=3, stages=((4,),), dense=())
    >>> images = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
    >>> variables = model.init(jax.random.key(1), images)
    >>> variables = tcljax.calibrate(model, variables, [images])
    >>> {name: tau.shape for name, tau in tcljax.thresholds(variables).items()}  # one a channel
    {'act1_1': (4,)}
  """
  return {
    "/".join(path): np.asarray(held.tau) for path, held in thresholds_by_path(variables).items()
  }
