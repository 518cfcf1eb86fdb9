"""Every public function that takes images, and images that are none, for tests of many rooms."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import torch
from running import calibrate_plainly

import tcljax

T4 = tcljax.SpikingConfig(4)
POISSON = tcljax.SpikingConfig(4, encoding="poisson")
LABELS = np.arange(8) % 3
KEYS = jax.random.split(jax.random.key(0), 8)


class Centring(nn.Module):
  """What models do first to images of bytes; a difference of uint8 would wrap."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(self.act(name="a")(nn.Dense(5)((x - 3) * 100)))


def images(dtype=np.float32):
  return np.random.default_rng(3).integers(0, 8, (8, 4)).astype(dtype)


def with_one(value, dtype):
  x = images(dtype)
  x[2, 1] = value
  return x


@functools.cache
def made():
  """A model, its variables and its converted network; once for all tests."""
  model = Centring()
  variables = calibrate_plainly(model, model.init(jax.random.key(0), images()), images())
  return model, variables, tcljax.convert(model, variables, (4,), T4)


# What each public function that takes images makes of them; all are arrays or trees of them.
DOORS = {
  "simulate": lambda m, v, n, x: tcljax.simulate(m, v, x, T4).logits,
  "call": lambda m, v, n, x: n(x),
  "answer_early": lambda m, v, n, x: tcljax.answer_early(n, x, 0.1).logits,
  "choose_margin": lambda m, v, n, x: tcljax.choose_margin(n, [x]),
  "calibrate": lambda m, v, n, x: tcljax.thresholds(tcljax.calibrate(m, v, [x])),
  "diagnose": lambda m, v, n, x: vars(tcljax.diagnose(m, v, x, T4)["a"]),
  "evaluate": lambda m, v, n, x: vars(tcljax.evaluate(m, v, x, LABELS, T4)),
  "tune": lambda m, v, n, x: tcljax.thresholds(
    tcljax.tune(m, v, x, LABELS, T4, steps=1, batch_size=8, objective="squared_error")
  ),
}
NO_IMAGES = {
  "a large int64": (with_one(2**40, np.int64), r"1099511627776 does not fit into int32, in which"),
  "a low int64": (
    with_one(-(2**31) - 1, np.int64),
    "-2147483649 does not fit into int32.*floating",
  ),
  "a large uint64": (with_one(2**63, np.uint64), "9223372036854775808 does not fit into uint32"),
  "a large float64": (
    with_one(1e300, np.float64),
    r"1e\+300 does not fit into float32.*scale them",
  ),
  "a low float64": (
    with_one(-1e39, np.float64),
    r"-1e\+39 does not fit into float32, in which JAX",
  ),
  "complex": (images(np.complex64), r"of shape \(8, 4\) and type complex64: give real numbers"),
  "complex of JAX": (jnp.asarray(images()) + 1j, "and type complex64: give real numbers"),
  "objects": (images(object), r"of shape \(8, 4\) and type object: give real numbers"),
  "texts": (images(str), "and type <U21: give real numbers|and type <U32: give real numbers"),
  "texts of any length": (
    images(str).astype(np.dtypes.StringDType()),
    r"and type StringDType\(\): give real numbers",
  ),
  "dates": (images(np.int64).astype("M8[s]"), r"and type datetime64\[s\]: give real numbers"),
  "durations": (images(np.int64).astype("m8[s]"), r"and type timedelta64\[s\]: give real numbers"),
  "128 bits": (images(np.longdouble), "give real numbers of at most 64 bits"),
  "records": (np.zeros((8, 4), [("a", "f4")]), r"and type \[\('a', '<f4'\)\]: give real numbers"),
  "masked": (
    np.ma.masked_array(images(), images() > 5),
    "some entries are masked: fill them, .fil",
  ),
  "keys": (jax.random.split(jax.random.key(0), (8, 4)), "and type key<fry>: give real numbers"),
  "sparse": (scipy.sparse.csr_matrix(images()), "of type csr_matrix: give an array of numbers"),
  "with a gradient": (
    torch.ones(8, 4, requires_grad=True),
    "of type Tensor: give an array of numb",
  ),
}
