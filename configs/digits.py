"""The paper's small CNN on scikit-learn's 8x8 digits: the whole method in about a minute.

    python train.py --config=configs/digits.py

No download: 1,437 of the 1,797 real images train the network, 360 are held out. What it reaches
stands in the README. Variants: `:joint`, `:quantized` and `:scratch` train weights and thresholds
together, see tcljax/runs/presets.py.
"""

from tcljax.runs.config_forms import base_config
from tcljax.runs.presets import with_variants


def get_config(variants=""):
  config = base_config()
  config.name = "digits"
  config.preprocessing.mean = (0.305,)
  config.preprocessing.std = (0.376,)
  config.preprocessing.shift = 1
  config.model.name = "cnn"
  config.model.stages = ((32, 32), (64, 64))
  config.model.dense = (128,)
  config.train.steps = 600
  config.train.batch_size = 64
  config.train.label_smoothing = 0.1
  config.train.optimizer.warmup_steps = 30
  config.tune.steps = 200
  config.eval.batch_size = 360
  config.log_every = 100
  return with_variants(config, variants)
