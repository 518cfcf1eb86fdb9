"""Thresholds chosen layer by layer, on the currents that the spiking layers before deliver."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from graphs import alive

import tcljax
from tcljax.layers.activations import ReLU
from tcljax.training import delivered
from tcljax.training.candidates import candidates, sample


class Chain(nn.Module):
  """Layers one after the other, each of which mixes all channels."""

  depth: int = 4
  act: Any = ReLU

  @nn.compact
  def __call__(self, x):
    for i in range(self.depth):
      x = self.act(name=f"act{i}")(nn.Dense(16)(x) + (x if i else 0.0))
    return nn.Dense(5)(x)


@pytest.fixture(scope="module")
def chain():
  images = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
  return Chain(), Chain().init(jax.random.key(0), images), images


def calibrated(model, variables, images, spiking, **options):
  return tcljax.calibrate(model, variables, [images], spiking, method="delivered", **options)


@pytest.fixture
def seen(monkeypatch):
  """The mean current of each activation when its thresholds were chosen, by its path."""
  found, choose = {}, delivered._Search.choose

  def remember(search, path, currents, activations, bound):
    found["/".join(path)] = np.asarray(currents.mean(axis=0)), np.asarray(activations)
    return choose(search, path, currents, activations, bound)

  monkeypatch.setattr(delivered._Search, "choose", remember)
  return found


class Blocks(nn.Module):
  """Residual blocks, through which errors of all layers before are handed on."""

  act: Any = ReLU

  @nn.compact
  def __call__(self, x):
    for i in range(3):
      branch = self.act(name=f"inner{i}")(nn.Conv(8, (3, 3))(x))
      branch = nn.Conv(8, (3, 3))(branch)
      x = self.act(name=f"outer{i}")(branch + (x if i else 0.0))
    return nn.Dense(5)(x.mean((1, 2)))


@pytest.mark.parametrize(("time_steps", "share"), [(8, 0.8), (16, 0.65)])
def test_a_deep_network_loses_less(time_steps, share):
  """Than with thresholds of least squared error: the error of the answers, of two networks."""
  spiking, before, after = tcljax.SpikingConfig(time_steps), 0.0, 0.0
  for seed in range(2):
    images = np.random.default_rng(seed).normal(size=(64, 6, 6, 3)).astype(np.float32)
    variables = Blocks().init(jax.random.key(seed), images)
    wanted = Blocks().apply(variables, images[32:])

    def error(variables=variables, images=images, wanted=wanted, **options):
      found = tcljax.calibrate(Blocks(), variables, [images[:32]], spiking, **options)
      logits = tcljax.simulate(Blocks(), found, images[32:], spiking).logits
      return float(jnp.linalg.norm(logits - wanted))

    before += error(method="least_squares", v_init=0.5, instalments=1)
    after += error(method="delivered")
  assert after < share * before


@pytest.mark.parametrize(
  "neuron",
  [
    {},
    {"reset": "hard"},
    {"burst": 3},
    {"signed": True},
    {"burst": 2, "signed": True},
    {"phase": 2},
  ],
)
def test_the_first_layer_takes_the_best_of_all(chain, neuron):
  """Tried one by one, channel by channel, by steps of single neurons."""
  model, variables, images = chain
  spiking = tcljax.SpikingConfig(4, neuron=neuron)
  start = tcljax.calibrate(
    model, variables, [images[:64]], spiking, method="least_squares", v_init=0.5, instalments=1
  )
  found = calibrated(model, variables, images[:64], spiking, instalments=3)["clipping"]["act0"]
  dense, burst = variables["params"]["Dense_0"], spiking.neuron.burst
  current = images[:64] @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
  factors, potentials = candidates(4, 3)
  for channel, first in enumerate(tcljax.thresholds(start)["act0"]):
    errors, activation = [], np.maximum(current[:, channel], 0)
    for factor, parts in zip(factors, potentials, strict=True):
      mean = factor * first / burst
      v, sent, said, on_the_way = np.zeros(64), np.zeros(64), np.zeros(64), []
      for step in range(4):
        height = mean * spiking.neuron.heights[step % spiking.neuron.phase]
        v = v + current[:, channel] + (parts[step] * mean if step < 3 else 0)
        spikes = np.clip(np.floor(v / height), 0, burst)
        if spiking.neuron.signed:
          spikes -= np.minimum(np.clip(np.ceil(-v / height), 0, burst), sent)
        v = v - spikes * height if spiking.neuron.reset == "soft" else v * (spikes == 0)
        sent, said = sent + spikes, said + spikes * height
        if step < 3 and (step + 1) % spiking.neuron.phase == 0:
          on_the_way.append(np.square(said - (step + 1) * activation).sum() / 16)
      errors.append(np.square(said / 4 - activation).sum() + 0.3 * np.mean(on_the_way))
    best = int(np.argmin(errors))
    tau = float(tcljax.threshold_from_raw(found["raw_threshold"][channel]))
    np.testing.assert_allclose(tau, factors[best] * first, rtol=1e-5)
    parts = potentials[best] * [1, 3, 3]  # later ones are divided by their number, 3
    np.testing.assert_allclose(found["v_init"][:, channel], parts, atol=1e-6)


@pytest.mark.parametrize("encoding", ["constant", "frames"])
def test_the_currents_are_those_of_the_simulation(seen, encoding):
  """Of every operation: with the thresholds that were chosen, neurons are given what was seen."""
  images = np.random.default_rng(0).normal(size=(6, *networks.SHAPE)).astype(np.float32)
  with pytest.warns(UserWarning, match="max_pool"):
    model, variables = networks.Everything(), alive(networks.Everything(), images)
    spiking = tcljax.SpikingConfig(4, encoding=encoding)
    if encoding == "frames":
      images = np.stack([images, 0.5 * images, -images, 2 * images])
    found = calibrated(model, variables, images, spiking)
  simulated = tcljax.simulate(model, found, images, spiking, rates=True)
  for name, (current, _) in seen.items():
    np.testing.assert_allclose(
      simulated.rates[name]["current"], current, rtol=1e-4, atol=1e-5, err_msg=name
    )
  assert len(seen) == 5


def test_poisson_input(chain, seen):
  """Thresholds are chosen on currents of random spikes, whole numbers of the largest magnitude."""
  model, variables, images = chain
  calibrated(model, variables, images[:64], tcljax.SpikingConfig(8, encoding="poisson"))
  dense = jax.tree.map(np.asarray, variables["params"]["Dense_0"])
  mean, *_ = np.linalg.lstsq(dense["kernel"].T, (seen["act0"][0] - dense["bias"]).T)
  counts = 8 * mean.T / np.abs(images[:64]).max(axis=1, keepdims=True)
  np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
  assert 0 < np.abs(counts.round()).max() <= 8


def test_examples_in_parts(chain, monkeypatch):
  """As memory asks for it: each part adds to the errors, and the thresholds are nearly the same."""
  model, variables, images = chain
  spiking = tcljax.SpikingConfig(4)
  whole = calibrated(model, variables, images[:200], spiking)
  monkeypatch.setattr(delivered, "_LARGEST", 5 * 16 * 100)
  applied, apply = [], Chain.apply
  monkeypatch.setattr(
    Chain,
    "apply",
    lambda self, held, x, **more: applied.append(len(x)) or apply(self, held, x, **more),
  )
  drawn = []
  monkeypatch.setattr(
    delivered,
    "sample",
    lambda held, number, random: drawn.append(number) or sample(held, number, random),
  )
  parts = calibrated(model, variables, images[:200], spiking)
  assert applied[-2:] == [500, 500]
  assert set(drawn) == {512}  # 1,024 of both parts together
  first, other = (tcljax.thresholds(found)["act0"] for found in (whole, parts))
  np.testing.assert_array_equal(first, other)  # nothing comes before it


def test_batches_of_several_shapes(chain):
  """As other methods take them: those of one shape make a part, and the errors of all count."""
  rows = chain[2][:256].reshape(8, 32, 8)
  model = Chain(2)
  variables = model.init(jax.random.key(0), rows)

  def first_layer(*batches):
    spiking = tcljax.SpikingConfig(4)
    found = tcljax.calibrate(model, variables, batches, spiking, method="delivered")
    return found["clipping"]["act0"]  # to which it is the same how its inputs lie

  whole, parts = first_layer(rows), first_layer(rows[:4], rows[4:].reshape(8, 16, 8))
  for name, values in whole.items():
    np.testing.assert_allclose(parts[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("instalments", "parts"), [(None, 33), (8, 8), (40, 40)])
def test_as_many_instalments_as_asked_for(chain, instalments, parts):
  """Or, if none are asked for, enough to hold some of the potential back for half of the steps."""
  model, variables, images = chain
  spiking = tcljax.SpikingConfig(64)
  found = calibrated(model, variables, images[:32], spiking, instalments=instalments)
  v_init = np.asarray(found["clipping"]["act3"]["v_init"])
  assert v_init.shape == (parts, 16)
  used = set(np.flatnonzero(np.abs(v_init).sum(axis=1)))
  assert used <= {0, 16, 32} & set(range(parts)) | {parts - 1}
  assert len(used) > 1


def test_one_for_each_layer(chain):
  model, variables, images = chain
  found = calibrated(
    model, variables, images, tcljax.SpikingConfig(4), per_channel=False, instalments=1
  )
  assert {a.shape for a in jax.tree.leaves(found["clipping"])} == {()}


def test_what_never_is_active_keeps_its_first_threshold():
  """All candidates are equally good there; the lowest would fire on other images."""

  class Dead(nn.Module):
    act: Any = ReLU

    @nn.compact
    def __call__(self, x):
      return self.act(name="only")(x * jnp.array([[1.0, -1.0]]))

  x = np.random.default_rng(0).uniform(0, 1, (64, 2)).astype(np.float32)
  found = calibrated(Dead(), {}, x, tcljax.SpikingConfig(4))
  first = tcljax.calibrate(Dead(), {}, [x], tcljax.SpikingConfig(4), v_init=0.5)
  np.testing.assert_allclose(
    tcljax.thresholds(found)["only"][1], tcljax.thresholds(first)["only"][1], rtol=1e-6
  )
  np.testing.assert_array_equal(found["clipping"]["only"]["v_init"][:, 1], [0.5] + 7 * [0.0])


def test_no_more_than_so_many_examples(chain, seen):
  model, variables, images = chain
  tcljax.calibrate(
    model,
    variables,
    np.split(images, 4),
    tcljax.SpikingConfig(2),
    method="delivered",
  )
  assert len(seen["act0"][1]) == delivered.EXAMPLES == 256
