"""Converted networks compute what the model does, take other arrays, and can be tuned."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import randomized
from running import calibrate_plainly

import tcljax


def test_simulates_what_the_model_does(vgg, images, network):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images, per_channel=True, percentile=99)
  expected = tcljax.simulate(model, variables, images, network.spiking).logits
  np.testing.assert_allclose(network(images), expected, rtol=1e-3, atol=1e-3)


def test_a_loaded_network_can_be_calibrated_tuned_and_converted_again(network, images):
  labels = np.arange(16) % 10
  variables = calibrate_plainly(network.model, network.variables, images)
  tuned = tcljax.tune(
    network.model, variables, images, labels, network.spiking, steps=2, batch_size=8
  )
  again = tcljax.convert(network.model, tuned, network.input_shape)
  assert again.graph == network.graph


def test_other_types_of_input_are_taken(network, images):
  expected = network(images)
  np.testing.assert_allclose(network(images.tolist()), expected, rtol=1e-6)
  whole = np.rint(images).astype(np.int8)
  np.testing.assert_array_equal(network(whole), network(whole.astype(np.float32)))


def test_numpy_integers_are_taken(vgg, images, tmp_path):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images)
  network = tcljax.convert(
    model, variables, np.array([8, 8, 3]), tcljax.SpikingConfig(time_steps=np.int64(3))
  )
  assert tcljax.load(tcljax.save(network, tmp_path / "net")).spiking.time_steps == 3


def test_errors(vgg, images, network):
  model, variables = vgg
  with pytest.raises(ValueError, match="no collection 'clipping'"):
    tcljax.convert(model, variables, (8, 8, 3))
  with pytest.raises(ValueError, match="no threshold for activation 'act1_1'"):
    tcljax.convert(model, {**variables, "clipping": {}}, (8, 8, 3))
  clipping = calibrate_plainly(model, variables, images)["clipping"]
  misfit = {**clipping, "act1_1": {"raw_threshold": np.ones(5), "v_init": np.ones(5)}}
  with pytest.raises(ValueError, match="'act1_1' has 8 channels, but its thresholds have shape"):
    tcljax.convert(model, {**variables, "clipping": misfit}, (8, 8, 3))
  with pytest.raises(ValueError, match="input_shape=192 must be a sequence of integers"):
    tcljax.convert(model, {**variables, "clipping": clipping}, 192)
  with pytest.raises(ValueError, match="spiking=8 must be"):
    tcljax.convert(model, {**variables, "clipping": clipping}, (8, 8, 3), 8)
  with pytest.raises(ValueError, match=r"inputs have shape \(16, 8, 8\), expected \(batch, 8,"):
    network(images[..., 0])
  with pytest.raises(ValueError, match="steps=0"):
    network(images, time_steps=0)


class Layered(nn.Module):
  """A function after the neurons, and a layer of its own precision."""

  function: object = lambda x: x
  dtype: object = jnp.float32
  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Dense(16, dtype=self.dtype)(x))
    return nn.Dense(3)(self.function(x))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_layer_of_16_bits_is_converted(rng, dtype):
  x = rng.normal(size=(16, 5)).astype(np.float32)
  model = Layered(dtype=dtype)
  variables = calibrate_plainly(model, randomized(model, x), x)
  network = tcljax.convert(model, variables, (5,), tcljax.SpikingConfig(256))
  clipped = np.asarray(model.clone(act=tcljax.TCL).apply(variables, x))
  assert np.abs(network(x) - clipped).max() < 0.05 * np.abs(clipped).max()


def test_a_model_that_does_otherwise_with_many_inputs_is_refused(rng):
  x = rng.normal(size=(3, 5)).astype(np.float32)
  model = Layered(lambda x: x if len(x) < 5 else 2 * x)
  variables = calibrate_plainly(model, randomized(model, x), x)
  with pytest.raises(ValueError, match="differs from the model on random inputs"):
    tcljax.convert(model, variables, (5,))
