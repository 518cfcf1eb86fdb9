"""VGG-16 with BatchNorm and average pooling on ImageNet.

    python train.py --config=configs/imagenet_vgg16.py

Reads the TFDS set `imagenet2012` from $TFDS_DATA_DIR and streams it: one worker process a core
decodes it, or as many as --config.data.workers says. 90 epochs for the weights at 224x224 and
10,000 batches for the thresholds, meant for GPUs or TPUs. Weights that are trained already,
torchvision's, take the place of the 90 epochs by

    python train.py --config=configs/imagenet_vgg16.py --config.pretrained=vgg16_bn.pth

but they were trained with maximum pooling, ours is by averages: they lose accuracy as they are.

Not run yet. Ho & Chang (DAC 2021) report 73.87 % for the spiking VGG-16 at T = 250.
"""

from tcljax.config import imagenet_config


def get_config():
  config = imagenet_config()
  config.name = "imagenet_vgg16"
  config.model.name = "vgg16"
  config.model.batch_norm = True
  config.model.dense = (4096, 4096)
  return config
