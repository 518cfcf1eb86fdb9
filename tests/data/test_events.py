"""Events as lists, and the frames that they are binned into."""

import numpy as np
import pytest

from tcljax.data import Events, frames_by_count, frames_by_time

NONE = Events([], [], [], [])


@pytest.fixture
def events():
  """Seven events on a sensor of 3 rows and 4 columns, one a row: x, y, microseconds, polarity."""
  rows = [
    (0, 0, 100, 1),
    (3, 2, 100, 0),
    (3, 2, 101, 0),
    (1, 1, 102, 1),
    (1, 2, 190, 0),
    (0, 0, 199, 1),
    (2, 0, 199, 1),
  ]
  return Events(*np.array(rows).T)


def listed(frames):
  """(frame, row, column, polarity) of every count, as often as it was counted."""
  where = np.repeat(np.argwhere(frames), frames[frames > 0], axis=0)
  return sorted(map(tuple, where.tolist()))


def test_frames_by_time_cover_equal_times(events):
  frames = frames_by_time(events, (3, 4), 4)  # from 100 to 200
  assert (frames.shape, frames.dtype) == ((4, 3, 4, 2), np.int32)
  first = [(0, 0, 0, 1), (0, 1, 1, 1), (0, 2, 3, 0), (0, 2, 3, 0)]
  assert listed(frames) == [*first, (3, 0, 0, 1), (3, 0, 2, 1), (3, 2, 1, 0)]


def test_frames_between_two_times_leave_other_events_out(events):
  frames = frames_by_time(events, (3, 4), 2, between=(101, 199))  # 101 to 149, 150 to 198
  assert listed(frames) == [(0, 1, 1, 1), (0, 2, 3, 0), (1, 2, 1, 0)]
  assert not frames_by_time(events, (3, 4), 2, between=(0, 50)).any()
  late = frames_by_time(events, (3, 4), 3, between=(-(2**62), 2**62))  # beyond 64 bits
  assert listed(late)[0][0] == listed(late)[-1][0] == 1


def test_frames_by_count_hold_equally_many_events(events):
  frames = frames_by_count(events, (3, 4), 3)
  np.testing.assert_array_equal(frames.sum(axis=(1, 2, 3)), [3, 2, 2])
  assert listed(frames[1]) == [(1, 1, 1), (2, 1, 0)]
  few = frames_by_count(events, (3, 4), 9)
  assert few.sum() == 7 and set(few.sum(axis=(1, 2, 3))) == {0, 1}


@pytest.mark.parametrize("frames_of", [frames_by_time, frames_by_count])
def test_no_events_make_empty_frames(frames_of):
  frames = frames_of(NONE, (3, 4), 5)
  assert frames.shape == (5, 3, 4, 2) and not frames.any()
  assert len(NONE) == 0 and NONE.polarity.dtype == bool


def test_polarities_come_in_three_ways():
  for given in ([True, False], [1, 0], [1, -1], np.array([1, 0], np.uint8)):
    np.testing.assert_array_equal(Events([0, 1], [0, 0], [5, 5], given).polarity, [True, False])


@pytest.mark.parametrize(
  ("fields", "told"),
  [
    (([0, 1], [0, 0], [5, 4], [1, 1]), "timestamp=4 of event 1 is before that of the event ahead"),
    (([0], [0, 0], [5, 5], [1, 1]), "events have 1 of x, 2 of y, 2 of timestamp, 2 of polarity"),
    (([0.0], [0], [5], [1]), r"x of events has shape \(1,\) and type float64: give integers \[N\]"),
    (([[0]], [0], [5], [1]), r"x of events has shape \(1, 1\) and type int64: give integers"),
    ((["a"], [0], [5], [1]), "x of events has shape .* type <U1: give integers"),
    (([[0], [1, 2]], [0], [5], [1]), "x of events has shape .* give integers"),
    (([0, -1], [0, 0], [5, 5], [1, 1]), "x=-1 of event 1 must not be negative"),
    (([0], [-2], [5], [1]), "y=-2 of event 0 must not be negative"),
    (([0], [0], [5], [2]), "polarity=2 of event 0 must be 0 or 1, or -1 or 1"),
    (([0], [0], np.array([2**63], np.uint64), [1]), "timestamp=9223372036854775808 of event 0 doe"),
  ],
)
def test_what_are_no_events_is_told(fields, told):
  with pytest.raises(ValueError, match=told) as caught:
    Events(*fields)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("arguments", "told"),
  [
    (((3, 3), 2), r"x=3 of event 1 lies outside the sensor, size=\(3, 3\)"),
    (((2, 4), 2), r"y=2 of event 1 lies outside the sensor, size=\(2, 4\)"),
    ((3, 2), "size=3 must be two integers: rows and columns of the sensor"),
    (((3, 4, 2), 2), r"size=\(3, 4, 2\) must be two integers"),
    (((0, 4), 2), r"size=\(0, 4\) must be rows and columns of the sensor, from 1 on"),
    (((3, 4), 0), "time_steps=0 must be at least 1"),
    (((3, 4), 2.5), "time_steps=2.5 must be a whole number"),
  ],
)
def test_what_are_no_frames_is_told(events, arguments, told):
  for frames_of in (frames_by_time, frames_by_count):
    with pytest.raises(ValueError, match=told):
      frames_of(events, *arguments)
  with pytest.raises(ValueError, match=r"between=\(9, 9\) must end after it begins"):
    frames_by_time(events, (3, 4), 2, between=(9, 9))
  with pytest.raises(ValueError, match=r"events is of type tuple and must be tcljax.data.Events"):
    frames_by_time(([0], [0], [0], [0]), (3, 4), 2)
