r"""ResNet-34 with projection shortcuts (He et al., 2016) on ImageNet.

    python train.py --config=configs/imagenet_resnet34.py

Reads the TFDS set `imagenet2012` from $TFDS_DATA_DIR and streams it: one worker process a core
decodes it, or as many as --config.data.workers says. 90 epochs for the weights at 224x224 and
10,000 batches for the thresholds, meant for GPUs or TPUs. Weights that are trained already,
torchvision's, take the place of the 90 epochs; they were trained with maximum pooling:

    python train.py --config=configs/imagenet_resnet34.py --config.pretrained=resnet34.pth \
        --config.model.pooling=gate

Variants: `:joint`, `:quantized` and `:scratch` train weights and thresholds together, see
tcljax/runs/presets.py.

Not run yet. Ho & Chang (DAC 2021) report 70.37 % for the spiking ResNet-34 at T = 250.
"""

from tcljax.runs.presets import imagenet_config, with_variants


def get_config(variants=""):
  config = imagenet_config("imagenet_resnet34")
  config.model.name = "resnet34"
  config.model.stem = "imagenet"
  config.model.shortcut = "projection"
  return with_variants(config, variants)
