"""Maxima of windows are given to populations, wherever they stand in a traced function."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import IMAGES, SQUARE, conv, currents, head, ops, stem, weights

import tcljax


def pool(x, window=(2, 2), strides=(2, 2), padding="VALID"):
  return nn.max_pool(x, window, strides, padding)


def windows(network):
  """Of each population that pools: window, stride and padding."""
  settings = [dict(n.settings) for n in network.model.graph.nodes if n.op == "neurons"]
  return [(s["window"], s["stride"], s["padding"]) for s in settings if "window" in s]


POSITIVE, SIGNED = (jnp.array([1.0, 2, sign * 3, 4])[None, None, None] for sign in (1, -1))
TWO = (2, 2, 0)


@pytest.mark.parametrize(
  "function, wanted",
  [
    (lambda x: pool(stem(x)), [TWO]),
    (lambda x: jax.nn.relu(pool(currents(x))), [TWO]),
    (lambda x: pool(stem(x), (3, 3), (2, 2), "SAME"), [(3, 2, ((0, 1), (0, 1)))]),
    (lambda x: pool(stem(x), (3, 1), (2, 1)), [((3, 1), (2, 1), 0)]),
    (lambda x: pool(stem(x), padding=((1, 1), (0, 1))), [(2, 2, ((1, 1), (0, 1)))]),
    (lambda x: stem(x).max((1, 2)), [(8, 8, 0)]),
    (lambda x: jax.lax.cummax(stem(x), axis=1), [((8, 1), 1, ((7, 0), (0, 0)))]),
    # Through scales above 0, shifts, joined channels, and zeros around.
    (lambda x: pool(stem(x) * POSITIVE - 0.5), [TWO]),
    (lambda x: jax.nn.relu(pool(currents(x)) * POSITIVE - 0.5), [TWO]),
    (lambda x: pool(jnp.concatenate([stem(x), jax.nn.relu(currents(x) + 1)], -1)), [TWO, TWO]),
    (
      lambda x: pool(jnp.pad(stem(x), ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3)),
      [(3, 2, 1)],
    ),
    # Of maxima, of means, and of what a shortcut needs too.
    (lambda x: pool(pool(stem(x), (3, 3), (1, 1), "SAME"), (3, 3), (1, 1), "SAME"), [(5, 1, 2)]),
    (lambda x: pool(nn.avg_pool(stem(x), (2, 2), (2, 2))), [TWO]),
    (lambda x: pool(stem(x)) + stem(x)[:, ::2, ::2], [TWO]),
    (lambda x: pool(jax.nn.relu6(currents(x))), [TWO]),
    # Over what would be the channels.
    (lambda x: pool(stem(x).swapaxes(2, 3), (1, 2), (1, 2)), [((1, 2), (1, 2), 0)]),
    (lambda x: jax.nn.relu(x.mean((1, 2, 3), keepdims=True) + x).max((1, 2)), [(8, 8, 0)]),
  ],
)
def test_a_population_pools(function, wanted):
  network = tcljax.trace(function, IMAGES)
  assert windows(network) == wanted
  assert "max_pool" not in ops(network)


MIXED = weights(4, 16)


@pytest.mark.parametrize(
  "function",
  [
    lambda x: pool(stem(x) * SIGNED),
    lambda x: pool(conv(stem(x), SQUARE)),
    lambda x: pool(conv(stem(x), SQUARE), (3, 3), (2, 2), "SAME"),
    lambda x: jax.nn.relu(pool(currents(x)) * SIGNED),
    lambda x: (currents(x) @ MIXED).reshape(-1, 8, 8, 4, 4).max(-1),
  ],
)
def test_maxima_of_either_sign_are_maxima_of_two(function):
  network = tcljax.trace(lambda x: head(function(x)), IMAGES)
  assert "max_pool" not in ops(network) and not windows(network)
  images = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
  variables = tcljax.calibrate(
    network.model, network.variables, [images], method="maximum", v_init=0.5, instalments=1
  )
  spiking = tcljax.SpikingConfig(time_steps=512)
  found = tcljax.simulate(network.model, variables, images, spiking).logits
  expected = head(function(images))
  assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_maxima_of_channels_and_minima_are_maxima_of_two():
  """Of n numbers in about log2(n) populations; of ReLUs in one, whatever n is."""

  def function(x):
    y = stem(x).mean((1, 2)) @ MIXED
    return (
      y.max(-1, keepdims=True),
      -y.reshape(-1, 4, 4).max(1),
      jnp.ptp(y.reshape(-1, 2, 8), axis=-1),
      jax.lax.reduce_window(currents(x), jnp.inf, jax.lax.min, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    )

  network = tcljax.trace(function, IMAGES)
  assert "max_pool" not in ops(network)
  assert len(network.populations) == 1 + 4 + 2 + 2 * 3 + 2
  assert len(tcljax.trace(lambda x: stem(x).max((2, 3)), IMAGES).populations) == 1
  average = tcljax.trace(
    lambda x: head(pool(stem(x))).max(-1, keepdims=True), IMAGES, pooling="average"
  )
  assert "sum_pool" in ops(average) and len(average.populations) == 1 + 3


def test_a_large_maximum_of_either_sign_is_refused_with_what_to_do():
  function = lambda x: currents(x).max((1, 2)) + stem(x).sum((1, 2))
  told = r"`reduce_max` \(test_maxima.py:\d+\): of numbers of either sign .*: apply ReLU before it"
  with pytest.raises(ValueError, match=told):
    tcljax.trace(function, IMAGES)
  rows = [line.split() for line in tcljax.explain(function, IMAGES).splitlines()]
  assert ["reduce_max", "refused"] in [row[:2] for row in rows]
  assert [row[1] for row in rows].count("refused") == 1


def test_the_three_ways_to_pool():
  function = lambda x: head(pool(stem(x)))
  images = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
  found = {}
  for pooling in ("gate", "before", "average"):
    network = tcljax.trace(function, IMAGES, pooling=pooling)
    (settings,) = [dict(n.settings) for n in network.model.graph.nodes if n.op == "neurons"]
    found[pooling] = settings.get("of")
    variables = tcljax.calibrate(network.model, network.variables, [images])
    made = tcljax.convert(network.model, variables, (8, 8, 3))
    assert np.isfinite(made(images)).all()
    outputs = network.model.apply(network.variables, images)
    same = np.allclose(outputs, function(images), rtol=1e-4, atol=1e-5)
    assert same == (pooling != "average")
  assert found == {"gate": "spikes", "before": "currents", "average": None}
  expected = head(nn.avg_pool(stem(images), (2, 2), (2, 2)))
  np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="pooling='max' is unknown: choose one of average, before"):
    tcljax.trace(function, IMAGES, pooling="max")


def test_what_no_window_of_two_can_do_is_refused():
  for function in (
    lambda x: pool(conv(stem(x), SQUARE), (6, 6), (1, 1)),
    lambda x: jax.lax.cummax(conv(x, weights(3, 3, 3, 40)), axis=3),
    lambda x: jax.lax.reduce_window(
      stem(x),
      -jnp.inf,
      jax.lax.max,
      (1, 2, 2, 1),
      (1, 1, 1, 1),
      "VALID",
      window_dilation=(1, 2, 2, 1),
    ),
  ):
    told = (
      r"applies `(reduce_window_max|cummax)` \(test_maxima.py:.*(use average pool|dilation at 1)"
    )
    with pytest.raises(ValueError, match=told):
      tcljax.trace(lambda x, function=function: head(function(x)), IMAGES)
