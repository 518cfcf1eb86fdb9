"""The paper's small CNN (4 convolutions, 2 dense layers) on CIFAR-10.

    python train.py --config=configs/cnn.py

Reads the TFDS set `cifar10` from $TFDS_DATA_DIR. Variants, also together: `:cifar100`; `:joint`,
`:quantized` and `:scratch` train weights and thresholds together, see
tcljax/runs/presets.py. Not run in full yet: the run time and the accuracy remain to be measured.
"""

from tcljax.runs.presets import cifar_config, with_variants


def get_config(variants=""):
  config = cifar_config("cnn")
  config.model.name = "cnn"
  return with_variants(config, variants)
