"""tcljax: ANN-to-SNN conversion with trainable clipping layers, in JAX and Flax."""

from typing import TYPE_CHECKING

from tcljax.conversion.early_exit import Settled, answer_early, choose_margin
from tcljax.conversion.network import SpikingNetwork, convert
from tcljax.conversion.nir_reading import from_nir
from tcljax.conversion.nir_writing import to_nir
from tcljax.conversion.storage import load, save
from tcljax.evaluation.accuracy import Evaluation, evaluate
from tcljax.evaluation.cost_figures import Costs, LayerCosts
from tcljax.evaluation.costs import costs
from tcljax.evaluation.diagnosis import Diagnosis, diagnose
from tcljax.evaluation.energy import EnergyModel
from tcljax.frameworks.equinox import from_equinox
from tcljax.frameworks.keras import from_keras
from tcljax.frameworks.linen import from_flax
from tcljax.frameworks.nnx import from_nnx
from tcljax.frameworks.torch import from_torch
from tcljax.graph.fates import Fate
from tcljax.graph.trace import Traced, explain, trace
from tcljax.kernels.convolution import convolve
from tcljax.layers.activations import TCL, ReLU
from tcljax.layers.integrate_and_fire import IF
from tcljax.maths.clipping import clip, quantized_clip, raw_from_threshold, threshold_from_raw
from tcljax.maths.max_pooling import MaxPool
from tcljax.maths.neurons import if_step, integrate, integrate_and_fire, spike
from tcljax.maths.spikes import Neuron
from tcljax.maths.surrogates import surrogate_derivative
from tcljax.models import CNN, VGG, VGG16, ResNet, create_model
from tcljax.models.torch_weights import load_pretrained
from tcljax.simulation.observers import Chunk
from tcljax.simulation.settings import SpikingConfig
from tcljax.simulation.time_loop import Simulation, simulate
from tcljax.training.calibration import calibrate, thresholds
from tcljax.training.delay import choose_delay
from tcljax.training.loop import TrainingDiverged
from tcljax.training.optimizers import OptimizerConfig
from tcljax.training.tuning import tune

__all__ = [
  "CNN",
  "IF",
  "TCL",
  "VGG",
  "VGG16",
  "Chunk",
  "Costs",
  "Diagnosis",
  "EnergyModel",
  "Evaluation",
  "Fate",
  "LayerCosts",
  "MaxPool",
  "Neuron",
  "OptimizerConfig",
  "ReLU",
  "ResNet",
  "Settled",
  "Simulation",
  "SpikingConfig",
  "SpikingNetwork",
  "Traced",
  "TrainingDiverged",
  "answer_early",
  "calibrate",
  "choose_delay",
  "choose_margin",
  "clip",
  "convert",
  "convolve",
  "costs",
  "create_model",
  "diagnose",
  "evaluate",
  "explain",
  "from_equinox",
  "from_flax",
  "from_keras",
  "from_nir",
  "from_nnx",
  "from_torch",
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
  "to_nir",
  "trace",
  "tune",
]

if TYPE_CHECKING:
  __version__: str
else:

  def __getattr__(name):
    """`__version__`, which is read from the metadata of the package once somebody asks."""
    if name != "__version__":
      raise AttributeError(f"module 'tcljax' has no attribute {name!r}")
    from importlib import metadata

    return metadata.version("tcljax")
