"""How an example becomes the input of every time step."""

import jax
import jax.numpy as jnp

from tcljax.checks import check_choice
from tcljax.maths.inputs import as_floats, check_keys
from tcljax.maths.shapes import check_axes

ENCODINGS = ("constant", "poisson")


def poisson_spikes(key: jax.Array, x: jax.Array) -> jax.Array:
  """One step of Poisson (Bernoulli) input: spikes whose mean is the example.

  Args:
    key: random key.
    x: one example, any shape, of either sign.

  Returns:
    sign(x) * max|x| with probability |x| / max|x|, else 0; in the shape of `x`. NaN of an example
    that is not finite, which else would never fire.
  """
  height = jnp.max(jnp.abs(x))
  fires = jax.random.uniform(key, x.shape) * height < jnp.abs(x)
  return jnp.where(jnp.isfinite(height), jnp.where(fires, jnp.sign(x) * height, 0.0), jnp.nan)


def frames(
  x: jax.Array, keys: jax.Array | None, first_step: jax.Array, time_steps: int, encoding: str
) -> jax.Array:
  """The input of `time_steps` time steps from `first_step` on, folded into the batch, step-major.

  Args:
    x: examples, [B, ...].
    keys: random keys, [B], for "poisson".
    first_step: number of the first of these steps, from 0; it may be traced.
    time_steps: K.
    encoding: "constant" or "poisson".

  Returns:
    [K*B, ...]. A constant input depends on no step, and XLA moves what the first layer makes of it
    out of the loop over time.

  Raises:
    ValueError: on an unknown encoding, inputs that are no real numbers, keys that are not one for
      each example, or if "poisson" comes without any.
  """
  check_choice("encoding", encoding, ENCODINGS)
  check_axes("x", x, 1, "[B, ...]")
  check_keys(keys, len(x))
  x = as_floats("x", x)  # of int8 the magnitude of -128 is none
  if encoding == "constant":
    every = jnp.broadcast_to(x, (time_steps, *x.shape))
  else:
    if keys is None:
      raise ValueError("encoding='poisson' needs keys: one random key for each example")

    def frame(t):
      return jax.vmap(lambda key, image: poisson_spikes(jax.random.fold_in(key, t), image))(keys, x)

    every = jax.vmap(frame)(first_step + jnp.arange(time_steps))
  return every.reshape(-1, *x.shape[1:])
