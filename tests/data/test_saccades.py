"""Pictures as an event camera records them while they move."""

import numpy as np
import pytest

from tcljax.data import load_dataset, saccades


@pytest.fixture(scope="module")
def pictures():
  """A bright square in the middle, another with a dark one in it, and nothing."""
  found = np.zeros((3, 8, 8))
  found[:2, 2:6, 2:6] = 1
  found[1, 3:5, 3:5] = 0.2
  return found


def test_events_tell_the_brightness_that_the_sensor_sees(pictures, monkeypatch):
  """Added up, they come to the change of its logarithm, to one threshold."""
  seen = []
  brightness = saccades._brightness
  monkeypatch.setattr(
    saccades, "_brightness", lambda *args: (seen.append(brightness(*args)), seen[-1].copy())[1]
  )
  recorded = saccades.record(pictures, np.random.default_rng(0))
  assert len(seen) == 25 and len(recorded[2]) == 0
  for i, events in enumerate(recorded[:2]):
    for step in (1, 8, 24):
      sums = np.zeros(saccades.sensor_size(8))
      until = events.timestamp < step * 4000
      signs = np.where(events.polarity, 1, -1)[until]
      np.add.at(sums, (events.y[until], events.x[until]), signs)
      left = seen[step][i] - seen[0][i] - 0.35 * sums
      assert np.abs(left).max() < 0.35 + 1e-9 and np.abs(sums).max() >= 1


def test_a_square_that_moves_right_brightens_on_the_right(pictures):
  events = saccades.record(pictures[:1], np.random.default_rng(0))[0]
  early = events.timestamp < 24_000  # within the first saccade, right and down
  left, right = (events.polarity[early & side] for side in (events.x < 9, events.x > 10))
  assert len(left) > 20 and left.mean() < 0.3 and len(right) > 20 and right.mean() > 0.7


def test_what_the_sensor_sees_is_the_picture_moved(pictures):
  picture, shift = pictures[1], np.array([[0.5, -1.0]])  # by a pixel of the sensor, and by two
  still = np.exp(saccades._brightness(picture[None], np.zeros((1, 2)))[0])
  moved = np.exp(saccades._brightness(picture[None], shift)[0])
  np.testing.assert_allclose(moved[:-2, 1:], still[2:, :-1], rtol=1e-9)
  assert still.shape == (20, 20) and still.min() == pytest.approx(0.1)


def test_event_digits_are_the_digits_in_motion():
  still = load_dataset("digits", validation=9)
  moving = load_dataset("event_digits/5", validation=9)
  assert (still.frames, moving.frames) == (0, 5)
  for part in ("train", "validation", "test"):
    a, b = getattr(still, part), getattr(moving, part)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert b.images.shape == (len(a), 5, 20, 20, 2) and b.images.dtype == np.uint8
    assert 500 < b.images.sum(axis=(1, 2, 3, 4)).min()
