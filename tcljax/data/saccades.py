"""Pictures as an event camera records them: moved along small jerks of the eye, saccades.

N-MNIST was made so from MNIST, by a camera on a stage that moved before a screen (Orchard et al.,
2015). Here the picture moves, and each pixel tells whenever the logarithm of its brightness has
moved by a threshold since it last told.
"""

import itertools

import numpy as np

from tcljax.data.events import Events

# Along a triangle and back to its start, in pixels of the picture: right and down, right and up,
# left, as that camera moved.
_CORNERS = np.array([(0.0, 0.0), (0.5, 1.0), (1.0, 0.0), (0.0, 0.0)])  # (x, y)
_STEPS = 8  # pictures taken along each of the three sides
_STEP_MICROSECONDS = 4000
_SCALE, _BORDER = 2, 2  # pixels of the sensor for one of the picture; and around it
_THRESHOLD = 0.35  # of the logarithm of brightness
_DARK = 0.1  # brightness of black, where white is 1: the logarithm has no end there


def sensor_size(side: int) -> tuple[int, int]:
  """Rows and columns of the sensor for pictures of so many pixels a side."""
  length = _SCALE * side + 2 * _BORDER
  return length, length


def record(pictures: np.ndarray, rng: np.random.Generator) -> list[Events]:
  """The events of pictures that move along three saccades.

  Args:
    pictures: [N, S, S], brightness from 0 to 1.
    rng: of how far each moves to the right and up, from 1 to 1.5 of its pixels.

  Returns:
    For each its events, on a sensor of the size `sensor_size(S)`, over some 96 milliseconds.
  """
  sides = [np.linspace(a, b, _STEPS, endpoint=False) for a, b in itertools.pairwise(_CORNERS)]
  path = np.concatenate([*sides, _CORNERS[-1:]])
  path = (path - path.mean(axis=0)) * rng.uniform(1.0, 1.5, (len(pictures), 1, 2))
  told = _brightness(pictures, path[:, 0])
  found = []
  for step in range(1, path.shape[1]):
    # How often each pixel tells within this step, its sign, and what it told last.
    crossed = np.trunc((_brightness(pictures, path[:, step]) - told) / _THRESHOLD)
    told += crossed * _THRESHOLD
    which, rows, columns = np.nonzero(crossed)
    times = np.abs(crossed[which, rows, columns]).astype(int)
    pixel = np.repeat(np.arange(len(rows)), times)
    number = np.arange(len(pixel)) - np.repeat(np.cumsum(times) - times, times)
    at = (step - 1 + (number + 1) / (times[pixel] + 1)) * _STEP_MICROSECONDS
    on = crossed[which, rows, columns] > 0
    found.append(np.stack([which[pixel], columns[pixel], rows[pixel], at.astype(int), on[pixel]]))
  which, *fields = np.concatenate(found, axis=1)
  order = np.lexsort((fields[2], which))
  ends = np.searchsorted(which[order], np.arange(1, len(pictures)))
  parts = [np.split(field[order], ends) for field in fields]
  return [Events(*one) for one in zip(*parts)]


def _brightness(pictures: np.ndarray, shifts: np.ndarray) -> np.ndarray:
  """What the sensor sees, as logarithms, [N, H, W]; black around the pictures, bilinear between.

  Args:
    pictures: [N, S, S].
    shifts: by how many of their pixels they lie to the right and down, [N, 2].
  """
  side = pictures.shape[-1]
  middles = (np.arange(sensor_size(side)[0]) - _BORDER + 0.5) / _SCALE - 0.5
  # What each pixel of the sensor takes of each of a picture along one axis, [N, 2, H, S].
  distances = middles[:, None] - np.arange(side) - shifts[..., None, None]
  along_x, along_y = np.moveaxis(np.maximum(0, 1 - np.abs(distances)), 1, 0)
  seen = along_y @ pictures @ along_x.transpose(0, 2, 1)
  return np.log(_DARK + (1 - _DARK) * seen)
