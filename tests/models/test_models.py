"""Every named model has its published size and can be converted."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tcljax
from tcljax.layers.activations import TCL, activation_paths
from tcljax.models import CNN, MODELS, VGG, VGG16, ResNet, check_image_size, create_model, vgg


def count(model, shape):
  variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
  return sum(a.size for a in jax.tree.leaves(variables["params"]))


def test_vgg16_on_cifar_has_the_known_size():
  # 13 convolutions, their BatchNorms, a hidden dense layer of 512 and the head
  widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
  convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))
  assert count(VGG16(num_classes=10), (32, 32, 3)) == (
    convolutions + 3 * sum(widths[1:]) + 512 * 512 + 512 + 5130
  )


def test_vgg16_of_the_paper_on_imagenet():
  model = VGG16(num_classes=1000, dense=(4096, 4096))
  assert count(model, (224, 224, 3)) == 138_365_992
  assert count(model.clone(batch_norm=False), (224, 224, 3)) == 138_357_544


@pytest.mark.parametrize(
  "name, plain, normalised",
  [
    ("vgg11", 132_863_336, 132_868_840),
    ("vgg13", 133_047_848, 133_053_736),
    ("vgg19", 143_667_240, 143_678_248),
  ],
)
def test_vggs_have_the_sizes_of_torchvision(name, plain, normalised):
  model = create_model(name, 1000, dense=(4096, 4096))
  assert count(model.clone(batch_norm=False), (224, 224, 3)) == plain
  assert count(model, (224, 224, 3)) == normalised


@pytest.mark.parametrize(
  "name, shortcut, published",
  [
    ("resnet20", "pad", 269_722),
    ("resnet20", "projection", 272_474),
    ("resnet32", "pad", 464_154),
    ("resnet110", "pad", 1_727_962),
  ],
)
def test_cifar_resnets_have_the_published_sizes(name, shortcut, published):
  assert count(create_model(name, 10, shortcut=shortcut), (32, 32, 3)) == published


@pytest.mark.parametrize("name, published", [("resnet18", 11_689_512), ("resnet34", 21_797_672)])
def test_imagenet_resnets_have_the_published_sizes(name, published):
  assert count(create_model(name, 1000), (224, 224, 3)) == published


def test_option_a_takes_every_second_pixel_and_pads_channels_on_both_sides():
  model = ResNet(num_classes=2, blocks=(1, 1), widths=(2, 6))
  x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
  variables = model.init(jax.random.key(0), x)
  params = variables["params"]
  # Without the branch of the second block its output is the shortcut alone
  params["stage2_block1"]["norm2"]["scale"] = jnp.zeros(6)
  _, state = model.apply(variables, x, capture_intermediates=True)
  before, after = (
    np.asarray(state["intermediates"][f"stage{i}_block1"]["__call__"][0]) for i in (1, 2)
  )
  expected = np.zeros((2, 2, 2, 6), np.float32)
  expected[..., 2:4] = before[:, ::2, ::2]
  np.testing.assert_array_equal(after, expected)


def test_every_named_model_can_be_made():
  for name in MODELS:
    assert create_model(name, 10).num_classes == 10


_DEEP = ("resnet56", "resnet110", "resnet34", "vgg19", "resnet18", "resnet32", "resnet44")


def test_a_field_of_another_network_is_told():
  with pytest.raises(ValueError, match=r"dense=\(8,\) is no field of resnet20: leave it out"):
    create_model("resnet20", 10, dense=(8,))


@pytest.mark.parametrize(
  "name",
  [pytest.param(name, marks=pytest.mark.slow if name in _DEEP else ()) for name in MODELS],
)
def test_every_named_model_is_converted(name, rng):
  """A sixteenth as wide, on images of the least size; the graph computes what the model does."""
  model = create_model(name, 3)
  if isinstance(model, VGG):
    model = model.clone(
      dense=(4,), stages=tuple(tuple(width // 16 for width in stage) for stage in model.stages)
    )
  else:
    model = model.clone(widths=tuple(width // 16 for width in model.widths))
  x = rng.normal(size=(2, *[model.smallest_image()] * 2, 3)).astype(np.float32)
  abstract = jax.eval_shape(model.clone(act=TCL).init, jax.random.key(0), x)
  variables = jax.tree.map(lambda a: rng.uniform(-0.4, 0.6, a.shape).astype(np.float32), abstract)
  variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
  network = tcljax.convert(model, variables, x.shape[1:])
  paths = activation_paths(model, variables, x)
  assert network.graph.populations() == [".".join(path) for path in paths]
  if len(paths) < 20:  # the others repeat the blocks of these
    found, expected = (
      jax.jit(m.clone(act=TCL).apply)(v, x)
      for m, v in ((network.model, network.variables), (model, variables))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_small_cnn_has_4_convolutions_and_2_dense_layers():
  variables = CNN(num_classes=7).init(jax.random.key(0), jnp.zeros((1, 12, 20, 1)))
  kernels = [a.ndim for a in jax.tree.leaves(variables["params"]) if a.ndim > 1]
  assert sorted(kernels) == [2, 2, 4, 4, 4, 4]


def test_batch_norm_uses_the_batch_only_while_training(vgg, images):
  model, variables = vgg
  plain = model.apply(variables, images)
  np.testing.assert_allclose(plain[:4], model.apply(variables, images[:4]), rtol=1e-4, atol=1e-5)
  trained, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
  assert not np.allclose(plain, trained)
  assert not np.allclose(
    updated["batch_stats"]["norm1_1"]["mean"], variables["batch_stats"]["norm1_1"]["mean"]
  )


def test_errors():
  with pytest.raises(
    ValueError,
    match="image size 16x40 is too small for the model's 5 halvings: it takes at least 32x32",
  ):
    check_image_size(VGG16(num_classes=10), (16, 40))
  with pytest.raises(
    ValueError, match=r"stages=\(\(4,\), \(\)\): there is at least one stage, and one"
  ):
    create_model("cnn", 10, stages=((4,), ())).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))

  def initialise(**fields):
    create_model("resnet20", 10, **fields).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))

  with pytest.raises(ValueError, match="'pad' cannot go from 8 channels to 4: choose"):
    initialise(blocks=(1, 1), widths=(8, 4))
  with pytest.raises(ValueError, match="shortcut='B' is unknown: choose one of pad, projection"):
    initialise(shortcut="B")
  with pytest.raises(ValueError, match=r"blocks=\(1,\) and widths=\(8, 4\) must be equally long"):
    initialise(blocks=(1,), widths=(8, 4))
  with pytest.raises(ValueError, match=r"image size 8x8 is too small .* at least 32x32"):
    check_image_size(create_model("resnet18", 10), (8, 8))
  with pytest.raises(ValueError, match=r"name='vgg' is unknown: choose one of cnn, vgg11"):
    create_model("vgg", 10)


def test_biases_that_batch_norm_takes_back_are_not_moved_in_training(monkeypatch):
  model = CNN(num_classes=3, stages=((4,),), dense=(5,))
  x = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))
  variables = model.init(jax.random.key(1), x)

  def gradients(model, train):
    def loss(params):
      logits = model.apply(
        {**variables, "params": params}, x, train=train, mutable=["batch_stats"] if train else []
      )[0]
      return jnp.sum(jnp.square(logits - jnp.arange(3.0)[None]))

    return jax.grad(loss)(variables["params"])

  trained, evaluated = (gradients(model, train) for train in (True, False))
  bias = lambda found: float(jnp.abs(found["conv1_1"]["bias"]).max())
  assert bias(trained) == 0 < bias(evaluated)  # running statistics take nothing back
  assert bias(gradients(model.clone(batch_norm=False), True)) > 0
  monkeypatch.setattr(vgg, "_WithFixedBias", nn.Conv)
  plain = gradients(model, True)
  assert 0 < bias(plain) < 1e-5 * jnp.abs(plain["conv1_1"]["kernel"]).max()  # rounding
  plain["conv1_1"]["bias"] = jnp.zeros(4)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), trained, plain)
