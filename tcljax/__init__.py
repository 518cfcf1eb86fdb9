"""tcljax: ANN-to-SNN conversion with trainable clipping layers, in JAX and Flax."""

from tcljax.activations import IF, TCL, ReLU
from tcljax.calibration import calibrate, thresholds
from tcljax.clipping import clip, quantized_clip, raw_from_threshold, threshold_from_raw
from tcljax.conversion import SpikingNetwork, convert, load, save
from tcljax.convolution import convolve
from tcljax.diagnostics import Diagnosis, diagnose
from tcljax.early_exit import Settled, answer_early, choose_margin
from tcljax.evaluation import Evaluation, evaluate
from tcljax.fitting import TrainingDiverged
from tcljax.models import CNN, VGG, VGG16, ResNet, create_model
from tcljax.neurons import if_step, integrate, integrate_and_fire, spike
from tcljax.optim import OptimizerConfig
from tcljax.pooling import MaxPool
from tcljax.pretrained import load_pretrained
from tcljax.simulation import Simulation, Steps, simulate
from tcljax.spiking import SpikingConfig
from tcljax.surrogates import surrogate_derivative
from tcljax.tuning import tune

__all__ = [
    "CNN",
    "IF",
    "TCL",
    "VGG",
    "VGG16",
    "Diagnosis",
    "Evaluation",
    "MaxPool",
    "OptimizerConfig",
    "ReLU",
    "ResNet",
    "Settled",
    "Simulation",
    "SpikingConfig",
    "SpikingNetwork",
    "Steps",
    "TrainingDiverged",
    "answer_early",
    "calibrate",
    "choose_margin",
    "clip",
    "convert",
    "convolve",
    "create_model",
    "diagnose",
    "evaluate",
    "if_step",
    "integrate",
    "integrate_and_fire",
    "load",
    "load_pretrained",
    "quantized_clip",
    "raw_from_threshold",
    "save",
    "simulate",
    "spike",
    "surrogate_derivative",
    "threshold_from_raw",
    "thresholds",
    "tune",
]
