"""Lists of events, as event cameras record them, and the frames that they are binned into.

An event camera has no frames: each pixel by itself tells when its brightness has risen or fallen by
a certain factor. Counted over stretches of a recording, events make a sequence of frames, one for
each time step of a simulation with encoding="frames".
"""

import dataclasses
import operator
from typing import Any

import numpy as np

from tcljax.checks import check_count, in_a_line


@dataclasses.dataclass(frozen=True, eq=False)  # equal to itself alone, as it holds arrays
class Events:
  """Events in the order of their times, each field an array [N].

  The fields are given as anything that NumPy makes arrays of integers of.

  Attributes:
    x: column of each event, from 0 on the left.
    y: row of each event, from 0 at the top.
    timestamp: when it came, in microseconds; none is before the one ahead of it.
    polarity: True where the pixel became brighter, False where darker; given as booleans, as 0 and
      1, or as -1 and 1.

  Raises:
    ValueError: if these are no integers [N], as many of each, times run backwards, a coordinate is
      negative or a polarity none.

  Examples:
    >>> from tcljax.data import Events, frames_by_time
    >>> events = Events(x=[0, 2, 2], y=[0, 1, 1], timestamp=[5, 20, 24], polarity=[1, 0, 0])
    >>> frames = frames_by_time(events, (2, 3), 2)
    >>> frames.shape, int(frames[0, 0, 0, 1]), int(frames[1, 1, 2, 0])
    ((2, 2, 3, 2), 1, 2)
  """

  x: np.ndarray
  y: np.ndarray
  timestamp: np.ndarray
  polarity: np.ndarray

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      object.__setattr__(self, field.name, _integers(field.name, getattr(self, field.name)))
    counts = {field.name: len(getattr(self, field.name)) for field in dataclasses.fields(self)}
    if len(set(counts.values())) > 1:
      found = ", ".join(f"{count} of {name}" for name, count in counts.items())
      raise ValueError(f"events have {found}: give as many of each")
    for field in ("x", "y"):
      _check_all(field, getattr(self, field), getattr(self, field) >= 0, "must not be negative")
    known = np.isin(self.polarity, (-1, 0, 1))
    _check_all("polarity", self.polarity, known, "must be 0 or 1, or -1 or 1")
    object.__setattr__(self, "polarity", self.polarity > 0)
    ordered = np.diff(self.timestamp, prepend=self.timestamp[:1]) >= 0
    _check_all(
      "timestamp", self.timestamp, ordered, "is before that of the event ahead: sort events by time"
    )

  def __len__(self) -> int:
    return len(self.x)


def frames_by_time(
  events: Events,
  size: tuple[int, int],
  time_steps: int,
  between: tuple[int, int] | None = None,
) -> np.ndarray:
  """Frames that each cover an equal part of the time.

  Args:
    events: those of one example.
    size: rows and columns of the sensor, (H, W).
    time_steps: T, the number of frames.
    between: first microsecond, and the first that is not covered any more; events outside are left
      out. By default from the first event to the last.

  Returns:
    How many events each pixel had in each stretch, [T, H, W, 2] int32; the last axis is first those
    that became darker, then those that became brighter. Zeros where there are no events.

  Raises:
    ValueError: if an event lies outside the sensor, or an argument is none.
  """
  _check_events(events)
  check_count("time_steps", time_steps, 1)
  if between is None:
    times = events.timestamp
    start, end = (int(times[0]), int(times[-1]) + 1) if len(times) else (0, 1)
  else:
    start, end = _pair("between", between, "the microseconds at which to begin and to end")
    if start >= end:
      raise ValueError(f"between={(start, end)} must end after it begins")
  # In Python's numbers where a product might leave those of 64 bits.
  elapsed = events.timestamp - start
  if (end - start) * time_steps >= 2**63:
    elapsed = elapsed.astype(object)
  inside = (events.timestamp >= start) & (events.timestamp < end)
  frame = np.where(inside, elapsed * time_steps // (end - start), -1).astype(np.int64)
  return _counted(events, size, time_steps, frame)


def frames_by_count(events: Events, size: tuple[int, int], time_steps: int) -> np.ndarray:
  """Frames of equally many events each, to within one; fast movements get shorter frames.

  Args:
    events: those of one example.
    size: rows and columns of the sensor, (H, W).
    time_steps: T, the number of frames.

  Returns:
    Counts as those of `frames_by_time`, [T, H, W, 2] int32.

  Raises:
    ValueError: if an event lies outside the sensor, or an argument is none.
  """
  _check_events(events)
  check_count("time_steps", time_steps, 1)
  frame = np.arange(len(events)) * time_steps // max(1, len(events))
  return _counted(events, size, time_steps, frame)


def _counted(
  events: Events, size: tuple[int, int], time_steps: int, frame: np.ndarray
) -> np.ndarray:
  """How many events lie in each frame and pixel; a negative frame is none."""
  height, width = _pair("size", size, "rows and columns of the sensor, such as (34, 34)")
  if min(height, width) < 1:
    raise ValueError(f"size={(height, width)} must be rows and columns of the sensor, from 1 on")
  for field, most in (("x", width), ("y", height)):
    values = getattr(events, field)
    _check_all(field, values, values < most, f"lies outside the sensor, size={(height, width)}")
  place = ((frame * height + events.y) * width + events.x) * 2 + events.polarity
  shape = (int(time_steps), height, width, 2)
  return np.bincount(place[frame >= 0], minlength=np.prod(shape)).reshape(shape).astype(np.int32)


def _integers(field: str, values: Any) -> np.ndarray:
  """An array [N] of int64; ValueError if it is something else."""
  try:
    array = np.asarray(values)
  except ValueError:  # lists of several lengths
    array = np.asarray(None)
  if array.ndim == 1 and not array.size:
    return np.zeros(0, np.int64)
  if array.ndim != 1 or array.dtype.kind not in "iub":
    raise ValueError(
      f"{field} of events has shape {array.shape} and type {array.dtype}: give integers [N], one "
      "for each event"
    )
  if array.dtype.kind == "u":
    _check_all(field, array, array < 2**63, "does not fit into 64 bits with a sign")
  return array.astype(np.int64)


def _check_all(field: str, values: np.ndarray, good: np.ndarray, fault: str) -> None:
  """Raises ValueError of the first event that is not good."""
  if not good.all():
    i = int(np.argmin(good))
    raise ValueError(f"{field}={values[i]} of event {i} {fault}")


def _check_events(events: Any) -> None:
  if not isinstance(events, Events):
    raise ValueError(
      f"events is of type {type(events).__name__} and must be tcljax.data.Events: make them of "
      "arrays, Events(x, y, timestamp, polarity), or read them by read_events"
    )


def _pair(field: str, value: Any, what: str) -> tuple[int, int]:
  try:
    first, second = map(operator.index, value)
  except (TypeError, ValueError):
    raise ValueError(f"{field}={in_a_line(value)} must be two integers: {what}") from None
  return first, second
