"""VGG-16 with BatchNorm and average pooling on CIFAR-10.

    python train.py --config=configs/vgg16.py

Reads the TFDS set `cifar10` from $TFDS_DATA_DIR; 200 epochs for the weights, meant for a GPU or a
TPU. Not run in full yet: the run time and the accuracy remain to be measured.
"""

from tcljax.config import cifar10_config


def get_config():
  config = cifar10_config()
  config.name = "vgg16"
  config.preprocessing.cutout = 8
  config.model.name = "vgg16"
  config.train.steps = 200 * 50_000 // 128
  config.train.optimizer.warmup_steps = 2000
  return config
