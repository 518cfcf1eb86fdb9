"""Digits as an event camera records them while they move: a small CNN on sequences of frames.

    python train.py --config=configs/event_digits.py

No download: scikit-learn's digits are moved and recorded as the data set is loaded. The ANN is
trained on the mean of the 16 frames of a recording; the spiking network takes one in each time
step. Its thresholds are tuned, then weights and thresholds are trained together through it, as
frames that differ make currents that no ANN has seen. What it reaches stands in docs/data.md.
"""

from tcljax.runs.config_forms import base_config


def get_config():
  config = base_config()
  config.name = "event_digits"
  config.data.name = "event_digits"
  config.preprocessing.std = (0.0004,)  # a tenth of an event in a frame is one
  config.preprocessing.shift = 1
  config.model.name = "cnn"
  config.model.stages = ((16,), (32,), (32,))
  config.model.dense = (64,)
  config.snn.encoding = "frames"
  config.snn.time_steps = 16
  config.snn.delay = 8  # answers from before half of the recording was seen are left out
  config.train.steps = 600
  config.train.batch_size = 64
  config.train.label_smoothing = 0.1
  config.train.optimizer.warmup_steps = 30
  config.tune.steps = 300
  config.tune.batch_size = 64
  config.tune.optimizer.learning_rate = 0.03
  config.joint.through = "snn"
  config.joint.steps = 300
  config.joint.batch_size = 64
  config.joint.label_smoothing = 0.1
  # As its figures were measured. Phase 1 is so short that it leaves no kernel small.
  config.joint.optimizer.name = "adamw"
  config.joint.optimizer.learning_rate = 5e-4
  config.joint.threshold_optimizer.learning_rate = 3e-3
  config.eval.time_steps = 16
  config.eval.batch_size = 360
  config.log_every = 100
  return config
