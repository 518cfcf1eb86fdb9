"""Why a spiking network is far from its ANN, where it is: measured, then told in words."""

import functools

from tcljax.data import first_images
from tcljax.evaluation.accuracy import accuracy
from tcljax.evaluation.diagnosis import diagnose
from tcljax.layers.activations import Quantized, with_activation
from tcljax.layers.collections import Variables
from tcljax.reporting import verdicts
from tcljax.runs.experiment import Experiment

_DIAGNOSED = 128  # training images


def quantized_accuracy(experiment: Experiment, variables: Variables, time_steps: int) -> float:
  """Percent of the test images that would be right if every spike came in time.

  Args:
    experiment: from `make_experiment`.
    variables: with thresholds.
    time_steps: T.
  """
  snn = experiment.snn
  act = functools.partial(Quantized, time_steps=time_steps, burst=snn.burst, phase=snn.phase)
  return accuracy(
    with_activation(experiment.model, act),
    variables,
    experiment.dataset.test,
    batch_size=experiment.eval.batch_size,
    preprocess=experiment.preprocess_for_ann,
  )


def shortfall(
  experiment: Experiment, variables: Variables, ann: float, snn: float, look: bool = True
) -> str:
  """What a spiking network loses and where, if it is far from its ANN; "" if it is near.

  Args:
    experiment: its T is that of the network.
    variables: of the network.
    ann: percent of the test images.
    snn: the same after T steps.
    look: whether to look for where it is lost, which takes some simulations.
  """
  if not verdicts.is_far(ann, snn):
    return ""
  if not look:
    return verdicts.far_in_words(ann, snn, experiment.spiking.time_steps)
  spiking, worst = experiment.spiking, []
  if spiking.encoding != "poisson":  # which is random itself, so that no layer can be blamed
    found = diagnose(
      experiment.model,
      variables,
      first_images(experiment.dataset.train, _DIAGNOSED),
      spiking,
      batch_size=experiment.eval.batch_size,
      preprocess=experiment.preprocess,
    )
    worst = verdicts.worst_in_words(verdicts.losses(found), spiking.encoding, most=2)
  quantized = quantized_accuracy(experiment, variables, spiking.time_steps)
  return verdicts.shortfall_in_words(
    ann, snn, quantized, spiking.time_steps, worst, spiking.encoding
  )
