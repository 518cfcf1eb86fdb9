"""What tests of graphs and pooling share: graphs beside their models, and variables alive."""

import flax.linen as nn
import jax
import numpy as np
from running import calibrate_plainly

import tcljax
from tcljax.graph import GraphNetwork, folded, trace_model
from tcljax.layers.activations import ReLU


class Function(nn.Module):
  """A layer, its neurons, and a function of them."""

  function: object
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.function(self.act(name="a")(nn.Dense(4)(x)))


def relative_error(found, expected):
  """The largest deviation over the largest value."""
  return float(np.abs(found - expected).max() / np.abs(expected).max())


def both(model, variables, x, act=ReLU):
  """Outputs of the traced and of the folded graph beside the model's own."""
  traced = trace_model(model, variables, x.shape[1:])
  outputs = []
  for graph, arrays in (traced, folded(*traced)[:2]):
    inner = {"params": arrays, "clipping": variables.get("clipping", {})}
    outputs.append(GraphNetwork(graph, act=act).apply(inner, x))
  return (*outputs, model.clone(act=act).apply(variables, x))


def randomized(model, x, seed=0):
  """Variables of a model, none of them at the value of initialisation."""
  rng = np.random.default_rng(seed)
  variables = model.init(jax.random.key(seed), x)
  return jax.tree.map(lambda a: np.asarray(a + rng.normal(0, 0.1, a.shape), np.float32), variables)


def alive(model, images, **calibration):
  """Variables with BatchNorms that also shrink and turn over, and thresholds that clip."""
  variables = jax.jit(model.init)(jax.random.key(0), images)
  rng = np.random.default_rng(3)

  def drawn(path, a):
    if a.ndim > 1:
      return a
    name = path[-1].key
    centre = {"scale": 1.0, "var": 1.0}.get(name, 0.2)
    sign = rng.choice([-1, 1], a.shape, p=(0.3, 0.7)) if name == "scale" else 1
    return np.float32(sign * (centre + rng.uniform(-0.1, 0.4, a.shape)))

  variables = jax.tree_util.tree_map_with_path(drawn, variables)
  return calibrate_plainly(model, variables, images, **{"percentile": 97, **calibration})


def simulated(model, variables, images, **config):
  observe = lambda steps: (steps.logits, steps.spikes)
  return jax.jit(
    lambda v, x: tcljax.simulate(model, v, x, tcljax.SpikingConfig(**config), observe=observe)
  )(variables, images)
