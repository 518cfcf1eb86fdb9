"""Real images and published weights, and the marks of tests that cannot do without them."""

import os
import pathlib

import pytest

CIFAR = pathlib.Path(os.environ.get("TFDS_DATA_DIR", "nowhere")) / "cifar10"
RESNET20 = pathlib.Path(os.environ.get("TCLJAX_WEIGHTS_DIR", "nowhere")) / "resnet20_cifar10.th"

needs_cifar = pytest.mark.skipif(not CIFAR.is_dir(), reason="needs cifar10 in $TFDS_DATA_DIR")
needs_resnet20 = pytest.mark.skipif(
  not (RESNET20.exists() and CIFAR.is_dir()),
  reason="needs resnet20_cifar10.th in $TCLJAX_WEIGHTS_DIR and cifar10 in $TFDS_DATA_DIR",
)
