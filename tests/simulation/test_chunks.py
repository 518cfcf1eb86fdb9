"""Chunks: how many steps at a time, and what gradients keep of them."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import primitives, temporary_bytes
from running import calibrate_plainly

from tcljax.distributed import memory
from tcljax.simulation import chunks
from tcljax.simulation.chunks import count_neurons
from tcljax.simulation.settings import SpikingConfig
from tcljax.simulation.time_loop import simulate


class Nothing(nn.Module):
  """A network without neurons."""

  act: type = nn.Module

  def __call__(self, x, train=False):
    return x


@pytest.fixture(scope="module")
def calibrated(vgg, images):
  model, variables = vgg
  return model, calibrate_plainly(model, variables, images, percentile=99, per_channel=True)


NEURONS = {"act1_1": 512, "act1_2": 512, "act2_1": 256, "act_dense1": 32}


def test_neurons_are_counted(calibrated):
  model, variables = calibrated
  assert count_neurons(model, variables, (8, 8, 3)) == NEURONS
  assert count_neurons(Nothing(), {}, (5,)) == {}


def test_the_network_is_traced_once_to_count_its_neurons(calibrated, monkeypatch):
  model, variables = calibrated
  chunks._counted.cache_clear()
  first = count_neurons(model, variables, (8, 8, 3))
  monkeypatch.setattr(chunks, "activation_paths", None)
  assert count_neurons(model, jax.tree.map(np.asarray, variables), (8, 8, 3)) == first


def test_automatic_chunk_of_devices(calibrated, images, monkeypatch):
  """Two steps at a time on CPUs, up to 16 on GPUs, if no other limit is asked for and they fit."""
  model, variables = calibrated

  def chosen(choose=chunks.with_chunk, time_steps=16, chunk=0, **arguments):
    spiking = SpikingConfig(time_steps=time_steps, chunk=chunk)
    return choose(model, variables, images, spiking, **arguments).chunk

  gradients = chunks.with_chunk_for_gradients
  with monkeypatch.context() as patch:
    patch.setattr(chunks, "count_neurons", None)  # which would trace the network
    assert chosen() == 2 and chosen(on_cpus=8) == 8
    assert [chosen(gradients, t) for t in (1, 5, 8, 9, 12, 32)] == [1, 5, 8, 1, 2, 2]
    assert [chosen(gradients, t) for t in (35, 64, 100, 256, 1024)] == [1, 4, 5, 8, 8]
  assert chosen(chunk=2, on_cpus=8) == chosen(gradients, chunk=2) == 2
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  a_step = 2 * 4 * 16 * sum(NEURONS.values())  # currents and spikes in bytes
  for bytes_limit, chunk in ((4 * 17 * a_step, 16), (4 * 9 * a_step, 8), (a_step, 1)):

    class Device:
      compute_capability = "9.0"

      def memory_stats(self, bytes_limit=bytes_limit):
        return {"bytes_limit": bytes_limit}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert chosen() == chosen(on_cpus=1) == chunk
    assert chosen(on_gpus=8) == chosen(gradients) == min(8, chunk)
    with monkeypatch.context() as patch:
      patch.setattr(Device, "compute_capability", "7.5")  # whose neurons have no kernels
      assert chosen() == min(8, chunk)


@pytest.mark.bits
def test_gradients_are_the_same_kept_or_computed_again(calibrated, images, monkeypatch):
  """What they need is kept where it fits into a quarter of the memory, and not elsewhere."""
  model, variables = calibrated

  def gradient(chunk):
    spiking = SpikingConfig(time_steps=12, chunk=chunk)

    def loss(clipping):
      found = simulate(model, {**variables, "clipping": clipping}, images, spiking)
      return jnp.sum(jnp.square(found.logits))

    return jax.grad(loss)

  clipping, kept = variables["clipping"], 4 * 4 * 16 * sum(NEURONS.values()) * 12
  found = {}
  for name, limit in (("kept", 4 * kept), ("again", 4 * kept - 1), ("nobody says", None)):
    monkeypatch.setattr(memory, "of_a_device", lambda limit=limit: limit)
    recomputes = "remat2" in primitives(gradient(2), clipping)
    assert recomputes == (name != "kept"), name
    assert "remat2" not in primitives(gradient(12), clipping)  # nothing lies behind one chunk
    found[name] = jax.jit(gradient(2))(clipping)
  chex.assert_trees_all_close(found["kept"], found["again"], rtol=1e-5, atol=1e-6)
  assert np.abs(jax.tree.leaves(found["kept"])[0]).max() > 0


@pytest.mark.slow
@pytest.mark.compiler
def test_memory_of_gradients(calibrated, images, monkeypatch):
  """What is kept takes no more than the share of memory that it is counted with."""
  model, variables = calibrated
  spiking = SpikingConfig(time_steps=64, chunk=2)

  def loss(clipping):
    return jnp.sum(simulate(model, {**variables, "clipping": clipping}, images, spiking).logits)

  counted = 4 * 4 * 16 * sum(NEURONS.values()) * 64
  taken = {}
  for limit in (None, 4 * counted):
    monkeypatch.setattr(memory, "of_a_device", lambda limit=limit: limit)
    # A function of its own, as JAX knows the program of one that it has seen.
    taken[limit] = temporary_bytes(lambda c: jax.grad(loss)(c), variables["clipping"])
  again, kept = taken.values()
  assert again < kept < 1.2 * counted
