"""Streaming histograms of activations, and the thresholds they give.

Bins are spaced logarithmically, 128 to the octave, by cutting float32's own bit pattern: a bin is
at most 0.8 % wide relative to its value at any scale from 6e-8 to 1.7e7, one pass suffices (the
largest activation need not be known beforehand), and memory does not grow with the data.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import check_percentile
from tcljax.maths import clipping
from tcljax.maths.shapes import check_axes, check_shape

_MANTISSA_BITS = 23
_BITS_PER_OCTAVE = 7
_SHIFT = _MANTISSA_BITS - _BITS_PER_OCTAVE
_LOWEST, _HIGHEST = -24, 24  # octaves: 6e-8 to 1.7e7; what is smaller counts as zero
_OFFSET = (127 + _LOWEST) << _BITS_PER_OCTAVE
LIMIT = 2.0**_HIGHEST
BINS = 1 + ((_HIGHEST - _LOWEST) << _BITS_PER_OCTAVE)  # bin 0 holds zero and less


def bin_edges() -> np.ndarray:
  """Lower edges of bins 0 to BINS (one past the last), float32, [BINS + 1]; bin 0 is [0, 2^-24)."""
  bits = (np.arange(BINS, dtype=np.int32) + _OFFSET) << _SHIFT
  return np.concatenate([np.zeros(1, np.float32), bits.view(np.float32)])


class Histogram(NamedTuple):
  """Counts of activations after ReLU, for one layer ([1, BINS]) or for each channel ([C, BINS])."""

  counts: jax.Array | np.ndarray  # integers, [1 or C, BINS]
  maximum: jax.Array | np.ndarray  # the largest activation, exact, [1 or C]

  def __add__(self, other: "Histogram") -> "Histogram":
    return Histogram(self.counts + other.counts, np.maximum(self.maximum, other.maximum))


def histogram(x: jax.Array, per_channel: bool) -> Histogram:
  """Histogram of max(x, 0); `x` is [..., C], counts are int32.

  Raises:
    ValueError: if `x` has no axis.
  """
  check_axes("x", x, 1, "[..., C]")
  rows = jax.nn.relu(x.astype(jnp.float32)).reshape(-1, x.shape[-1] if per_channel else 1)
  bits = jax.lax.bitcast_convert_type(rows, jnp.int32) >> _SHIFT
  bins = jnp.clip(bits - _OFFSET + 1, 0, BINS - 1)
  channels = rows.shape[1]
  flat = (bins + BINS * jnp.arange(channels)[None, :]).reshape(-1)
  counts = jnp.bincount(flat, length=channels * BINS).reshape(channels, BINS)
  return Histogram(counts, rows.max(axis=0))


def _check(activations):
  channels = np.shape(activations.maximum)
  check_shape(
    "maximum", activations.maximum, np.shape(activations.counts)[:1], "the rows of counts"
  )
  check_shape("counts", activations.counts, (*channels, BINS), "maximum and the bins")


def percentile_threshold(activations: Histogram, percentile: float) -> np.ndarray:
  """Thresholds below which `percentile` % of the activations lie (zeros included).

  The robust normalisation of Rueckauer et al. (Front. Neurosci. 2017), as `numpy.percentile`
  would give it on all activations, to within a bin.

  Args:
    activations: what was observed.
    percentile: in (0, 100); 99.9 is the usual choice.

  Returns:
    Thresholds, float64, [1 or C]; 0 where nothing was above zero.

  Raises:
    ValueError: if the percentile is not strictly between 0 and 100, or the arrays of the histogram
      do not belong together.
  """
  check_percentile(percentile)
  _check(activations)
  counts = np.asarray(activations.counts, np.int64)
  edges = bin_edges().astype(np.float64)
  cumulative = counts.cumsum(axis=1)
  rank = percentile / 100 * (cumulative[:, -1] - 1)
  index = (cumulative <= rank[:, None]).sum(axis=1)
  channel = np.arange(len(counts))
  inside = rank - (cumulative - counts)[channel, index] + 0.5
  value = edges[index] + (edges[index + 1] - edges[index]) * inside / counts[channel, index]
  return np.where(index == 0, 0.0, np.minimum(value, activations.maximum))


def least_squares_threshold(
  activations: Histogram, levels: int, v_init: float = 0.5, candidates: int = 128
) -> np.ndarray:
  """Thresholds whose quantized activation is nearest to the ReLU in mean square.

  Minimises the sum over activations of (a - quantized_clip(a))^2: what is lost to clipping above
  tau and to rounding below it. The fewer levels, the lower the best threshold.

  Args:
    activations: what was observed.
    levels: how many spikes a neuron can send in all, see `clipping.levels_of`.
    v_init: initial potential as a fraction of the height of one, of phases of the smallest.
    candidates: thresholds tried, spaced evenly in logarithm from 1/64 of the maximum up to it.

  Returns:
    Thresholds, float64, [1 or C]; 0 where nothing was above zero.

  Raises:
    ValueError: if the arrays of the histogram do not belong together.
  """
  _check(activations)
  edges = bin_edges()
  centres = jnp.asarray((edges[:-1] + edges[1:]) / 2)
  counts = np.asarray(activations.counts, np.float64)
  weights = jnp.asarray(counts / counts.sum(axis=1, keepdims=True), jnp.float32)
  fractions = np.geomspace(1 / 64, 1, candidates)
  maximum = np.asarray(activations.maximum, np.float64)
  # A dead channel has no threshold to find; any positive one keeps the division defined.
  scale = jnp.asarray(np.where(maximum > 0, maximum, 1.0), jnp.float32)
  errors = _errors(
    jnp.asarray(fractions, jnp.float32), scale, centres, weights, int(levels), float(v_init)
  )
  return fractions[np.asarray(errors).argmin(axis=0)] * maximum


# By itself, so that layers of equally many channels are compiled once.
@functools.partial(jax.jit, static_argnames=("levels", "v_init"))
def _errors(fractions, scale, centres, weights, levels, v_init):
  """Mean square errors of thresholds, fractions [F] of scale [C]: [F, C]."""

  def error(fraction):
    # One channel at a time: a threshold of its own over all bins.
    quantized = jax.vmap(lambda tau: clipping.quantized_clip(centres, tau, levels, v_init))(
      fraction * scale
    )
    return (weights * jnp.square(centres[None] - quantized)).sum(axis=1)

  return jax.lax.map(error, fractions)
