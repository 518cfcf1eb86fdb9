"""How kernels of neurons cut the arrays of a layer into blocks."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

# The best of 512 to 2,048 neurons and 4 or 8 warps on an H100, over two layers, both precisions,
# forward and gradient.
_NEURONS = 1024  # of a block
WARPS = 4
_ROWS = 16  # of a block at most, where channels are many


class Tiles:
  """How [K, B, P, C] is cut: a block has all K steps of some places and channels of an example.

  Args:
    shape: of the spikes.
    same: whether the currents are the same in every step, [1, B, P, C].
  """

  def __init__(self, shape: tuple[int, ...], same: bool) -> None:
    self.steps, batch, self.places, self.width = shape
    self.same = same
    rows = min(pl.next_power_of_2(self.places), _ROWS)
    self.columns = min(pl.next_power_of_2(self.width), _NEURONS // rows)
    self.rows = min(pl.next_power_of_2(self.places), _NEURONS // self.columns)
    self.grid = (batch, pl.cdiv(self.places, self.rows), pl.cdiv(self.width, self.columns))
    k, r, c = self.steps, self.rows, self.columns
    self.by_step = pl.BlockSpec((k, None, r, c), lambda b, i, j: (0, b, i, j))
    self.currents = pl.BlockSpec((1 if same else k, None, r, c), lambda b, i, j: (0, b, i, j))
    self.neurons = pl.BlockSpec((None, r, c), lambda b, i, j: (b, i, j))
    self.channels = pl.BlockSpec((c,), lambda b, i, j: (j,))
    self.step_channels = pl.BlockSpec((k, c), lambda b, i, j: (0, j))
    self.step_example = pl.BlockSpec((k, None), lambda b, i, j: (0, b))
    self.count = pl.BlockSpec((k, None, None, None), lambda b, i, j: (0, b, i, j))
    self.channel_part = pl.BlockSpec((None, None, c), lambda b, i, j: (b, i, j))
    self.step_channel_part = pl.BlockSpec((k, None, None, c), lambda b, i, j: (0, b, i, j))

  def masks(self) -> tuple[Any, Any]:
    """Which neurons of this block there are, [rows, columns], and which channels, [columns]."""
    row = pl.program_id(1) * self.rows + jax.lax.iota(jnp.int32, self.rows)
    column = pl.program_id(2) * self.columns + jax.lax.iota(jnp.int32, self.columns)
    present = column < self.width
    return (row < self.places)[:, None] & present[None, :], present
