"""Parts that are put into a value or added to it are read from where they go.

`trace` itself compares the network with the function, here with each of several outputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import IMAGES, ops, stem

import tcljax

ROWS = jax.ShapeDtypeStruct((2, 12), jnp.float32)
PLACES, TWICE = np.array([7, 1]), np.array([7, 7])
TO, FROM = np.array([0, 2, 2, 5, 1, 2]), np.array([3, 3, 0, 1, 4, 5])


def changed(x):
  """Rows [B, 12] with parts in other places."""
  return (
    jnp.insert(x, 3, 0.5, axis=1),
    jnp.insert(x, np.array([3, 5]), x[:, :2], axis=1),
    x.at[:, 2].multiply(3.0).at[:, PLACES].divide(2.0).at[:, 1].subtract(0.5),
    x.at[:, PLACES].set(x[:, :2]),
    x.at[:, ::2].set(x[:, 1::2]),
    x.at[:, PLACES].subtract(x[:, :2]),
    x.at[:, TWICE].add(x[:, :2]),
    x.at[:, 0].apply(lambda part: 2.0 * part - 1.0),
    jnp.ones((len(x), 20)).at[:, np.arange(12) * 3 % 20].add(x),
    jax.vmap(lambda row: row.at[3].set(row[0]))(x),
    jax.vmap(lambda row: jax.ops.segment_sum(row[FROM], TO, 6))(x),
    # The batch second, where only the place in each example tells the numbers apart.
    x.reshape(-1, 3, 4).swapaxes(0, 1).at[TO[:2], :, FROM[:2]].set(x[:, :2].T).swapaxes(0, 1),
    jnp.diagonal(jax.vmap(lambda row: row.reshape(3, 4)[:, :3])(x), axis1=1, axis2=2),
  )


def test_parts_are_put_where_they_go():
  tcljax.trace(lambda x: changed(jax.nn.relu(x)), ROWS)


@pytest.mark.parametrize(
  "function, wanted",
  [
    # A block is padded, numbers here and there are taken.
    (lambda x: jnp.zeros((len(x), 9, 9, 4)).at[:, 1:, 1:].set(x), ["pad"]),
    (lambda x: x.at[:, 1:3, 2:5].set(x[:, 4:6, 3:6]), ["slice", "slice", "pad", "affine", "add"]),
    (lambda x: x.at[:, :, ::3].set(x[:, :, :3]), ["slice", "affine", "take", "affine", "add"]),
    (lambda x: x.at[:, PLACES].add(x[:, :2]), ["slice", "take", "affine", "add"]),
    (lambda x: x.at[:, 0].multiply(2.0), ["affine"]),
  ],
)
def test_what_parts_become(function, wanted):
  found = ops(tcljax.trace(lambda x: function(stem(x)), IMAGES))
  assert found[:2] == ["conv", "neurons"] and sorted(found[2:]) == sorted(wanted)


@pytest.mark.parametrize(
  "function, told",
  [
    (lambda x: x.at[0].set(0.0), "`scatter` .*: each example is to be answered by itself"),
    (lambda x: x.at[:, 0].set(x[::-1, 1]), "`rev` .*: each example"),
    (lambda x: x.at[:, 0].apply(jnp.sin), r"`scatter` .*: take parts out by x\[:, a:b\], compute"),
    (lambda x: x.at[:, 0].min(0.0), "`scatter-min` .*: take parts out"),
    (lambda x: x.at[:, 0].multiply(x[:, 1]), "`scatter-mul` .*: take parts out"),
    (
      lambda x: jnp.zeros((len(x), 2)).at[:, np.zeros(33, int)].add(jnp.tile(x, 3)[:, :33]),
      "`scatter-add` .*: add at most 32 numbers to one",
    ),
  ],
)
def test_other_changes_are_refused_with_the_line(function, told):
  with pytest.raises(ValueError, match=rf"applies {told}") as raised:
    tcljax.trace(lambda x: function(jax.nn.relu(x)), ROWS)
  assert "(test_scatters.py:" in str(raised.value) and "\n" not in str(raised.value)
