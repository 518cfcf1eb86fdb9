"""Binary integrate-and-fire neurons on GPUs: K steps of a layer in one pass over its arrays.

XLA computes the unrolled chain of potentials again for each step that reads it. Here a block of
neurons stays in registers for all K steps: each current is read once, each spike is written once,
and potentials are read and written once in K steps. The way back recomputes the potentials from the
currents, so that nothing but the currents is kept for it.

The kernels are written in Pallas and compiled by Triton. `tcljax.maths.neurons` is their reference;
tests hold them against it, forward and gradient, in Pallas's interpreter.
"""

import functools
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from tcljax.kernels import targets
from tcljax.kernels.tiles import WARPS, Tiles
from tcljax.maths.neurons import integrate
from tcljax.maths.spikes import Neuron
from tcljax.maths.sums import repeat_first, sum_over_first
from tcljax.maths.surrogates import surrogate_derivative

try:
  from jax.experimental.pallas import triton as _triton
except ImportError:  # it is deprecated from jax 0.12 on
  _triton = None
triton: Any = _triton

MOST_STEPS = 32  # each step is written out in the kernel, whose compilation grows with it


def serves(steps: int, neuron: Neuron) -> bool:
  """Whether the device at hand runs these kernels, for so many steps of such neurons at a time."""
  fits = neuron.is_binary and steps <= MOST_STEPS
  return fits and targets.platform() == "gpu" and _has_triton()


def _has_triton() -> bool:
  """Whether JAX writes kernels for Triton, and this GPU runs them: from Ampere, 8.0, on."""
  if triton is None:
    return False
  capability = getattr(targets.devices_of_a_host()[0], "compute_capability", "")
  return bool(re.fullmatch(r"\d+\.\d+", capability)) and float(capability) >= 8


def fire(
  currents: jax.Array,
  v: jax.Array,
  threshold: jax.Array,
  charges: jax.Array,
  neuron: Neuron,
  unit: bool = False,
  total: bool = False,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
  """Runs K steps of neurons, and counts their spikes.

  Args:
    currents: input currents, [K, B, ..., C], in the precision of the layers; [1, B, ..., C] where
      they are the same in every step.
    v: potentials before the first step, [B, ..., C], float32.
    threshold: V_th > 0, [1] or [C], float32.
    charges: what is added to the currents of each step, [K, 1] or [K, C], float32.
    neuron: reset and surrogate gradient.
    unit: whether spikes have the height 1 in place of tau.
    total: whether the spikes of each neuron are wanted.
    interpret: whether Pallas's interpreter runs the kernels, which every device has. Otherwise a
      program for another platform than CUDA has the reference in their place.

  Returns:
    Spikes [K, B, ..., C] in the precision of `currents`, the potentials after the last step, the
    number of spikes of each step and example, [K, B], and that of each neuron in all K steps,
    [B, ..., C], or None; all but the first are float32.
  """
  steps, (batch, *places, channels) = len(charges), v.shape
  flat = (batch, math.prod(places), channels)
  fired: Any = _fire(
    currents.reshape(-1, *flat),
    v.reshape(flat),
    jnp.broadcast_to(threshold, (channels,)),
    jnp.broadcast_to(charges, (steps, channels)),
    _Kind(neuron, unit, total, interpret),
  )
  spikes, last, counts, *totals = fired
  summed = totals[0].reshape(v.shape) if total else None
  return spikes.reshape(steps, *v.shape), last.reshape(v.shape), counts, summed


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _fire(currents, v, threshold, charges, kind):
  return _fired((currents, v, threshold, charges), kind, in_place=True)


def _fire_forward(currents, v, threshold, charges, kind):
  given = currents, v, threshold, charges  # all of it is kept for the way back
  return _fired(given, kind, in_place=False), given


def _fired(given, kind, in_place):
  run = functools.partial(_run_kernel, kind=kind, in_place=in_place)
  if kind.interpret:
    return run(*given)
  reference = functools.partial(_reference, kind=kind)
  return jax.lax.platform_dependent(*given, cuda=run, default=reference)


def _fire_backward(kind, given, cotangents):
  run = functools.partial(_run_gradient, kind=kind)
  if kind.interpret:
    return run(given, cotangents)

  def reference(given, cotangents):
    return jax.vjp(functools.partial(_reference, kind=kind), *given)[1](cotangents)

  return jax.lax.platform_dependent(given, cotangents, cuda=run, default=reference)


_fire.defvjp(_fire_forward, _fire_backward)


def _reference(currents, v, threshold, charges, kind):
  """What the kernels compute, on [K, B, P, C], by `integrate`."""
  tau = threshold[None, None]
  wide = currents.astype(jnp.float32)
  if len(currents) < len(charges):
    wide = repeat_first(wide[0], len(charges))
  charged = wide + charges[:, None, None]
  spikes, last = integrate(charged, v, tau, kind.neuron)
  passed = spikes if kind.unit else spikes * tau[None]
  found = passed.astype(currents.dtype), last, spikes.sum(axis=(2, 3))
  return (*found, sum_over_first(spikes)) if kind.total else found


def _run_kernel(currents, v, threshold, charges, kind, in_place):
  """The outputs of `_reference`; `in_place` writes the last potentials where the first were."""
  tiles = _tiles_of(currents, charges)
  spikes, last, counts, *totals = pl.pallas_call(
    functools.partial(_forward, tiles=tiles, kind=kind),
    grid=tiles.grid,
    in_specs=[tiles.currents, tiles.neurons, tiles.channels, tiles.step_channels],
    out_specs=[tiles.by_step, tiles.neurons, tiles.count, *[tiles.neurons] * kind.total],
    out_shape=[
      jax.ShapeDtypeStruct((tiles.steps, *v.shape), currents.dtype),
      _like(v),
      jax.ShapeDtypeStruct((tiles.steps, *tiles.grid), jnp.float32),
      *[_like(v)] * kind.total,
    ],
    compiler_params=triton.CompilerParams(num_warps=WARPS),
    input_output_aliases={1: 1} if in_place else {},
    interpret=kind.interpret,
    name="integrate_and_fire",
  )(currents, v, threshold, charges)
  return spikes, last, counts.sum(axis=(2, 3)), *totals


def _run_gradient(given, cotangents, kind):
  currents, v, _, charges = given
  tiles = _tiles_of(currents, charges)
  to_currents, to_v, to_threshold, to_charges = pl.pallas_call(
    functools.partial(_backward, tiles=tiles, kind=kind),
    grid=tiles.grid,
    in_specs=[
      *[tiles.currents, tiles.neurons, tiles.channels, tiles.step_channels],
      *[tiles.by_step, tiles.neurons, tiles.step_example, *[tiles.neurons] * kind.total],
    ],
    out_specs=[tiles.currents, tiles.neurons, tiles.channel_part, tiles.step_channel_part],
    out_shape=[
      _like(currents),
      _like(v),
      jax.ShapeDtypeStruct((*tiles.grid[:2], tiles.width), jnp.float32),
      jax.ShapeDtypeStruct((tiles.steps, *tiles.grid[:2], tiles.width), jnp.float32),
    ],
    compiler_params=triton.CompilerParams(num_warps=WARPS),
    interpret=kind.interpret,
    name="integrate_and_fire_gradient",
  )(*given, *cotangents)
  return to_currents, to_v, to_threshold.sum(axis=(0, 1)), to_charges.sum(axis=(1, 2))


def _tiles_of(currents, charges):
  """How arrays are cut for currents [K, B, P, C] or [1, B, P, C], and charges [K, C]."""
  return Tiles((len(charges), *currents.shape[1:]), same=len(currents) < len(charges))


class _Kind(NamedTuple):
  """What is fixed when a kernel is compiled: the last arguments of `fire`."""

  neuron: Neuron
  unit: bool
  total: bool
  interpret: bool


def _forward(x_ref, v_ref, tau_ref, charge_ref, *outputs, tiles, kind):
  spike_ref, last_ref, count_ref, *total_ref = outputs
  there, channels = tiles.masks()
  tau = triton.load(tau_ref.at[:], mask=channels, other=1.0)[None, :]
  v = triton.load(v_ref.at[:, :], mask=there, other=0.0)
  total = jnp.zeros_like(v)
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


def _backward(x_ref, v_ref, tau_ref, charge_ref, *refs, tiles, kind):
  """Gradients to the four inputs, from those to the outputs; as `neurons._backward`."""
  to_spike_ref, to_last_ref, to_count_ref, *to_total_ref = refs[:-4]
  to_x_ref, to_v_ref, to_tau_ref, to_charge_ref = refs[-4:]
  there, channels = tiles.masks()
  tau = triton.load(tau_ref.at[:], mask=channels, other=1.0)[None, :]
  v = triton.load(v_ref.at[:, :], mask=there, other=0.0)
  neuron, height = kind.neuron, 1.0 if kind.unit else tau
  soft = neuron.reset == "soft"
  compared = []
  for current in _currents(x_ref, charge_ref, tiles, there, channels):
    v = v + current
    compared.append(v)
    v = jnp.where(v >= tau, v - tau if soft else 0.0, v)
  per_tau = 1.0 / tau
  to_v = triton.load(to_last_ref.at[:, :], mask=there, other=0.0)
  to_tau = to_total = to_x = jnp.zeros_like(to_v)
  for ref in to_total_ref:
    to_total = triton.load(ref.at[:, :], mask=there, other=0.0)
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
  triton.store(to_v_ref.at[:, :], to_v, mask=there)
  triton.store(to_tau_ref.at[:], jnp.sum(jnp.where(there, to_tau, 0.0), axis=0), mask=channels)


def _currents(x_ref, charge_ref, tiles, there, channels):
  """The currents of each step of a block, with what is added in it."""
  x = None
  for k in range(tiles.steps):
    if not (tiles.same and k):
      x = triton.load(x_ref.at[np.int32(k)], mask=there, other=0.0).astype(jnp.float32)
    yield x + triton.load(charge_ref.at[np.int32(k)], mask=channels, other=0.0)[None, :]


def _like(array):
  return jax.ShapeDtypeStruct(array.shape, array.dtype)
