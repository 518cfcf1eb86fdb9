"""A network that holds every operation of the graph, for what must hold of each; and one of few."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from graphs import alive

import tcljax

SHAPE = (8, 8, 2)


class Everything(nn.Module):
  """Maxima of spikes and of currents, branches, and all that moves numbers."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    a = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3), use_bias=False)(x))
    a = self.act(name="gate", max_pool=tcljax.MaxPool((2, 3), 2, "SAME"))(a)
    b = nn.Conv(4, (3, 2), padding="VALID", kernel_dilation=(1, 2), feature_group_count=2)(
      jnp.pad(a, ((0, 0), (1, 1), (2, 0), (0, 0)))
    )
    b = self.act(name="branch", bound=2.5)(nn.BatchNorm(use_running_average=True)(b))
    c = nn.Conv(4, (3, 3), strides=2, name="strided")(x)
    c = self.act(name="maximum")(nn.max_pool(c, (2, 2), (1, 1), "SAME"))
    pooled = tcljax.MaxPool(2, 2, (0, (1, 0)), "currents")
    c = c + self.act(name="currents", max_pool=pooled)(nn.Conv(4, (3, 3), name="pooled")(x))
    d = jnp.concatenate([a + b, c], axis=-1)
    e = nn.avg_pool(d, (2, 2), (2, 2), "SAME")
    # Rows are mixed, so that they have to stand last, and taken in another order.
    e = jnp.einsum("bhwc,hk->bkwc", e, jnp.array([[1.0, 0.5], [-0.5, 1.0]]))[:, ::-1]
    f = e.transpose(0, 3, 1, 2)[:, 1:7:2].reshape(x.shape[0], -1)
    e = e + 0.5 * e.mean((1, 2), keepdims=True)
    g = self.act(name="last")(nn.Dense(12)(f))
    return nn.Dense(5)(jnp.concatenate([g, e.mean((1, 2))], axis=-1))


class Few(nn.Module):
  """Of each kind of operation one or two, so that it is compiled in less time."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    a = self.act(name="gate", max_pool=tcljax.MaxPool(2))(nn.Conv(3, (3, 3))(x))
    b = nn.max_pool(nn.Conv(3, (3, 3), strides=2, name="strided")(x), (2, 2), (1, 1), "SAME")
    c = jnp.concatenate([a, self.act(name="branch", bound=2.5)(b)], axis=-1)
    return nn.Dense(5)(nn.avg_pool(c, (2, 2), (2, 2)).reshape(x.shape[0], -1))


def few(**spiking):
  """As `everything`, of the network of few operations."""
  return everything(Few(), **spiking)


def everything(model=None, **spiking):
  """The network converted, with instalments that differ, and images for it."""
  model = model or Everything()
  rng = np.random.default_rng(0)
  images = rng.normal(size=(6, *SHAPE)).astype(np.float32)
  with warnings.catch_warnings():  # of the maximum that stands in the model
    warnings.simplefilter("ignore")
    variables = dict(alive(model, images, per_channel=True, instalments=3))
  variables["clipping"] = jax.tree_util.tree_map_with_path(
    lambda path, a: (
      np.asarray(a + rng.uniform(-0.3, 0.3, a.shape), np.float32) if path[-1].key == "v_init" else a
    ),
    variables["clipping"],
  )
  branch = variables["clipping"]["branch"]
  beyond = np.float32([0, 0.25, 0, 1])[: branch["raw_threshold"].size]  # its bound
  branch["raw_threshold"] = branch["raw_threshold"] + beyond
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    network = tcljax.convert(model, variables, SHAPE, tcljax.SpikingConfig(**spiking), made="here")
  return network, images
