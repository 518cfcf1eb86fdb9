"""Checks of ranks and shapes: made while a function is traced, so that a compiled one has none.

Each raises ValueError with one line that names the argument, its shape and the shape it must have.
"""

import contextlib
from collections.abc import Iterator

import chex
import jax.numpy as jnp
from jax.typing import ArrayLike


def check_axes(name: str, x: ArrayLike, least: int, layout: str) -> None:
  """Raises ValueError unless `x` has at least so many axes.

  Args:
    name: of the argument.
    x: the argument.
    least: number of axes.
    layout: what the axes are, such as "[T, B, ...]"; for the message.
  """
  with _told(f"{name} has shape {jnp.shape(x)} and must be {layout}"):
    chex.assert_shape(x, (None,) * least + (...,))


def check_shape(name: str, x: ArrayLike, expected: tuple[int, ...], source: str) -> None:
  """Raises ValueError unless `x` has the expected shape.

  Args:
    name: of the argument.
    x: the argument.
    expected: the shape.
    source: whose shape that is, such as "v"; for the message.
  """
  with _told(f"{name} has shape {jnp.shape(x)} and must have that of {source}, {expected}"):
    chex.assert_shape(x, expected)


def check_broadcasts(name: str, x: ArrayLike, shape: tuple[int, ...], source: str) -> None:
  """Raises ValueError unless `x` broadcasts to `shape`, the shape of `source`."""
  with _told(
    f"{name} has shape {jnp.shape(x)}, which does not broadcast to that of {source}, {shape}"
  ):
    chex.assert_is_broadcastable(jnp.shape(x), shape)


def check_per_channel(name: str, x: ArrayLike, of: ArrayLike) -> None:
  """Raises ValueError unless `x` is a scalar or [C], C being the size of the last axis of `of`."""
  shape, channels = jnp.shape(x), jnp.shape(of)[-1:]
  wanted = f"a scalar or {channels}, one value a channel" if channels else "a scalar"
  with _told(f"{name} has shape {shape} and must be {wanted}"):
    chex.assert_shape(x, channels if shape else ())


@contextlib.contextmanager
def _told(message: str) -> Iterator[None]:
  """Says what is wrong in the words of the function called, not in those of chex."""
  try:
    yield
  except AssertionError:
    raise ValueError(message) from None
