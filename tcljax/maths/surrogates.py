"""The spike, and surrogate gradients: what stands in for its derivative, zero or infinite."""

import functools
import math
import numbers

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from tcljax.checks import check_choice
from tcljax.maths.inputs import as_numbers

# Shapes of the surrogate derivative at width 1. Each integrates to 1 over the real line, so that
# the smooth function it is the derivative of steps from 0 to 1 as the spike does.
_SURROGATES = {
  "triangle": lambda u: jnp.maximum(0.0, 1.0 - jnp.abs(u)),
  "rectangle": lambda u: jnp.where(jnp.abs(u) <= 1.0, 0.5, 0.0),
  "sigmoid": lambda u: jax.nn.sigmoid(u) * jax.nn.sigmoid(-u),
  "arctan": lambda u: 0.5 / (1.0 + jnp.square(0.5 * math.pi * u)),
}
SURROGATES = tuple(_SURROGATES)


def check_surrogate(surrogate: str, width: float) -> None:
  """Raises ValueError on an unknown surrogate or a width that is not positive."""
  check_choice("surrogate", surrogate, SURROGATES)
  if not (isinstance(width, numbers.Real) and 0 < width < math.inf):
    raise ValueError(f"width={width!r} must be positive (in units of the threshold)")


def surrogate_derivative(
  u: ArrayLike, surrogate: str = "triangle", width: float = 1.0
) -> jax.Array:
  """Derivative h(u) that stands in for that of the unit step at u = 0.

  Args:
    u: normalised distance to the threshold, (v - threshold) / threshold, any shape.
    surrogate: "triangle" max(0, 1 - |u/w|) / w (Bellec et al., 2018), "rectangle" 1 / (2w) for
      |u| <= w (Wu et al., 2018), "sigmoid" s(u/w) (1 - s(u/w)) / w (Zenke & Ganguli, 2018) or
      "arctan" 1 / (2w (1 + (pi u / 2w)^2)) (Fang et al., 2021).
    width: w, in units of the threshold.

  Returns:
    h(u), in the shape of `u`, per unit of u.

  Raises:
    ValueError: on an unknown surrogate, a width that is not positive, or no real numbers.

  Examples:
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> u = jnp.array([-2.0, -0.5, 0.0, 0.5])
    >>> tcljax.surrogate_derivative(u, "triangle").tolist()
    [0.0, 0.5, 1.0, 0.5]
  """
  check_surrogate(surrogate, width)
  return _SURROGATES[surrogate](jnp.asarray(as_numbers("u", u)) / width) / width


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def differentiable_spike(
  v: jax.Array, threshold: jax.Array, surrogate: str, width: float, edge: float = 1.0
) -> jax.Array:
  """`tcljax.spike` of arguments that are checked already and of one type.

  Args:
    v: as in `tcljax.spike`.
    threshold: as in `tcljax.spike`.
    surrogate: as in `tcljax.spike`.
    width: as in `tcljax.spike`.
    edge: at which multiple of the threshold the neuron fires.
  """
  del surrogate, width  # they shape the derivative alone
  return (v >= edge * threshold).astype(v.dtype)


@differentiable_spike.defjvp
def _spike_jvp(surrogate, width, edge, primals, tangents):
  v, threshold = primals
  v_dot, threshold_dot = tangents
  spikes = differentiable_spike(v, threshold, surrogate, width, edge)
  # The spike depends on v / threshold alone; differentiating that ratio keeps the surrogate exact
  # under a change of units: scaling v and the threshold together leaves the spike where it is.
  ratio_dot = v_dot / threshold - threshold_dot * v / jnp.square(threshold)
  slope = surrogate_derivative(v / threshold - edge, surrogate, width)
  return spikes, (slope * ratio_dot).astype(spikes.dtype)
