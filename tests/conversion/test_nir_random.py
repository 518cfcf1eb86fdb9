"""NIR graphs of random networks, run by plain NumPy and read back: the same spikes."""

import jax
import jax.numpy as jnp
import nir
import nir_interpreter
import nir_random
import numpy as np
import pytest
from nir_networks import conv, converted, head, images, spikes_of, weights

import tcljax

SHAPES = ((6, 6, 2), (5, 7, 3), (8, 2), (4, 4, 1), (1, 5, 2))


def check(network, x):
  """The graph of a network, once all its spikes and outputs are found to be those of tcljax."""
  graph = tcljax.to_nir(network)
  found, sent = nir_interpreter.run(graph, np.moveaxis(x, -1, 1), network.spiking.time_steps)
  fired, outputs = spikes_of(network, x)
  again, outputs_again = spikes_of(tcljax.from_nir(graph), x)
  for name in found:
    np.testing.assert_array_equal(np.moveaxis(fired[name], -1, 2), found[name], err_msg=name)
    np.testing.assert_array_equal(fired[name], again[name], err_msg=name)
  np.testing.assert_allclose(outputs.reshape(sent.shape), sent, atol=1e-6)
  np.testing.assert_allclose(outputs, outputs_again, atol=1e-6)
  return graph


def seeds_that_nir_can_say(seeds, shape):
  """Those of the seeds whose network is written; the others are refused in one line."""
  found = []
  for seed in seeds:
    try:
      tcljax.to_nir(nir_random.network_of(nir_random.function_of(seed), shape, seed))
      found.append(seed)
    except ValueError as error:
      assert str(error).startswith("NIR cannot say ") and "\n" not in str(error)
  return found


def test_random_networks_fire_alike():
  network = nir_random.network_of(nir_random.function_of(1, 2), SHAPES[1], 0)
  check(network, nir_random.images_of(SHAPES[1]))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_many_random_networks_fire_alike(shape):
  seeds = seeds_that_nir_can_say(range(100, 104), shape)
  assert len(seeds) >= 2
  network = nir_random.network_of(nir_random.function_of(*seeds), shape, 1)
  check(network, nir_random.images_of(shape))


def test_what_no_convolution_moves_takes_two():
  """Images that are turned, mirrored, and scaled and shifted pixel by pixel."""
  relu = jax.nn.relu

  def function(x):
    scale = np.float32(2.0 ** np.arange(-2, 1))[np.arange(6) % 3].reshape(1, 6, 1, 1)
    a = relu(conv(x, 2))
    b = relu(a.swapaxes(1, 2) * scale + weights(1, 6, 6, 1))
    c = relu(conv(jnp.flip(b, 1), 2))
    d = relu(jnp.cumsum(c, -1) / 2)  # over channels
    e = relu(conv(d.sum(-1, keepdims=True) / 4 + c, 4, size=(3, 2), padding="VALID"))
    return head(conv(e[:, jnp.array([2, 0, 3])], 2, size=(2, 3), padding=((0, 0), (1, 1))))

  network = converted(function, v_init=0.5, time_steps=8)
  check(network, images(2))
  assert len(network.graph.populations()) == 4


def test_an_image_that_is_too_large_to_be_moved_so_is_refused():
  network = converted(lambda x: jax.nn.relu(conv(x, 64).swapaxes(1, 2)), (16, 16, 2))
  with pytest.raises(ValueError, match=r"^NIR cannot say .* takes 268435456 weights, and 16777216"):
    tcljax.to_nir(network)


def test_a_threshold_that_is_off_is_seen():
  network = converted(lambda x: head(jax.nn.relu(conv(x, 2))), time_steps=8)
  graph = check(network, images(2))
  (node,) = (node for node in graph.nodes.values() if isinstance(node, nir.IF))
  ((name, fired),) = spikes_of(network, images(2))[0].items()
  fired = np.moveaxis(fired, -1, 2)
  at = np.unravel_index(fired.sum((0, 1)).argmax(), fired.shape[2:])
  node.v_threshold[at] = 1.25
  found, _ = nir_interpreter.run(graph, np.moveaxis(images(2), -1, 1), 8)
  np.testing.assert_array_equal(np.argwhere((fired != found[name]).any((0, 1))), [at])


def test_one_image_one_step_and_one_neuron_that_is_the_output():
  network = converted(lambda x: jax.nn.relu(x @ np.ones((1, 1), np.float32)), (1,), time_steps=1)
  graph = check(network, np.ones((1, 1), np.float32))
  assert [*graph.nodes] == ["input", "dense_1", "if_relu", "output"]
