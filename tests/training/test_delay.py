"""How many steps the readout leaves out: beside simulations that leave out each number."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.layers.activations import ReLU
from tcljax.training.losses import distillation, squared_error


class Chain(nn.Module):
  """Three layers, whose answers are logits of classes, quantities or both."""

  act: object = ReLU
  answer: str = "classes"

  @nn.compact
  def __call__(self, x):
    for i in range(3):
      x = self.act(name=f"act{i}")(nn.Dense(16, name=f"dense{i}")(x))
    classes, numbers = nn.Dense(4)(x), 100.0 * nn.Dense(2)(x)
    return {"classes": classes, "numbers": numbers, "both": (classes, numbers)}[self.answer]


def network(answer="classes", late=0.0):
  """A network, its variables, and inputs; potentials so far below zero that it answers late."""
  model = Chain(answer=answer)
  x = jax.random.normal(jax.random.key(2), (24, 8))
  variables = model.init(jax.random.key(1), x)
  options = {"method": "maximum", "v_init": 0.5 - late, "instalments": 1}
  return model, tcljax.calibrate(model, variables, [x], **options), x


def errors(model, variables, x, spiking, distance, delays):
  """The distance of answers from the ANN's with each delay, by a simulation of its own."""
  keys = jax.random.split(jax.random.key(0), 24)[: x.shape[-2]]
  seen = x.mean(axis=0) if spiking.encoding == "frames" else x
  found = []
  for delay in delays:
    told = tcljax.simulate(
      model, variables, x, dataclasses.replace(spiking, delay=delay), keys=keys
    ).logits
    found.append(float(distance(told, model.apply(variables, seen))))
  return np.array(found)


@pytest.mark.parametrize("late", [0.0, 3.0])
@pytest.mark.parametrize(
  ("options", "delays"),
  [
    ({"time_steps": 16}, range(0, 16, 2)),
    ({"time_steps": 4}, range(4)),
    ({"time_steps": 12}, [0, 1, 3, 4, 6, 7, 9, 10]),
    ({"time_steps": 24, "neuron": {"phase": 8}}, [0, 8, 16]),
    ({"time_steps": 16, "encoding": "poisson"}, range(0, 16, 2)),
    ({"time_steps": 16, "encoding": "frames"}, range(0, 16, 2)),
  ],
)
def test_the_delay_whose_answers_are_nearest(late, options, delays):
  model, variables, x = network(late=late)
  spiking = tcljax.SpikingConfig(**options)
  if spiking.encoding == "frames":
    x = x[None] * jnp.linspace(0.0, 2.0, 16)[:, None, None]
  wrong = errors(model, variables, x, spiking, distillation, delays)
  found = tcljax.choose_delay(model, variables, [x], spiking)
  assert found == dataclasses.replace(spiking, delay=list(delays)[wrong.argmin()])


def test_a_network_that_answers_late_leaves_out_steps():
  model, variables, x = network(late=3.0)
  spiking = tcljax.SpikingConfig(time_steps=32, delay=1)
  assert tcljax.choose_delay(model, variables, [x], spiking).delay >= 4


def test_of_equals_the_shortest():
  model, variables, x = network()
  nothing = jax.tree.map(jnp.zeros_like, variables["params"])
  silent = {**variables, "params": nothing}
  assert tcljax.choose_delay(model, silent, [x], tcljax.SpikingConfig(8, delay=3)).delay == 0


@pytest.mark.parametrize(("first", "scale"), [(20, 2.0), (22, 0.1)])
def test_all_examples_count_whatever_batch_they_are_in(first, scale):
  model, variables, x = network()
  spiking, delays = tcljax.SpikingConfig(time_steps=16), range(0, 16, 2)
  x = x * jnp.where(jnp.arange(24) < first, 1.0, scale)[:, None]
  together, of_last = (
    errors(model, variables, some, spiking, distillation, delays) for some in (x, x[first:])
  )
  assert together.argmin() != of_last.argmin()
  found = tcljax.choose_delay(model, variables, [x[:first], x[first:]], spiking)
  assert found.delay == delays[together.argmin()]


def test_quantities_by_their_squared_errors():
  model, variables, x = network("numbers", late=3.0)
  spiking, delays = tcljax.SpikingConfig(time_steps=16), range(0, 16, 2)
  wrong = errors(model, variables, x, spiking, squared_error, delays)
  found = tcljax.choose_delay(model, variables, [x], spiking, outputs="quantities")
  assert found.delay == delays[wrong.argmin()]
  as_logits = errors(model, variables, x, spiking, distillation, delays)
  assert as_logits.argmin() != wrong.argmin()


def test_of_several_outputs_shares_are_added():
  model, variables, x = network("both", late=3.0)
  spiking, delays = tcljax.SpikingConfig(time_steps=16), range(0, 16, 2)

  def distance(told, wanted):
    share = squared_error(told[1], wanted[1]) / jnp.mean(jnp.square(wanted[1]))
    return distillation(told[0], wanted[0]) + share

  wrong = errors(model, variables, x, spiking, distance, delays)
  outputs = ("classes", "quantities")
  found = tcljax.choose_delay(model, variables, [x], spiking, outputs=outputs)
  assert found.delay == delays[wrong.argmin()]


@pytest.mark.parametrize(
  ("batches", "options", "message"),
  [
    ([], {}, "batches is empty: give inputs to choose by"),
    (np.ones((2, 8)), {}, "batches"),
    ([np.ones((2, 8))], {"outputs": "boxes"}, "outputs='boxes' is unknown: choose one"),
    ([np.full((2, 8), np.nan)], {}, "answers to these batches are no numbers"),
    ([np.ones((2, 9))], {}, "takes no inputs of shape (batch, 9)"),
  ],
)
def test_what_it_refuses(batches, options, message):
  model, variables, _ = network()
  with pytest.raises(ValueError, match=re.escape(message)):
    tcljax.choose_delay(model, variables, batches, **options)


def test_thresholds_must_be_there():
  model, variables, x = network()
  weights = {"params": variables["params"]}
  with pytest.raises(ValueError, match="no collection 'clipping'"):
    tcljax.choose_delay(model, weights, [x])
