"""The settings of a simulation: what they allow, and the chunk that divides T."""

import dataclasses

import numpy as np
import pytest

import tcljax
from tcljax.simulation.settings import SpikingConfig


@pytest.mark.parametrize("steps, chunk", [(1, 1), (7, 7), (12, 6), (64, 8), (13, 1)])
def test_automatic_chunk_divides(steps, chunk):
  assert SpikingConfig(time_steps=steps).time_steps_per_chunk(8) == chunk
  assert SpikingConfig(time_steps=steps).time_steps_per_chunk(1) == 1


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"time_steps": 0}, "time_steps=0: a simulation takes at least 1 step"),
    ({"time_steps": 10**20}, "time_steps=100000000000000000000: a neuron's spikes are counted in"),
    ({"time_steps": 8, "chunk": 3}, "chunk=3 does not divide time_steps=8"),
    ({"chunk": -1}, "chunk=-1 does not divide"),
    ({"delay": 8}, "delay=8 must be at least 0 and below time_steps=8"),
    ({"delay": -1}, "delay=-1 must be at least 0"),
    ({"delay": 0.5}, "delay=0.5 must be an integer"),
    ({"neuron": {"reset": "x"}}, "reset='x' is unknown: choose one of soft, hard"),
    (
      {"neuron": {"reset": "hard", "leak": 0.5}},
      "neuron has no field 'leak', only burst, phase, reset, signed, surr",
    ),
    ({"neuron": "hard"}, "neuron='hard' must be a tcljax.Neuron"),
    ({"encoding": "x"}, "encoding='x' is unknown: choose one of constant, poisson, frames"),
    ({"neuron": {"width": 0.0}}, "width=0.0 must be positive"),
    ({"neuron": {"width": float("inf")}}, "width=inf must be positive"),
    ({"time_steps": 8.0}, "time_steps=8.0 must be an integer"),
    ({"chunk": "2"}, "chunk='2' must be an integer"),
    ({"time_steps": 6, "neuron": {"phase": 4}}, "time_steps=6 is no multiple of phase=4: choose"),
    ({"delay": 2, "neuron": {"phase": 4}}, "delay=2 is no multiple of phase=4: leave out whole"),
  ],
)
def test_bad_configs(fields, message):
  with pytest.raises(ValueError, match=message):
    SpikingConfig(**fields)


def test_a_neuron_may_be_given_by_its_fields():
  fields = {"reset": "hard", "width": 0.5}
  assert SpikingConfig(neuron=fields) == SpikingConfig(neuron=tcljax.Neuron("hard", width=0.5))


@pytest.mark.parametrize(
  ("time_steps", "delay"), [(1, 0), (4, 0), (np.int64(5), 4), (8, 4), (16, 4)]
)
def test_settings_for_another_t_leave_out_nothing_within_the_delay(time_steps, delay):
  spiking = SpikingConfig(time_steps=8, chunk=8, delay=4, neuron={"burst": 2})
  chunk = 8 if time_steps == 8 else 0  # of another T it is left open
  assert spiking.with_time_steps(time_steps) == dataclasses.replace(
    spiking, time_steps=time_steps, chunk=chunk, delay=delay
  )


@pytest.mark.parametrize(
  ("time_steps", "message"),
  [
    (0, "time_steps=0: a simulation takes at least 1 step"),
    ("4", "time_steps='4' must be an integer"),
    (6, "time_steps=6 is no multiple of phase=4"),
  ],
)
def test_what_is_no_other_t_is_told(time_steps, message):
  with pytest.raises(ValueError, match=message):
    SpikingConfig(time_steps=8, delay=4, neuron={"phase": 4}).with_time_steps(time_steps)


def test_what_a_chunk_needs_knows_no_time_steps():
  of_4, of_8 = (SpikingConfig(time_steps=t, chunk=2, delay=1).one_chunk for t in (4, 8))
  assert of_4 == of_8 and (of_4.chunk, of_4.delay) == (2, 1)
  with pytest.raises(ValueError, match="chunk=0 must be at least 1"):
    SpikingConfig().one_chunk  # noqa: B018
