"""Kernels of neurons: how the arrays of a layer are cut into blocks, and what is done with a block.

`kind` is what is fixed when a kernel is compiled, `fire.Kind`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from tcljax.maths.surrogates import surrogate_derivative

try:
  from jax.experimental.pallas import triton as _triton
except ImportError:  # it is deprecated from jax 0.12 on
  _triton = None
triton: Any = _triton

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


def forward(x_ref, tau_ref, charge_ref, *refs, tiles, kind):
  """Spikes, last potentials and counts of a block; with `kind.total` also of each neuron."""
  held = len(refs) - 3 - kind.total  # whether there are potentials to begin with
  spike_ref, last_ref, count_ref, *total_ref = refs[held:]
  there, channels = tiles.masks()
  tau = triton.load(tau_ref.at[:], mask=channels, other=1.0)[None, :]
  v = total = jnp.zeros((tiles.rows, tiles.columns), jnp.float32)
  for ref in refs[:held]:
    v = triton.load(ref.at[:, :], mask=there, other=0.0)
  for k, current in enumerate(_currents(x_ref, charge_ref, tiles, there, channels)):
    v = v + current
    fired = (v >= tau) & there
    spikes = jnp.where(fired, 1.0 if kind.unit else tau, 0.0)
    triton.store(spike_ref.at[np.int32(k)], spikes.astype(spike_ref.dtype), mask=there)
    count_ref[k] = jnp.sum(fired.astype(jnp.float32))
    total = total + fired.astype(jnp.float32)
    # An infinite potential becomes NaN by a hard reset, as in `if_step`, and is not forgotten.
    v = jnp.where(fired, v - tau if kind.neuron.reset == "soft" else v * 0.0, v)
  triton.store(last_ref.at[:, :], v, mask=there)
  for ref in total_ref:
    triton.store(ref.at[:, :], total, mask=there)


def backward(x_ref, tau_ref, charge_ref, *refs, tiles, kind, held, last):
  """Gradients to the inputs, from those to the outputs; as `neurons._backward`.

  `held` and `last` say whether there are potentials to begin with, and gradients to the last ones.
  """
  to_spike_ref, to_count_ref, *refs = refs
  there, channels = tiles.masks()
  tau = triton.load(tau_ref.at[:], mask=channels, other=1.0)[None, :]
  none = jnp.zeros((tiles.rows, tiles.columns), jnp.float32)
  v, to_v, to_total = (
    triton.load(refs.pop(0).at[:, :], mask=there, other=0.0) if given else none
    for given in (held, last, kind.total)
  )
  to_x_ref, to_tau_ref, to_charge_ref, *to_v_ref = refs
  neuron, height = kind.neuron, 1.0 if kind.unit else tau
  soft = neuron.reset == "soft"
  compared = []
  for current in _currents(x_ref, charge_ref, tiles, there, channels):
    v = v + current
    compared.append(v)
    v = jnp.where(v >= tau, v - tau if soft else 0.0, v)
  per_tau, to_tau, to_x = 1.0 / tau, none, none
  for k in reversed(range(tiles.steps)):
    v = compared[k]
    fired, ratio = v >= tau, v * per_tau
    to_output = triton.load(to_spike_ref.at[np.int32(k)], mask=there, other=0.0).astype(jnp.float32)
    # The spike acts on the output, on the counts and on the potential it resets.
    to_counts = to_count_ref[k] + to_total
    to_spike = to_output * height + to_counts - to_v * (tau if soft else v)
    derivative = surrogate_derivative(ratio - 1.0, neuron.surrogate, neuron.width)
    slope = to_spike * derivative * per_tau
    to_tau = to_tau - slope * ratio
    if not kind.unit:
      to_tau = to_tau + jnp.where(fired, to_output, 0.0)
    if soft:
      to_tau = to_tau - jnp.where(fired, to_v, 0.0)
      to_v = to_v + slope
    else:
      to_v = jnp.where(fired, 0.0, to_v) + slope
    to_x = to_x + to_v if tiles.same else to_v
    if not (tiles.same and k):
      triton.store(to_x_ref.at[np.int32(k)], to_x.astype(to_x_ref.dtype), mask=there)
    to_charge = jnp.sum(jnp.where(there, to_v, 0.0), axis=0)
    triton.store(to_charge_ref.at[np.int32(k)], to_charge, mask=channels)
  for ref in to_v_ref:
    triton.store(ref.at[:, :], to_v, mask=there)
  triton.store(to_tau_ref.at[:], jnp.sum(jnp.where(there, to_tau, 0.0), axis=0), mask=channels)


def _currents(x_ref, charge_ref, tiles, there, channels):
  """The currents of each step of a block, with what is added in it."""
  x = None
  for k in range(tiles.steps):
    if not (tiles.same and k):
      x = triton.load(x_ref.at[np.int32(k)], mask=there, other=0.0).astype(jnp.float32)
    yield x + triton.load(charge_ref.at[np.int32(k)], mask=channels, other=0.0)[None, :]
