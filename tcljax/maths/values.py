"""The values of arrays, checked where they are known, and the precision in which they are added up.

While a function is traced there are no values: a compiled function has none of these checks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from tcljax.checks import check_number, in_a_line
from tcljax.maths.inputs import as_numbers


def check_threshold(threshold: ArrayLike) -> None:
  """Raises ValueError if a threshold, or one of several, is known not to be finite and above 0."""
  as_numbers("threshold", threshold)
  _check("threshold", threshold, lambda x: np.isfinite(x) & (x > 0), "finite and above 0")


def check_bound(bound: Any) -> None:
  """Raises ValueError unless an activation can have this upper limit, in float32 too."""
  check_number("bound", bound)
  of = np.finfo(np.float32)
  if isinstance(bound, (bool, np.bool_)) or not float(of.tiny) <= bound <= float(of.max):
    raise ValueError(f"bound={in_a_line(bound)} must be a finite number above 0, such as 6.0")


def check_raw_threshold(activation: str, raw: ArrayLike) -> None:
  """Raises ValueError if softplus(raw) is known to be NaN, infinite, or nothing in float32."""
  known = _known(raw)
  if known is None:
    return
  if not np.isfinite(known).all():
    raise ValueError(f"activation {activation!r} has a threshold that is not finite: calibrate it")
  if not (np.logaddexp(known.astype(np.float64), 0) >= np.finfo(np.float32).tiny).all():
    raise ValueError(
      f"activation {activation!r} has a threshold of 0, as raw_threshold={np.min(known):.4g} is "
      "too far below 0: calibrate it anew"
    )


def check_thresholds(activation: str, raw_threshold: ArrayLike, v_init: ArrayLike) -> None:
  """Raises ValueError unless a layer can have this threshold and this initial potential.

  Args:
    activation: of the layer, for the message.
    raw_threshold: what stands for tau, a scalar or [C].
    v_init: in the shape of `raw_threshold`, or with one axis of instalments more in front.
  """
  for name, array in (("raw_threshold", raw_threshold), ("v_init", v_init)):
    if not _are_real_numbers(array):
      kind = getattr(array, "dtype", type(array).__name__)
      raise ValueError(
        f"activation {activation!r} has a {name} of type {kind}: it must be a number or an array "
        "of real numbers; calibrate anew"
      )
  shape, parts = np.shape(raw_threshold), np.shape(v_init)
  if len(shape) > 1 or 0 in shape:
    raise ValueError(
      f"activation {activation!r} has a raw_threshold of shape {shape}: it must be a scalar or "
      "[C], one value a channel; calibrate anew"
    )
  if 0 in parts or parts[len(parts) - len(shape) :] != shape or len(parts) > len(shape) + 1:
    raise ValueError(
      f"activation {activation!r} has a v_init of shape {parts}: it must have that of "
      f"raw_threshold, {shape}, or one axis of instalments more in front; calibrate anew"
    )
  check_raw_threshold(activation, raw_threshold)


def _are_real_numbers(array):
  if not hasattr(array, "dtype"):
    return isinstance(array, (int, float)) and not isinstance(array, bool)
  return any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.integer, jnp.floating))


def check_v_init(v_init: ArrayLike) -> None:
  """Raises ValueError if an initial potential is known not to be finite."""
  as_numbers("v_init", v_init)
  _check("v_init", v_init, np.isfinite, "finite")


def _known(x):
  try:
    return np.asarray(x)
  except (jax.errors.TracerArrayConversionError, RuntimeError):  # traced; or parts on other hosts
    return None


def _check(name, x, holds, wanted):
  if (known := _known(x)) is None:
    return
  good = holds(known)
  if not good.all():
    bad = known if not known.ndim else known[~good][0]
    raise ValueError(f"{name}{'=' if not known.ndim else ' holds '}{bad} and must be {wanted}")


def floating_type(*arrays: ArrayLike) -> np.dtype:
  """That in which such arrays go together in floating point; float32 for integers."""
  dtype = jnp.result_type(*map(jnp.asarray, arrays))
  return dtype if jnp.issubdtype(dtype, jnp.inexact) else np.dtype(np.float32)


def widened(*arrays: ArrayLike) -> list[jax.Array]:
  """Arrays in one type of floating point, that of the widest and float32 at least.

  Sums over time need it: in bfloat16 256 and 0.75 are 256.
  """
  held = [jnp.asarray(a) for a in arrays]
  dtype = jnp.promote_types(jnp.result_type(*held), jnp.float32)
  return [a.astype(dtype) for a in held]
