import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax.models import CNN, VGG16, check_image_size, create_model


def count(model, shape):
  variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
  return sum(a.size for a in jax.tree.leaves(variables["params"]))


def test_vgg16_on_cifar_has_the_known_size():
  # 13 convolutions without bias, their BatchNorms, a hidden dense layer of 512 and the head
  widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
  convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))
  assert count(VGG16(num_classes=10), (32, 32, 3)) == (
      convolutions + 2 * sum(widths[1:]) + 512 * 512 + 512 + 5130)


def test_vgg16_of_the_paper_on_imagenet():
  # The published count, plus scale and shift of 4,224 channels, minus their convolutions' biases
  model = VGG16(num_classes=1000, dense=(4096, 4096))
  assert count(model, (224, 224, 3)) == 138_357_544 + 4224
  assert count(model.clone(batch_norm=False), (224, 224, 3)) == 138_357_544


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
  assert not np.allclose(updated["batch_stats"]["norm1_1"]["mean"],
                         variables["batch_stats"]["norm1_1"]["mean"])


def test_errors():
  with pytest.raises(ValueError, match="image size 16x40 is too small for the model's 5 poolings: "
                     "it takes at least 32x32"):
    check_image_size(VGG16(num_classes=10), (16, 40))
  with pytest.raises(ValueError, match=r"model\.name='vgg' is unknown: choose one of cnn, vgg16"):
    create_model("vgg", 10)
