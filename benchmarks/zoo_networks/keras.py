"""Networks of Keras 3 on JAX."""

import functools

import keras
import numpy as np
from keras import layers

import tcljax
from zoo_networks import squeezenet
from zoo_networks.entry import Entry, Network, digits


def mnist_convnet(size=28):
  """The simple convnet for MNIST."""
  shallow = [layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2)]
  return keras.Sequential(
    [
      keras.Input((size, size, 1)),
      layers.Conv2D(32, 3, activation="relu"),
      layers.MaxPooling2D(2),
      *(shallow if size > 8 else []),
      layers.Flatten(),
      layers.Dropout(0.5),
      layers.Dense(10, activation="softmax"),
    ]
  )


def mlp():
  """Dense layers with dropout."""
  hidden = [layers.Dense(64, activation="relu"), layers.Dropout(0.2)]
  hidden += [layers.Dense(64, activation="relu"), layers.Dropout(0.2)]
  return keras.Sequential([keras.Input((784,)), *hidden, layers.Dense(10, activation="softmax")])


def toy_resnet():
  """The residual network of the guide to the functional interface."""
  inputs = keras.Input((32, 32, 3), name="img")
  x = layers.Conv2D(32, 3, activation="relu")(inputs)
  x = layers.Conv2D(64, 3, activation="relu")(x)
  x = layers.MaxPooling2D(3)(x)
  for _ in range(2):
    y = layers.Conv2D(64, 3, activation="relu", padding="same")(x)
    y = layers.Conv2D(64, 3, activation="relu", padding="same")(y)
    x = layers.add([y, x])
  x = layers.Conv2D(64, 3, activation="relu")(x)
  x = layers.GlobalAveragePooling2D()(x)
  x = layers.Dropout(0.5)(layers.Dense(256, activation="relu")(x))
  return keras.Model(inputs, layers.Dense(10)(x), name="toy_resnet")


def time_series():
  """A fully convolutional network over time."""
  x = inputs = keras.Input((50, 1))
  for _ in range(3):
    x = layers.Conv1D(64, 3, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
  x = layers.GlobalAveragePooling1D()(x)
  return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def _separable_block(x, width, pool):
  previous = x
  for _ in range(2):
    x = layers.Activation("relu")(x)
    x = layers.BatchNormalization()(layers.SeparableConv2D(width, 3, padding="same")(x))
  if pool:
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
  residual = layers.Conv2D(width, 1, strides=2 if pool else 1, padding="same")(previous)
  return layers.add([x, residual])


def small_xception():
  """Of the example that classifies images from scratch."""
  inputs = keras.Input((32, 32, 3))
  x = layers.Rescaling(1.0 / 4)(inputs)
  x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
  x = layers.Activation("relu")(layers.BatchNormalization()(x))
  for width in (24, 32):
    x = _separable_block(x, width, pool=True)
  x = layers.SeparableConv2D(48, 3, padding="same")(x)
  x = layers.Activation("relu")(layers.BatchNormalization()(x))
  x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
  return keras.Model(inputs, layers.Dense(1, activation=None)(x))


def segmentation():
  """Of the example that segments pets: down by maxima, up by repeated pixels."""
  inputs = keras.Input((32, 32, 3))
  x = layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
  x = layers.Activation("relu")(layers.BatchNormalization()(x))
  x = _separable_block(x, 16, pool=True)
  for width in (16, 8):
    previous = x
    for _ in range(2):
      x = layers.Activation("relu")(x)
      x = layers.BatchNormalization()(layers.Conv2DTranspose(width, 3, padding="same")(x))
    residual = layers.Conv2D(width, 1, padding="same")(layers.UpSampling2D(2)(previous))
    x = layers.add([layers.UpSampling2D(2)(x), residual])
  return keras.Model(inputs, layers.Conv2D(3, 3, activation="softmax", padding="same")(x))


def denoiser():
  """A convolutional autoencoder."""
  inputs = keras.Input((28, 28, 1))
  x = layers.Conv2D(32, 3, activation="relu", padding="same")(inputs)
  x = layers.MaxPooling2D(2, padding="same")(x)
  x = layers.Conv2D(32, 3, activation="relu", padding="same")(x)
  x = layers.MaxPooling2D(2, padding="same")(x)
  x = layers.Conv2DTranspose(32, 3, strides=2, activation="relu", padding="same")(x)
  x = layers.Conv2DTranspose(32, 3, strides=2, activation="relu", padding="same")(x)
  return keras.Model(inputs, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x))


def super_resolution():
  """Sub-pixel convolutions."""
  inputs = keras.Input((12, 12, 1))
  x = layers.Conv2D(32, 5, activation="relu", padding="same")(inputs)
  x = layers.Conv2D(16, 3, activation="relu", padding="same")(x)
  x = layers.Conv2D(9, 3, activation="relu", padding="same")(x)
  x = layers.Reshape((12, 12, 3, 3))(x)
  x = layers.Reshape((36, 36, 1))(layers.Permute((1, 3, 2, 4))(x))
  return keras.Model(inputs, x)


def inception():
  """Branches of several sizes, joined; average pooling with SAME padding."""
  inputs = keras.Input((16, 16, 3))
  x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
  branches = [
    layers.Conv2D(6, 1, activation="relu", name="one")(x),
    layers.Conv2D(6, (1, 7), padding="same", activation="relu", name="wide")(x),
    layers.Conv2D(6, (7, 1), padding="same", activation="relu", name="high")(x),
    layers.AveragePooling2D(3, 1, padding="same", name="mean")(x),
    layers.MaxPooling2D(3, 1, padding="same", name="largest")(x),
  ]
  x = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(8, 1)(layers.concatenate(branches)))
  x = layers.Conv2D(8, 1, activation="relu", name="last")(x)
  return keras.Model(inputs, layers.Dense(5)(layers.GlobalMaxPooling2D()(x)))


def squeeze_excitation():
  """A block of EfficientNet: swish, and channels multiplied by a sigmoid."""
  inputs = keras.Input((16, 16, 3))
  x = layers.BatchNormalization(name="stem_bn")(layers.Conv2D(8, 3, 2, name="stem_conv")(inputs))
  x = layers.Activation("swish", name="stem_activation")(x)
  gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
  gate = layers.Conv2D(8, 1, activation="sigmoid", name="se_expand")(gate)
  x = layers.GlobalAveragePooling2D()(layers.multiply([x, gate]))
  return keras.Model(inputs, layers.Dense(5)(x))


def lstm():
  """A recurrent network in both directions."""
  inputs = keras.Input((8, 6))
  x = layers.Bidirectional(layers.LSTM(8), name="both")(inputs)
  return keras.Model(inputs, layers.Dense(1)(layers.Dense(8, activation="relu")(x)))


def vision_transformer():
  """One block of attention over patches."""
  inputs = keras.Input((8, 12))
  x = layers.LayerNormalization(name="norm")(inputs)
  x = layers.add([layers.MultiHeadAttention(2, 6, name="attention")(x, x), inputs])
  return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(layers.Dense(8, "relu")(x))))


def lively(model):
  """A model whose BatchNorm moves and scales."""
  rng = np.random.default_rng(0)
  for layer in model._flatten_layers():
    if isinstance(layer, layers.BatchNormalization):
      shape = layer.moving_mean.shape
      layer.moving_mean.assign(rng.normal(0, 0.2, shape))
      layer.moving_variance.assign(rng.uniform(0.5, 2.0, shape))
      if layer.gamma is not None:
        layer.gamma.assign(rng.uniform(0.5, 1.5, shape))
      if layer.beta is not None:
        layer.beta.assign(rng.normal(0, 0.1, shape))
  return model


def of(model) -> Network:
  """A built model."""
  return Network(
    functools.partial(model.predict, verbose=0),
    lambda: tcljax.from_keras(model),
    tuple(model.input_shape[1:]),
  )


def _random(make):
  keras.utils.set_random_seed(0)
  return of(lively(make()))


def _trained():
  keras.utils.set_random_seed(0)
  images, labels = digits()
  model = mnist_convnet(8)
  model.compile("adam", "sparse_categorical_crossentropy")
  model.fit(images, labels, batch_size=64, epochs=6, verbose=0)
  return of(model)


def _entry(name, make, source="", refused=""):
  return Entry(name, "keras", functools.partial(_random, make), source, refused)


def _application(name, **options):
  options = {"weights": None, "input_shape": (64, 64, 3), "classes": 100, **options}
  return lambda: getattr(keras.applications, name)(**options)


NETWORKS = (
  _entry("simple convnet", mnist_convnet, "Keras example mnist_convnet"),
  _entry("MLP", mlp, "Keras example mnist_mlp"),
  _entry("toy ResNet", toy_resnet, "Keras guide to the functional API"),
  _entry("time series FCN", time_series, "Keras example timeseries_classification_from_scratch"),
  _entry("small Xception", small_xception, "Keras example image_classification_from_scratch"),
  _entry("U-Net, Xception style", segmentation, "Keras example oxford_pets_image_segmentation"),
  _entry("denoising autoencoder", denoiser, "Keras example autoencoder"),
  _entry("super-resolution", super_resolution, "Keras example super_resolution_sub_pixel"),
  _entry("MobileNet", _application("MobileNet"), "keras.applications"),
  _entry("ResNet50", _application("ResNet50"), "keras.applications"),
  Entry(
    "SqueezeNet",
    "keras",
    lambda: of(squeezenet.in_keras(squeezenet.weights(), size=67)),
    trained=squeezenet.are_there(),
  ),
  _entry("branches, all poolings", inception),
  Entry("simple convnet, digits", "keras", _trained, "Keras example mnist_convnet", trained=True),
  _entry(
    "EfficientNet block",
    squeeze_excitation,
    "Keras example image_classification_efficientnet",
    "logistic.*stem_activation",
  ),
  _entry("bidirectional LSTM", lstm, "Keras example bidirectional_lstm_imdb", "both"),
  _entry(
    "transformer",
    vision_transformer,
    "Keras example image_classification_with_vision_transformer",
    "norm",
  ),
)
