"""`IF`, the activation of a spiking network: neurons through time."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tcljax.kernels import fire
from tcljax.layers import collections
from tcljax.layers.activations import Clipped
from tcljax.layers.collections import leave, leave_spike_count, membrane_of, totals_of
from tcljax.maths import clipping, max_pooling
from tcljax.maths.max_pooling import CURRENTS, SPIKES
from tcljax.maths.neurons import integrate
from tcljax.maths.spikes import Neuron, worth_of
from tcljax.maths.sums import repeat_first, sum_over_first


class IF(Clipped):
  """Integrate-and-fire neurons over `chunk` time steps folded into the batch.

  Takes input currents [K*B, ...], step-major, and gives spikes of height V_th in the same shape.
  V_th is tau, or tau / burst of neurons that send up to so many spikes in a step: tau is the clip,
  and what a neuron sends in a step is never more. Of neurons with phases V_th is the mean height of
  a period, and `step` of the collection `membrane` says where in it a call begins.

  The potentials [B, ...] are carried in the collection `membrane`. A call that finds none there
  only creates them, at v_init * V_th, and runs no step; so the first call sets the state up and
  every later one continues from it (`tcljax.simulate` does both). Where v_init comes in
  instalments, the first is the initial potential and each later one is added in its step.

  If the collection `constant_currents` holds a `current`, [B, ...], it is that of every step, and
  what the call is given is not looked at. Where the collection is mutable, the first call leaves
  its currents there as `first`. Which of them are the same in every step the caller has to find out
  (`simulation.beginning`). So that what comes from an activation can be told by its threshold, the
  first call gives what `TCL` gives.

  With `max_pool` of spikes the neurons gate: `max_pooling.running_maximum` of their spikes is
  passed on, [K*B, H', W', C]; in phases that of their heights. What observers see are the spikes of
  all neurons, whether they pass or not. With `max_pool` of currents their input is
  `running_maximum` of the currents, and there is one neuron for each window. The sums that it
  compares are carried beside the potentials. So is what signed neurons have sent; where they gate,
  less may pass by a step than before it, too.

  If the collection `spikes` is mutable, the spikes of each step and example, summed over the
  neurons, are left there as `count`, [K, B], negative ones counted as others; of bursts also, as
  `active`, how many neurons sent any. If the collection `totals` is mutable, the currents and
  spikes of each neuron are added up there over all calls, as `current` and `spikes`, [B, ...],
  where negative spikes are subtracted, and spikes of phases are in units of the smallest one.

  Attributes:
    chunk: K.
    neuron: what it can send, its reset and surrogate gradient.
    from_rest: whether the K steps of a call are the first, whatever potentials it finds. Those at
      rest are one number a channel, of which no array is made.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> act = tcljax.IF(name="act1", chunk=16)
    >>> currents = jnp.full((16, 1), 0.3)  # one neuron, 16 steps
    >>> state = act.init(jax.random.key(0), currents)  # tau = 1, and a potential of 0.5
    >>> spikes, _ = act.apply(state, currents, mutable=["membrane"])
    >>> round(float(spikes.sum()), 4)  # floor(16 * 0.3 + 0.5)
    5.0
  """

  chunk: int = 1
  neuron: Neuron = Neuron()
  from_rest: bool = False

  @nn.compact
  def __call__(self, currents: jax.Array) -> jax.Array:
    """Spikes of height V_th from input currents, both [K*B, ...], those that pass the gate."""
    tau, v_init = self.thresholds(currents)
    threshold = tau / self.neuron.burst
    dtype, rank = currents.dtype, currents.ndim
    charges = jax.vmap(lambda part: part * threshold)(v_init)
    charges = charges.reshape(len(v_init), *[1] * (rank - 1), -1)  # [S, 1, ..., 1, C]
    threshold = clipping.per_channel_view(threshold, rank)
    unfolded = self._unfolded(currents)

    def at_rest():
      # In float32 whatever the precision of the layers: potentials are long sums.
      return jnp.zeros_like(self.pooled(unfolded[0], CURRENTS), jnp.float32) + charges[0]

    pooled = self.max_pool and unfolded.shape[1:]
    membrane = membrane_of(self, at_rest, pooled, self.neuron.signed)
    totals = totals_of(self, membrane.v.value)
    if not membrane.running:
      if not self.is_initializing():
        # In float32, as gradients to it are added up over all steps.
        leave(self, collections.CONSTANT, "first", currents.astype(jnp.float32))
      return self.pooled(clipping.clip(currents, tau))
    unfolded = self._passed(unfolded, CURRENTS, membrane.sums)
    step = membrane.step.value
    # Whether spikes have the height 1: a kernel gives them that of V_th, unless they are to gate.
    unit = not self._has_kernel() or self.pools(SPIKES)
    v = self._before(membrane.v.value, charges[0], step)
    sent = None if membrane.sent is None else membrane.sent.value
    due = self._charges_from(charges, step)
    spikes, membrane.v.value, count, number = self._run(
      unfolded, v, threshold, due, sent, unit, bool(totals), step
    )
    if membrane.sent is not None:
      membrane.sent.value = membrane.sent.value + sum_over_first(spikes)
    membrane.step.value = step + self.chunk
    if self.neuron.phase > 1:
      spikes, threshold = worth_of(spikes, self.neuron, step), threshold * self.neuron.grain
    for name, total in totals.items():
      if name == "current" or number is None:
        steps = {"current": unfolded, "spikes": spikes}[name].astype(jnp.float32)
        summed = sum_over_first(self._in_each_step(steps))
      else:
        summed = number  # by the kernel
      total.value = total.value + summed
    self.check_first_use(collections.SPIKES, "count")
    active = None
    if self.neuron.burst > 1:
      active = (spikes != 0).astype(jnp.float32).sum(axis=range(2, spikes.ndim))
    leave_spike_count(self, count, active)
    spikes = self._passed(spikes, SPIKES, membrane.sums)
    spikes = spikes.reshape(-1, *spikes.shape[2:])
    return (spikes * threshold if unit else spikes).astype(dtype)

  def _unfolded(self, currents: jax.Array) -> jax.Array:
    """Currents [K, B, ...], or [1, B, ...] if they are the same in every step."""
    if self.has_variable(collections.CONSTANT, "current"):
      same = self.get_variable(collections.CONSTANT, "current")[None]
      as_given = self._has_kernel() and not self.pools(CURRENTS)  # as kernels read any other
      return same.astype(currents.dtype) if as_given else same
    return currents.reshape(self.chunk, -1, *currents.shape[1:])

  def _in_each_step(self, unfolded: jax.Array) -> jax.Array:
    """What `_unfolded` gave, as [K, B, ...]; gradients to it are added up in its precision."""
    same = len(unfolded) < self.chunk
    return repeat_first(unfolded[0], self.chunk) if same else unfolded

  def _passed(self, x, what, sums):
    """What passes of spikes or currents, [K, B, H', W', C]; all where these are not pooled."""
    if self.max_pool is None or not self.pools(what):
      return x
    x = self._in_each_step(x.astype(jnp.float32))
    passed, sums.value = max_pooling.running_maximum(x, sums.value, self.max_pool)
    return passed

  def _charges_from(self, charges, step):
    """The instalments in the K steps from `step` on, [K, 1, ..., C]; None if all are there."""
    if len(charges) == 1:
      return None
    none = jnp.zeros_like(charges[:1])
    padded = jnp.concatenate([none, charges[1:], *[none] * self.chunk])
    return jax.lax.dynamic_slice_in_dim(padded, jnp.minimum(step, len(charges)), self.chunk)

  def _has_kernel(self) -> bool:
    """Whether the neurons run in a kernel of the device at hand."""
    return fire.serves(self.chunk, self.neuron)

  def _before(self, v: jax.Array, at_rest: jax.Array, step: jax.Array) -> jax.Array:
    """The potentials before a step, [B, ...]: those that were carried, or [1, ..., C] at rest."""
    del step
    return at_rest if self.from_rest else v

  def _run(
    self,
    currents: jax.Array,
    v: jax.Array,
    threshold: jax.Array,
    charges: jax.Array | None,
    sent: jax.Array | None,
    unit: bool,
    total: bool,
    step: jax.Array,
  ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Spikes [K, B, ...], 1 or as high as V_th, potentials, and counts by step and example.

    Currents are [K, B, ...], or [1, B, ...] if they are the same in every step. With `total` also
    the number of spikes of each neuron, [B, ...], where a kernel counts them.
    """
    if self._has_kernel():
      none = jnp.zeros((self.chunk, 1), jnp.float32)
      flat = none if charges is None else charges.reshape(self.chunk, -1)
      held = None if self.from_rest else v
      if self.from_rest:
        flat = flat + jnp.zeros((self.chunk, v.size), jnp.float32).at[0].set(v.reshape(-1))
      tau = threshold.reshape(-1)
      return fire.fire(currents, held, tau, flat, self.neuron, unit=unit, total=total)
    currents = self._in_each_step(currents.astype(jnp.float32))
    currents = currents if charges is None else currents + charges
    sent = jnp.zeros((), jnp.float32) if sent is None else sent
    spikes, v = integrate(currents, v, threshold, self.neuron, sent, step)
    fired = jnp.abs(spikes) if self.neuron.signed else spikes
    return spikes, v, fired.sum(axis=range(2, spikes.ndim)), None
