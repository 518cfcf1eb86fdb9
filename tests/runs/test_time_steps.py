"""A config for another number of time steps: its training, readout and instalments."""

import dataclasses

import pytest

from tcljax.runs import config_forms
from tcljax.runs.experiment import with_time_steps


def described(**sections):
  """The fields of a section, by its name, in place of the defaults."""
  config = config_forms.base_config()
  for name, fields in sections.items():
    config[name].update(fields)
  return config_forms.parse(config)


def test_tuning_takes_as_many_steps_of_simulation_for_each_t():
  made = described(snn={"time_steps": 4}, tune={"at": (2, 4), "steps": 6})
  for t, steps in ((1, 12), (2, 6), (4, 3), (1000, 1)):  # one set for both has the training of two
    assert with_time_steps(made, t).tune.steps == steps
  one = dataclasses.replace(made, tune=dataclasses.replace(made.tune, at=()))
  assert with_time_steps(one, 1).tune.steps == 24


def test_few_steps_are_all_read_out_and_take_as_many_instalments():
  made = described(snn={"delay": 2}, tune={"instalments": 3})
  for t, delay, instalments in ((1, 0, 1), (2, 0, 2), (3, 2, 3), (8, 2, 3)):
    one = with_time_steps(made, t)
    assert one.snn.spiking().delay == one.snn.delay == delay
    assert one.eval.time_steps == one.snn.time_steps == t
    assert one.tune.instalments == instalments


def test_a_delay_left_to_calibration_stays_so():
  assert [with_time_steps(described(), t).snn.delay for t in (1, 4, 32)] == [-1, -1, -1]


@pytest.mark.parametrize(
  ("calibration", "time_steps", "parts"),
  [("least_squares", 4, 4), ("least_squares", 32, 8), ("delivered", 4, 4), ("delivered", 32, 17)],
)
def test_as_many_instalments_as_thresholds_for_these_steps_want(calibration, time_steps, parts):
  config = config_forms.base_config()
  config.tune.calibration = calibration
  made = config_forms.parse(config)
  assert with_time_steps(made, time_steps).tune.instalments == parts


def test_of_phases_a_delay_of_t_steps_is_none_too():
  config = config_forms.base_config()
  config.snn.phase = config.snn.delay = 4
  made = config_forms.parse(config)
  assert [with_time_steps(made, t).snn.delay for t in (4, 8, 16)] == [0, 4, 4]
  with pytest.raises(ValueError, match="time_steps=2 is no multiple of phase=4"):
    with_time_steps(made, 2)
