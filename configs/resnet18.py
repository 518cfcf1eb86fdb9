"""ResNet-18 with the stem for small images (He et al., 2016) on CIFAR-10.

    python train.py --config=configs/resnet18.py

Reads the TFDS set `cifar10` from $TFDS_DATA_DIR; 200 epochs for the weights, meant for a GPU or a
TPU, with layers that compute in bfloat16 by `--config.model.dtype=bfloat16`. Variants, also
together: `:cifar100`; `:joint`, `:quantized` and `:scratch` train weights and thresholds together,
see tcljax/runs/presets.py. Not run in full yet: the run time and the accuracy remain to be
measured. Published: 96.04 % as an ANN, 90.43 % at T = 4, 94.82 % at T = 8 (QCFS, Bu et
al., ICLR 2022, table 1).
"""

from tcljax.runs.presets import long_cifar_config, with_variants


def get_config(variants=""):
  config = long_cifar_config("resnet18")
  config.model.name = "resnet18"
  config.model.stem = "cifar"
  return with_variants(config, variants)
