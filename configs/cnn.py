"""The paper's small CNN (4 convolutions, 2 dense layers) on CIFAR-10.

    python train.py --config=configs/cnn.py

Reads the TFDS set `cifar10` from $TFDS_DATA_DIR. Not run in full yet: the run time and the
accuracy remain to be measured.
"""

from tcljax.config import cifar10_config


def get_config():
  config = cifar10_config()
  config.name = "cnn"
  config.model.name = "cnn"
  return config
