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
from jax.custom_derivatives import SymbolicZero
from jax.experimental import pallas as pl

from tcljax.kernels import targets
from tcljax.kernels.blocks import WARPS, Tiles, backward, forward, triton
from tcljax.maths.neurons import integrate
from tcljax.maths.spikes import Neuron
from tcljax.maths.sums import repeat_first, sum_over_first

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
  v: jax.Array | None,
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
    v: potentials before the first step, [B, ..., C], float32; None where they are 0, and the first
      of the charges is the potential at rest.
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
  steps, shape = len(charges), currents.shape[1:]
  flat = (shape[0], math.prod(shape[1:-1]), shape[-1])
  fired: Any = _fire(
    currents.reshape(-1, *flat),
    None if v is None else v.reshape(flat),
    jnp.broadcast_to(threshold, shape[-1:]),
    jnp.broadcast_to(charges, (steps, shape[-1])),
    Kind(neuron, unit, total, interpret),
  )
  spikes, last, counts, *totals = fired
  summed = totals[0].reshape(shape) if total else None
  return spikes.reshape(steps, *shape), last.reshape(shape), counts, summed


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _fire(currents, v, threshold, charges, kind):
  return _fired((currents, v, threshold, charges), kind, in_place=True)


def _fire_forward(currents, v, threshold, charges, kind):
  # All of it is kept for the way back.
  given = jax.tree.map(lambda one: one.value, (currents, v, threshold, charges))
  return _fired(given, kind, in_place=False), given


def _fired(given, kind, in_place):
  run = functools.partial(_run_kernel, kind=kind, in_place=in_place)
  if kind.interpret:
    return run(*given)
  reference = functools.partial(_reference, kind=kind)
  return jax.lax.platform_dependent(*given, cuda=run, default=reference)


def _fire_backward(kind, given, cotangents):
  is_zero = lambda one: isinstance(one, SymbolicZero)
  to_spikes, to_last, *others = cotangents
  # Where nobody reads the last potentials, no zeros are made for them: they are as many as neurons.
  to_last = None if is_zero(to_last) else to_last
  to_spikes, *others = (
    jnp.zeros(one.shape, one.dtype) if is_zero(one) else one for one in (to_spikes, *others)
  )
  cotangents = to_spikes, to_last, *others
  run = functools.partial(_run_gradient, kind=kind)
  if kind.interpret:
    return run(given, cotangents)

  def reference(given, cotangents):
    found, back = jax.vjp(functools.partial(_reference, kind=kind), *given)
    spikes, last, *others = cotangents
    return back((spikes, jnp.zeros_like(found[1]) if last is None else last, *others))

  return jax.lax.platform_dependent(given, cotangents, cuda=run, default=reference)


_fire.defvjp(_fire_forward, _fire_backward, symbolic_zeros=True)


def _reference(currents, v, threshold, charges, kind):
  """What the kernels compute, on [K, B, P, C], by `integrate`."""
  tau = threshold[None, None]
  wide = currents.astype(jnp.float32)
  if len(currents) < len(charges):
    wide = repeat_first(wide[0], len(charges))
  charged = wide + charges[:, None, None]
  v = jnp.zeros_like(charged[0]) if v is None else v
  spikes, last = integrate(charged, v, tau, kind.neuron)
  passed = spikes if kind.unit else spikes * tau[None]
  found = passed.astype(currents.dtype), last, spikes.sum(axis=(2, 3))
  return (*found, sum_over_first(spikes)) if kind.total else found


def _run_kernel(currents, v, threshold, charges, kind, in_place):
  """The outputs of `_reference`; `in_place` writes the last potentials where the first were."""
  tiles = _tiles_of(currents, charges)
  held = [] if v is None else [v]
  like = jax.ShapeDtypeStruct(currents.shape[1:], jnp.float32)
  spikes, last, counts, *totals = pl.pallas_call(
    functools.partial(forward, tiles=tiles, kind=kind),
    grid=tiles.grid,
    in_specs=[tiles.currents, tiles.channels, tiles.step_channels, *[tiles.neurons] * len(held)],
    out_specs=[tiles.by_step, tiles.neurons, tiles.count, *[tiles.neurons] * kind.total],
    out_shape=[
      jax.ShapeDtypeStruct((tiles.steps, *like.shape), currents.dtype),
      like,
      jax.ShapeDtypeStruct((tiles.steps, *tiles.grid), jnp.float32),
      *[like] * kind.total,
    ],
    compiler_params=triton.CompilerParams(num_warps=WARPS),
    input_output_aliases={3: 1} if in_place and held else {},
    interpret=kind.interpret,
    name="integrate_and_fire",
  )(currents, threshold, charges, *held)
  return spikes, last, counts.sum(axis=(2, 3)), *totals


def _run_gradient(given, cotangents, kind):
  currents, v, threshold, charges = given
  to_spikes, to_last, to_counts, *to_totals = cotangents
  tiles = _tiles_of(currents, charges)
  held, from_last = ([] if a is None else [a] for a in (v, to_last))
  by_neuron = [*held, *from_last, *to_totals]
  to_currents, to_threshold, to_charges, *to_v = pl.pallas_call(
    functools.partial(backward, tiles=tiles, kind=kind, held=bool(held), last=bool(from_last)),
    grid=tiles.grid,
    in_specs=[
      *[tiles.currents, tiles.channels, tiles.step_channels],
      *[tiles.by_step, tiles.step_example, *[tiles.neurons] * len(by_neuron)],
    ],
    out_specs=[
      *[tiles.currents, tiles.channel_part, tiles.step_channel_part],
      *[tiles.neurons] * len(held),
    ],
    out_shape=[
      _like(currents),
      jax.ShapeDtypeStruct((*tiles.grid[:2], tiles.width), jnp.float32),
      jax.ShapeDtypeStruct((tiles.steps, *tiles.grid[:2], tiles.width), jnp.float32),
      *map(_like, held),
    ],
    compiler_params=triton.CompilerParams(num_warps=WARPS),
    interpret=kind.interpret,
    name="integrate_and_fire_gradient",
  )(currents, threshold, charges, to_spikes, to_counts, *by_neuron)
  to_v = to_v[0] if held else None
  return to_currents, to_v, to_threshold.sum(axis=(0, 1)), to_charges.sum(axis=(1, 2))


def _tiles_of(currents, charges):
  """How arrays are cut for currents [K, B, P, C] or [1, B, P, C], and charges [K, C]."""
  return Tiles((len(charges), *currents.shape[1:]), same=len(currents) < len(charges))


class Kind(NamedTuple):
  """What is fixed when a kernel is compiled: the last arguments of `fire`."""

  neuron: Neuron
  unit: bool
  total: bool
  interpret: bool


def _like(array):
  return jax.ShapeDtypeStruct(array.shape, array.dtype)
