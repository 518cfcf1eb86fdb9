"""ResNet-20 with option-A shortcuts (He et al., 2016) on CIFAR-10.

    python train.py --config=configs/resnet20.py --config.pretrained=resnet20_cifar10.th

Reads the TFDS set `cifar10` from $TFDS_DATA_DIR. Without --config.pretrained the weights are
trained first. The images are normalised with ImageNet's statistics, as the pretrained CIFAR ResNets
of akamaster/pytorch_resnet_cifar10 expect it. What tuning reaches for each T, and in what time,
stands in docs/results.md. Variants, also together: `:cifar100`; `:joint`, `:quantized` and
`:scratch` train weights and thresholds together, see tcljax/runs/presets.py.
"""

from tcljax.runs.presets import cifar_config, with_variants


def get_config(variants=""):
  config = cifar_config("resnet20")
  config.preprocessing.mean = (0.485, 0.456, 0.406)
  config.preprocessing.std = (0.229, 0.224, 0.225)
  config.model.name = "resnet20"
  config.train.steps = 200 * 50_000 // 128
  config.train.optimizer.weight_decay = 1e-4
  # One set of thresholds for every T; `tcljax-compare` tunes others for each T beside it.
  config.snn.time_steps = 16
  config.snn.delay = 1
  config.tune.at = (4, 8, 16)
  config.tune.steps = 3 * 1000  # as many as sets of their own for the three would get
  config.tune.batch_size = 16  # more steps than batches of 32, in the same time
  config.tune.optimizer.learning_rate = 0.03
  return with_variants(config, variants)
