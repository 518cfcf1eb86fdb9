"""Real images and published weights, and the marks of tests that cannot do without them."""

import os
import pathlib

import pytest

CIFAR = pathlib.Path(os.environ.get("TFDS_DATA_DIR", "nowhere")) / "cifar10"
RESNET20 = pathlib.Path(os.environ.get("TCLJAX_WEIGHTS_DIR", "nowhere")) / "resnet20_cifar10.th"
SQUEEZENET = pathlib.Path(os.environ.get("TCLJAX_WEIGHTS_DIR", "nowhere")) / "squeezenet_v10.npz"
IMAGENET = CIFAR.parent.parent / "imagenet_500.npz"  # JPEGs one after the other, and their offsets

needs_cifar = pytest.mark.skipif(not CIFAR.is_dir(), reason="needs cifar10 in $TFDS_DATA_DIR")
needs_resnet20 = pytest.mark.skipif(
  not (RESNET20.exists() and CIFAR.is_dir()),
  reason="needs resnet20_cifar10.th in $TCLJAX_WEIGHTS_DIR and cifar10 in $TFDS_DATA_DIR",
)
needs_squeezenet = pytest.mark.skipif(
  not (SQUEEZENET.exists() and IMAGENET.exists()),
  reason="needs squeezenet_v10.npz in $TCLJAX_WEIGHTS_DIR, imagenet_500.npz beside $TFDS_DATA_DIR",
)
