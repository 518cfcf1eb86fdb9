"""The values of arrays, checked where they are known, and the precision in which they are added up.

While a function is traced there are no values: a compiled function has none of these checks.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def check_threshold(threshold: ArrayLike) -> None:
  """Raises ValueError if a threshold, or one of several, is known not to be finite and above 0."""
  _check("threshold", threshold, lambda x: np.isfinite(x) & (x > 0), "finite and above 0")


def check_v_init(v_init: ArrayLike) -> None:
  """Raises ValueError if an initial potential is known not to be finite."""
  _check("v_init", v_init, np.isfinite, "finite")


def _check(name, x, holds, wanted):
  try:
    known = np.asarray(x)
  except (jax.errors.TracerArrayConversionError, RuntimeError):  # traced; or parts on other hosts
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
