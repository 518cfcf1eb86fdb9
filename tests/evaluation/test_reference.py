"""The ANN that a network is measured against: a pair, and nothing else."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from doors import LABELS as CLASSES
from doors import images, made
from small_networks import Dense, calibrated, inputs

import tcljax

MODEL, LABELS, T4 = Dense(3), np.zeros(32, np.int32), tcljax.SpikingConfig(4)


@pytest.fixture(scope="module")
def variables():
  return calibrated(MODEL)


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda v: MODEL, "reference is of type Dense and must be a pair, .model, variables."),
    (lambda v: v, "reference is of type dict and must be a pair"),
    (lambda v: (MODEL,), "reference is of type tuple and must be a pair"),
    (lambda v: 0, "reference=0 must be a pair"),
    (
      lambda v: (v, MODEL),
      "the model of reference is of type dict and must be an instance of a Fl",
    ),
    (lambda v: (Dense, v), "the model of reference is the class Dense and must be an instance"),
    (lambda v: (MODEL, None), "the second of reference=None must be the variables"),
    (
      lambda v: (MODEL, {"params": {}}),
      "the reference takes no inputs of shape .batch, 6.: its va",
    ),
    (
      lambda v: (tcljax.convert(MODEL, v, (6,)), v),
      "the model of reference is of type SpikingNetwork .*: of a SpikingNetwork give network.model",
    ),
  ],
)
def test_what_is_no_pair_is_told(variables, make, message):
  with pytest.raises(ValueError, match=message):
    tcljax.evaluate(MODEL, variables, inputs(), LABELS, T4, reference=make(variables))


def test_a_reference_needs_no_field_act(variables):
  plain = nn.Dense(3)
  reference = [plain, plain.init(jax.random.key(0), inputs())]
  labels = np.asarray(plain.apply(reference[1], inputs()).argmax(-1))
  assert tcljax.evaluate(MODEL, variables, inputs(), labels, T4, reference=reference).ann == 100


def test_a_reference_of_complex_weights_is_told():
  model, variables, _ = made()
  reference = model, jax.tree.map(lambda a: a + 1j, variables)
  with pytest.raises(
    ValueError, match=r"^clipping/a/\w+ of shape \(\) and type complex64: give real"
  ):
    tcljax.evaluate(model, variables, images(), CLASSES, T4, reference=reference)
