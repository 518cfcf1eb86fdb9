"""Convolutions as ones with symmetric padding and square kernels."""

import itertools

import numpy as np

from tcljax.graph.symmetric import Axis, symmetric


def convolved(image, kernel, axes):
  """[count, ...] of an image [n, ...] and a kernel [k, ...]; outside of the image is 0."""
  found = np.zeros([axis.count for axis in axes])
  for at in np.ndindex(*found.shape):
    for tap in np.ndindex(*kernel.shape):
      place = [r * a.stride + j * a.dilation - a.low for r, j, a in zip(at, tap, axes)]
      if all(0 <= p < a.size for p, a in zip(place, axes)):
        found[at] += image[tuple(place)] * kernel[tap]
  return found


def test_the_sums_are_those_of_the_convolution():
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(200):
    sizes, axes = rng.integers(1, 4, 2), []
    for _ in sizes:
      n, stride, low, dilation = rng.integers((2, 1, -1, 1), (7, 4, 3, 3))
      axes.append(Axis(int(n), int(rng.integers(1, 6)), int(stride), int(low), int(dilation)))
    image, kernel = (rng.integers(-4, 5, shape) for shape in ([a.size for a in axes], sizes))
    found = symmetric(kernel[..., None, None], axes)
    if found is None:
      refused += 1
      continue
    made = [
      Axis(
        a.size,
        (a.size + 2 * p - d * (found.kernel.shape[0] - 1) - 1) // a.stride + 1,
        a.stride,
        p,
        d,
      )
      for a, p, d in zip(axes, found.padding, found.dilation)
    ]
    assert found.kernel.shape[0] == found.kernel.shape[1] and min(found.padding) >= 0
    assert [a.count for a in made] == [a.count for a in axes]
    np.testing.assert_array_equal(
      convolved(image, found.kernel[..., 0, 0], made), convolved(image, kernel, axes)
    )
  assert 0 < refused < 100


def test_what_is_symmetric_stays_as_it_is():
  kernel = np.ones((3, 3, 2, 4))
  for dilation, stride in itertools.product((1, 2), (1, 2)):
    axes = [Axis(8, (8 - 1) // stride + 1, stride, dilation, dilation)] * 2
    assert symmetric(kernel, axes).kernel is kernel
    assert symmetric(kernel, axes)[1:] == ((dilation,) * 2,) * 2


def test_one_axis_of_odd_kernels_and_one_of_even_ones_cannot_be():
  assert symmetric(np.ones((3, 2, 1, 1)), [Axis(6, 4), Axis(6, 5)]) is None
  found = symmetric(np.ones((3, 2, 1, 1)), [Axis(6, 6, low=1), Axis(6, 6, low=0)])
  assert found.kernel.shape[:2] == (3, 3) and found.padding == (1, 1)
