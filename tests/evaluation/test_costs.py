"""Costs against counts made the long way, by hand, and what they say."""

import dataclasses
import json

import brute_force
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from costed_networks import T, made

import tcljax
from tcljax.evaluation.energy import ENERGY_MODELS, EnergyModel, Prices


@pytest.fixture(scope="module")
def plain():
  network, images = made("plain")
  return network, images, tcljax.costs(network, images, batch_size=3)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("residual", "poisson")]


@pytest.mark.filterwarnings("ignore:the model takes a maximum")
@pytest.mark.parametrize(
  "name", ["plain", "traced", "everything", "bursts", "phases", "frames", "two", *SLOW]
)
def test_operations_are_those_of_every_spike_times_every_connection(name, plain):
  network, x, found = plain if name == "plain" else (*made(name), None)
  keys = None
  if name == "poisson":
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(5))
  found = found or tcljax.costs(network, x, batch_size=3, seed=3)
  simulated = np.moveaxis(x, 1, 0) if name == "frames" else x
  accumulates, macs = brute_force.count(network, simulated, network.spiking, keys)
  for node, layer in found.layers.items():
    spikes, numbers = accumulates.pop(node), macs.pop(node)
    numbers[1:] *= not layer.once
    own = [np.round(a * found.images) for a in (layer.synaptic_operations, layer.macs)]
    if name in ("frames", "poisson"):  # in which numbers can be spikes
      own, spikes, numbers = [sum(own), own[1]], spikes + numbers, own[1]
      assert name == "frames" or not own[1].any()
    np.testing.assert_array_equal(own, [spikes, numbers], err_msg=node)
  assert not any(counts.any() for counts in [*accumulates.values(), *macs.values()])
  assert found.synaptic_operations[-1] > 0


def test_spikes_of_bursts_count_each_and_neurons_once():
  """By the potentials of a simulation: a step without a spike leaves what came in it."""
  network, x = made("bursts")
  found = tcljax.costs(network, x)
  *_, last = brute_force.values_of_steps(network, x, network.spiking)
  height = brute_force.heights_of(network, 3)["last"]
  sent = np.rint(np.abs(last["last"]) / height)
  assert found.spikes["last"][-1] == pytest.approx(sent.sum() / 3)
  assert found.active["last"][-1] == pytest.approx((sent > 0).sum() / 3)
  assert sent.max() > 1 and 0 < found.activation_sparsity < 1


def by_hand(first, second, x, encoding="frames", tau=1.0):
  """Costs of two products; the neurons between them begin at 0."""

  class Net(nn.Module):
    act: object = tcljax.ReLU

    @nn.compact
    def __call__(self, x):
      x = self.act(name="a")(nn.Dense(len(second), name="one", use_bias=encoding == "frames")(x))
      return nn.Dense(1, use_bias=False, name="two")(x)

  bias = {"bias": jnp.array([0.0, 0.5])} if encoding == "frames" else {}
  raw = tcljax.raw_from_threshold(jnp.float32(tau))
  variables = {
    "params": {
      "one": {"kernel": jnp.array(first, jnp.float32), **bias},
      "two": {"kernel": jnp.array(second, jnp.float32)},
    },
    "clipping": {"a": {"raw_threshold": raw, "v_init": jnp.float32(0.0)}},
  }
  spiking = tcljax.SpikingConfig(x.shape[1] if encoding == "frames" else 4, encoding=encoding)
  return tcljax.costs(tcljax.convert(Net(), variables, (len(first),), spiking), x)


def test_costs_of_a_constant_input_by_hand():
  # Currents 1/2 and 1: the first neuron fires in steps 2 and 4, the second always. Its weight is 0.
  x = np.array([[0.5, 0.25, 0.0]], np.float32)
  found = by_hand([[1.0, 0.0], [0.0, 4.0], [9.0, 9.0]], [[3.0], [0.0]], x, "constant")
  first, second = found.layers.values()
  assert (first.connections, first.nonzero, first.once, first.into) == (6, 4, True, ("a",))
  assert (second.connections, second.nonzero, second.once) == (2, 1, False)
  assert first.macs.tolist() == [2, 0, 0, 0] and first.ann_macs == 2  # what is 0 costs nothing
  assert second.synaptic_operations.tolist() == [0, 1, 0, 1] and second.ann_macs == 1
  assert found.synaptic_operations.tolist() == [0, 1, 1, 2]
  assert found.spikes["a"].tolist() == [1, 2, 1, 2]
  assert found.activation_sparsity == 1 - 6 / 8 and found.connection_sparsity == 3 / 8
  assert found.footprint == 4 * (6 + 2 + 1 + 1)  # weights, tau, v_init
  work = found.work
  assert work.updates.tolist() == [2, 4, 6, 8] and not work.biases.any()
  # Two numbers times weights, two currents written and read again in each later step; potentials
  # read and written; spikes written and read; three for each synaptic operation.
  assert work.accesses.tolist() == [
    *(4 + 2 + 4 + 2, 4 + 4 + 8 + 6 + 3, 4 + 6 + 12 + 8 + 3, 4 + 8 + 16 + 12 + 6)
  ]
  assert found.ann_work().macs == 8 and found.ann_work(without_zeros=True).macs == 3
  assert found.neurobench()["synaptic_operations"] == {
    "Effective_MACs": 8.0,
    "Effective_ACs": 2.0,
    "Dense": 32.0,
  }


def test_costs_of_frames_by_hand():
  # Of -1, 0 and 1 nothing is multiplied; the second sequence has a 2, in its first frame alone.
  frames = np.array([[[1.0, 0.0], [-1.0, 1.0]], [[2.0, 1.0], [0.0, 1.0]]], np.float32)
  first, second = by_hand([[0.0, 1.0], [1.0, 1.0]], [[1.0], [1.0]], frames).layers.values()
  assert (first.synaptic_operations.tolist(), first.macs.tolist()) == ([0.5, 2.5], [1.5, 0])
  assert first.biases.tolist() == [1, 1] and not first.once  # one of them is 0
  # Currents [0, 1.5], [1, 0.5]; [1, 3.5], [1, 1.5] of the second: it fires in each.
  assert second.synaptic_operations.tolist() == [1.5, 2]


def test_energy_is_the_price_times_the_work(plain):
  found = plain[2]
  for name in ("arithmetic", "memory"):
    prices, energy = ENERGY_MODELS[name].float32, found.energy(name)
    work = found.work
    spent = 4.6 * work.macs + 0.9 * (work.accumulates + work.updates + work.biases)
    np.testing.assert_allclose(energy["snn"], 1e-6 * (spent + prices.access * work.accesses))
  ann = found.ann_work()
  assert ann.macs == sum(layer.connections for layer in found.layers.values())
  energy = found.energy()
  assert energy["ann"] == pytest.approx(1e-6 * (4.6 * ann.macs + 0.9 * ann.biases))
  assert energy["ann_int8"] == pytest.approx(1e-6 * (0.3 * ann.macs + 0.1 * ann.biases))
  assert energy["ann_without_zeros"] < energy["ann"]
  free = EnergyModel("own", "none", Prices(0.0, 1e6, 0.0), Prices(0.0, 0.0, 0.0))
  assert found.energy(free)["ann"] == ann.biases
  with pytest.raises(ValueError, match="model='free' is unknown: choose one of arithmetic, memory"):
    found.energy("free")


def test_they_are_told_and_stored(plain):
  found = plain[2]
  held = json.loads(json.dumps(found.summary()))
  assert list(held["synaptic_operations"]) == ["1", "2", "4"]
  assert held["energy_memory"]["snn"]["4"] == round(found.energy("memory")["snn"][3], 9)
  first, *lines = found.table().splitlines()
  assert first.startswith(f"mean of 5 images; {found.footprint} bytes; of the weights 34.4 % are 0")
  assert lines[0].split()[:3] == ["layer", "into", "connections"]
  assert lines[1].split()[:3] == ["conv:1", "a", str(found.layers["conv:1"].connections)]
  assert lines[5].split()[0] == "T" and lines[8].split()[:2] == [
    "4",
    f"{found.work.accumulates[3]:.0f}",
  ]
  energy, ann = found.energy()["snn"][3], found.energy()
  assert any(line.startswith("ANN, 8 bits  ") for line in map(str.strip, lines))
  told = found.table()
  assert f"of the {energy:.4g} µJ after 4 steps are\n" in told
  share = 100 * 4.6e-6 * found.macs[3] / energy
  assert f" {share:.1f} % MACs (of numbers that come to conv:1)," in told
  ratios = f"that is {energy / ann['ann']:.3g} times the energy of its ANN, and "
  assert f"{ratios}{energy / ann['ann_int8']:.3g} times that of the ANN of 8 bits" in told


@pytest.mark.parametrize("delay", [0, 3])
def test_fewer_steps_and_other_images_take_a_part_of_it(plain, delay):
  network, images, found = plain
  network = dataclasses.replace(network, spiking=tcljax.SpikingConfig(T, delay=delay))
  short = tcljax.costs(network, 2 * images, 2, preprocess=lambda x: x / 2)
  np.testing.assert_array_equal(short.synaptic_operations, found.synaptic_operations[:2])
  assert short.time_steps == 2


@pytest.mark.slow
def test_chunks_do_not_matter(plain):
  network, images, found = plain
  chunked = dataclasses.replace(network, spiking=tcljax.SpikingConfig(T, chunk=T))
  for one in (tcljax.costs(chunked, images), tcljax.costs(chunked, images, 3)):
    np.testing.assert_array_equal(
      one.work.accesses, found.work.accesses[: one.time_steps], strict=True
    )


def test_errors(plain):
  network, images, _ = plain
  with pytest.raises(
    ValueError, match=r"network is .* and must be a tcljax.SpikingNetwork: make one"
  ):
    tcljax.costs(network.model, images)
  with pytest.raises(ValueError, match="there are no images to measure costs on"):
    tcljax.costs(network, images[:0])
  with pytest.raises(
    ValueError, match=r"images make inputs of shape \(6, 6\), and the network takes"
  ):
    tcljax.costs(network, images[..., 0])
  with pytest.raises(ValueError, match="time_steps=0 must be at least 1"):
    tcljax.costs(network, images, 0)
  with pytest.raises(tcljax.evaluation.accuracy.OutputNotFinite, match="for 1 of the 5 images"):
    tcljax.costs(network, np.where(np.arange(5).reshape(-1, 1, 1, 1) == 3, 3e38, images))
