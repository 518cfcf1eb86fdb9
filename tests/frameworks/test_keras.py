"""Networks of Keras 3 on JAX."""

import jax
import keras
import numpy as np
import pytest
from keras import layers

import tcljax


@pytest.fixture(autouse=True)
def broadcasting():
  """Keras adds arrays of unlike ranks."""
  with jax.numpy_rank_promotion("allow"):
    yield


def network():
  inputs = keras.Input((8, 8, 3))
  x = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
  x = layers.BatchNormalization()(x)
  x = skip = layers.ReLU(6.0, name="six")(x)
  x = layers.DepthwiseConv2D(3, padding="same")(layers.ZeroPadding2D(1)(x))
  x = layers.MaxPooling2D(3, 2, padding="same")(layers.LeakyReLU()(x))
  x = layers.concatenate([layers.GlobalAveragePooling2D()(x), layers.Flatten()(skip)])
  x = layers.Dropout(0.5)(layers.Dense(6, activation="relu", name="hidden")(x))
  return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def test_a_network_is_run_for_inference_and_its_softmax_left_out():
  keras.utils.set_random_seed(0)
  model = network()
  for layer in model.layers:
    if isinstance(layer, layers.BatchNormalization):
      layer.moving_mean.assign([0.1, -0.2, 0.3, 0.0])
  images = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
  traced = tcljax.from_keras(model)
  assert traced.populations[0] == "six.relu" and traced.populations[-1] == "hidden.relu"
  assert {fate.detail for fate in traced.operations if fate.fate == "dropped"} == {"softmax"}
  logits = np.asarray(traced.model.apply(traced.variables, images))
  odds = np.exp(logits - logits.max(-1, keepdims=True))
  expected = model.predict(images, verbose=0)
  np.testing.assert_allclose(odds / odds.sum(-1, keepdims=True), expected, rtol=1e-4, atol=1e-6)
  assert tcljax.calibrate(traced.model, traced.variables, [images])


def test_several_inputs_and_outputs_stand_as_the_model_has_them():
  zero, one = keras.Input((4,), name="zero"), keras.Input((3,), name="one")
  x = layers.ReLU(name="both")(layers.add([layers.Dense(5)(zero), layers.Dense(5)(one)]))
  last, odds = layers.Dense(2)(x), layers.Dense(3, activation="softmax")(x)
  rng = np.random.default_rng(0)
  a, b = (rng.normal(size=(5, n)).astype(np.float32) for n in (4, 3))
  for model, given in (
    (keras.Model({"zero": zero, "one": one}, {"last": last, "odds": odds}), {"zero": a, "one": b}),
    (keras.Model([zero, one], [last, odds]), (a, b)),
  ):
    traced = tcljax.from_keras(model)
    assert traced.populations == ("both.relu",)
    found = traced.model.apply(traced.variables, given)
    expected = model([*given] if isinstance(given, tuple) else given)
    if isinstance(given, dict):
      found, expected = ([of["last"], of["odds"]] for of in (found, expected))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(found[1]), expected[1], rtol=1e-4, atol=1e-6)


def test_a_list_of_keras_is_a_tuple_everywhere():
  one, two = keras.Input((4,)), keras.Input((3,))
  x = layers.ReLU()(layers.add([layers.Dense(5)(one), layers.Dense(5)(two)]))
  model = keras.Model([one, two], [layers.Dense(2)(x), layers.Dense(3)(x)])
  rng = np.random.default_rng(0)
  pair = [rng.normal(size=(8, n)).astype(np.float32) for n in (4, 3)]
  inputs, kinds, t4 = tuple(pair), ("classes", "quantities"), tcljax.SpikingConfig(4)
  for traced in (tcljax.from_keras(model), tcljax.from_keras(model, [x[:1] for x in pair])):
    assert traced.input_shape == ((4,), (3,))
  found = tcljax.calibrate(traced.model, traced.variables, [inputs], t4)
  found = tcljax.tune(traced.model, found, inputs, None, t4, outputs=kinds, steps=1, batch_size=8)
  assert [*tcljax.evaluate(traced.model, found, inputs, None, t4, outputs=kinds).by_output]
  made = tcljax.convert(traced.model, found, traced.input_shape, t4)
  assert type(made(inputs)) is tuple and made.input_shape == traced.input_shape
  for call in (
    made,
    lambda x: tcljax.calibrate(traced.model, traced.variables, [x]),
    lambda x: tcljax.tune(traced.model, found, x, None, t4, outputs=kinds, steps=1, batch_size=8),
    lambda x: tcljax.evaluate(traced.model, found, x, None, t4, outputs=kinds),
    lambda x: tcljax.simulate(traced.model, found, x, t4),
  ):
    with pytest.raises(ValueError, match=r"a list.* tuple.*, of a list x tuple\(x\)$") as told:
      call(pair)
    assert "\n" not in str(told.value)


class Own(keras.Model):
  """Of the user's own, whose call knows nothing of training."""

  def __init__(self, noise=None):
    super().__init__()
    self.first, self.noise = layers.Dense(4, activation="relu"), noise
    self.seeds = keras.random.SeedGenerator(0)

  def call(self, x):
    x = self.first(x)
    return x * (keras.random.uniform((1, 4), seed=self.seeds) > 0.5) if self.noise else x


def test_models_of_ones_own_are_run_for_inference():
  x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  model = Own()
  with pytest.raises(ValueError, match="the model is not built: call it on a batch"):
    tcljax.from_keras(model, x)
  expected = model(x)
  traced = tcljax.from_keras(model, x)
  np.testing.assert_allclose(
    traced.model.apply(traced.variables, x), expected, rtol=1e-5, atol=1e-6
  )
  model.first.kernel.assign(np.full((3, 4), np.nan))
  with pytest.raises(ValueError, match=r"a weight of the model, of shape \(3, 4\), is not finite"):
    tcljax.from_keras(model, x)
  drops = Own(noise=True)
  drops(x)
  with pytest.raises(ValueError, match=r"draws random numbers .*\(test_keras.py:\d+\): run it for"):
    tcljax.from_keras(drops, x)
  with pytest.raises(
    ValueError, match=r"traced on inputs of shape \(2, 7\) \(test_ker.*: ValueErr"
  ):
    tcljax.from_keras(model, np.zeros((1, 7), np.float32))


class Asking(layers.Layer):
  """Asks for numbers, which no tracer has, whose error Keras cannot write anew."""

  def call(self, x):
    return np.asarray(x)


class Keeping(layers.Layer):
  """Raises once it is built what some versions of JAX do of a value that another call kept."""

  keeps = False

  def call(self, x):
    if self.keeps:
      raise jax.errors.UnexpectedTracerError("x")
    return x


class Around(keras.Model):
  def __init__(self, inner):
    super().__init__()
    self.inner = inner

  def call(self, x):
    return self.inner(x)


@pytest.mark.parametrize("filters", [True, False])
def test_what_a_layer_raises_is_told_with_its_cause_and_the_layer(filters):
  switch = {True: keras.config.enable_traceback_filtering}
  switch[False] = keras.config.disable_traceback_filtering
  missing = layers.Dense(3, activation=keras.activations.threshold, name="first")
  x = np.ones((2, 4), np.float32)
  asking = Around(Asking(name="asking"))
  asking(x)
  switch[filters]()
  try:
    for model, told in (
      (keras.Sequential([keras.Input((4,)), missing]), "in layer 'first', TypeError: .* missing 2"),
      (asking, r"\(test_keras.py:\d+\).*in layer 'asking', TracerArrayConversionError:"),
    ):
      with pytest.raises(ValueError, match=rf"traced on .*{told}") as raised:
        tcljax.from_keras(model, x)
      assert "\n" not in str(raised.value)
      assert keras.config.is_traceback_filtering_enabled() == filters
  finally:
    switch[True]()


def test_a_layer_that_keeps_values_is_told():
  keeping = Around(Keeping())
  keeping(x := np.ones((2, 4), np.float32))
  keeping.inner.keeps = True
  with pytest.raises(ValueError, match="does not do the same in every call"):
    tcljax.from_keras(keeping, x)


def test_what_is_no_such_model_is_told(monkeypatch):
  with pytest.raises(ValueError, match=r"model.* must be a keras.Model"):
    tcljax.from_keras(layers.Dense(3))
  with pytest.raises(ValueError, match="does not say which shape its inputs have"):
    tcljax.from_keras(keras.Sequential([layers.Dense(3, activation="relu")]))
  inputs = keras.Input((4,))
  gate = layers.Dense(3, activation="silu", name="gate")(inputs)
  gated = keras.Model(inputs, layers.Dense(2, activation="relu")(gate))
  with pytest.raises(ValueError, match="applies `logistic` in gate"):
    tcljax.from_keras(
      keras.Sequential([*gated.layers, layers.Dense(2, activation="relu")]),
      np.ones((1, 4), np.float32),
    )
  monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
  with pytest.raises(ValueError, match=r"Keras runs on tensorflow: set .* KERAS_BACKEND=jax"):
    tcljax.from_keras(network())
