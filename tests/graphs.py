"""What tests of graphs share: a model's variables, and its graph beside the model itself."""

import jax
import numpy as np

from tcljax.graph import GraphNetwork, fold, trace
from tcljax.layers.activations import ReLU


def relative_error(found, expected):
  """The largest deviation over the largest value."""
  return float(np.abs(found - expected).max() / np.abs(expected).max())


def both(model, variables, x, act=ReLU):
  """Outputs of the traced and of the folded graph beside the model's own."""
  traced = trace(model, variables, x.shape[1:])
  outputs = []
  for graph, arrays in (traced, fold(*traced)):
    inner = {"params": arrays, "clipping": variables.get("clipping", {})}
    outputs.append(GraphNetwork(graph, act=act).apply(inner, x))
  return (*outputs, model.clone(act=act).apply(variables, x))


def randomized(model, x, seed=0):
  """Variables of a model, none of them at the value of initialisation."""
  rng = np.random.default_rng(seed)
  variables = model.init(jax.random.key(seed), x)
  return jax.tree.map(lambda a: np.asarray(a + rng.normal(0, 0.1, a.shape), np.float32), variables)
