"""Thresholds and initial potentials to try for a layer, and how wrong its rates are with them.

Firing rates are compared with the activations of the ANN, on a sample of the layer's neurons.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.maths.neurons import if_step
from tcljax.maths.spikes import worth_of

# The errors after a quarter, a half and three quarters of the steps together weigh so much beside
# the error in the end; of fewer than four periods, those after each but the last. Neurons that wait
# longest are nearest to the ANN in the end, but leave too little time to the layers after them.
_ON_THE_WAY = 0.3


def candidates(time_steps: int, instalments: int) -> tuple[np.ndarray, np.ndarray]:
  """G candidates: what each multiplies thresholds by, and the parts of its initial potential.

  Some of a potential may be held back until a quarter or half of the steps are over, or until the
  last part if that is earlier. Above 8 steps potentials reach further, by the root of T / 8, as
  what chance adds to the sum of T currents grows with the root of T. The nearest to the first
  thresholds come first, as they win where all are equally good.

  Args:
    time_steps: T.
    instalments: S, in how many parts the initial potential comes, one before each of the first S
      steps, whatever the period of phases.

  Returns:
    Factors, [G], and parts as fractions of V_th, [G, S].
  """
  reach = max(1.0, np.sqrt(time_steps / 8))
  fine, coarse = np.array((-0.5, -0.25, 0, 0.25, 0.5)), reach * np.array((-1, -0.5, 0.5, 1))
  potentials = 0.5 + np.unique(np.concatenate([fine, coarse]))
  waits = {min(wait, instalments - 1) for wait in (time_steps // 4, time_steps // 2)} - {0}
  holds = [(0.0, 0), *itertools.product(reach * np.array((0.5, 1, 2)), sorted(waits))]
  tried = sorted(
    itertools.product(np.linspace(-1.5, 1.5, 9), potentials, holds),
    key=lambda one: abs(one[0]) + abs(one[1] - 0.5) + one[2][0],
  )
  parts = np.zeros((len(tried), instalments), np.float32)
  for row, (_, potential, (held, until)) in zip(parts, tried, strict=True):
    row[0] = potential - held
    row[until] += held
  return np.array([2 ** one[0] for one in tried], np.float32), parts


@functools.partial(jax.jit, static_argnames="neuron")
def squared_errors(currents, wanted, stand_for, heights, parts, neuron):
  """How wrong each candidate is: squared errors, summed over all neurons of a channel, [G, C].

  The error is that of rate * V_th in the end against the activation and, with less weight, that of
  what has been said on the way against the activation's share of these steps.

  Args:
    currents: [T, K, C].
    wanted: activations of the ANN, [K, C].
    stand_for: how many neurons each of these stands for, [K, C].
    heights: V_th, the height of a spike, of phases its mean, [G, C].
    parts: of the initial potential as fractions of V_th, added before each step, [G, T].
    neuron: how it fires.
  """
  time_steps = len(currents)
  periods = time_steps // neuron.phase
  ends = neuron.phase * (np.arange(1, min(4, periods) + 1) * periods // min(4, periods))
  weights = np.full((len(ends), 1, 1), _ON_THE_WAY / max(1, len(ends) - 1), np.float32)
  weights[-1] = 1.0
  ideal = wanted[None] * (ends / time_steps).astype(np.float32)[:, None, None]

  def of(candidate):
    height, charges = candidate[0][None], candidate[1][:, None, None] * candidate[0][None, None]

    def step(carry, at):
      (v, sent, sums), (current, charge, t) = carry, at
      v, spikes = if_step(v, current + charge, height, neuron, sent, t)
      return (v, sent + spikes, sums + worth_of(spikes[None], neuron, t)[0]), None

    # One step after the other, so that the arrays of a candidate stay in the caches.
    carry, said = (jnp.zeros_like(wanted),) * 3, []
    for begin, end in itertools.pairwise((0, *ends)):
      given = currents[begin:end], charges[begin:end], jnp.arange(begin, end)
      carry, _ = jax.lax.scan(step, carry, given)
      said.append(carry[2] * (height * neuron.grain / time_steps))
    return (weights * stand_for[None] * jnp.square(jnp.stack(said) - ideal)).sum(axis=(0, 1))

  return jax.lax.map(of, (heights, parts))


@jax.jit
def currents_of(currents: jax.Array, neurons: np.ndarray) -> jax.Array:
  """The currents of these neurons, [T, K, C], out of [T, N, C]."""
  return jnp.take_along_axis(currents, neurons[None], axis=1).astype(jnp.float32)


def sample(
  activations: np.ndarray, number: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Neurons of each channel, and how many each of them stands for, both [K, C].

  A sum over neurons is, on the mean, that over those taken, each times how many it stands for
  (importance sampling). Odds grow with the square of the activation. So the few large ones are
  there, which cost most if a low threshold clips them.

  Args:
    activations: [N, C].
    number: K; where there are no more neurons, all are taken.
    random: draws them.
  """
  neurons, channels = activations.shape
  if neurons <= number:
    all_of_them = np.arange(neurons)[:, None].repeat(channels, axis=1)
    return all_of_them, np.ones(activations.shape, np.float32)
  taken = np.empty((number, channels), np.int64)
  stand_for = np.empty((number, channels), np.float32)
  for channel in range(channels):
    odds = np.square(activations[:, channel].astype(np.float64))
    odds += odds.mean() or 1.0
    ends = np.cumsum(odds)
    points = (np.arange(number) + random.uniform(size=number)) * (ends[-1] / number)
    found = np.minimum(np.searchsorted(ends, points, side="right"), neurons - 1)
    taken[:, channel], stand_for[:, channel] = found, ends[-1] / (number * odds[found])
  return taken, stand_for
