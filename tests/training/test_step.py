"""One step of training moves each collection at its own rate."""

import chex
import jax
import optax
import pytest
from states import as_it_is

from tcljax.layers.activations import TCL, with_activation
from tcljax.training import objectives, optimizers, step


@pytest.mark.slow
def test_each_collection_has_its_own_learning_rate(case):
  model, variables, images, labels = case
  batch = {"image": images[:16], "label": labels[:16]}
  objective = objectives.ann_objective(with_activation(model, TCL), as_it_is)
  transformation = optimizers.train_only({"params": optax.sgd(0.1), "clipping": optax.sgd(0.003)})
  gradient = jax.grad(lambda v: objective({**variables, **v}, batch, jax.random.key(0))[0])(
    {c: variables[c] for c in ("params", "clipping")}
  )
  start = {**variables, "teacher": {"params": variables["params"]}}
  state, _ = step.train_step(objective, transformation, ("params", "clipping"), 1)(
    step.new_state(start, transformation), batch, jax.random.key(0)
  )
  for collection, rate in (("params", 0.1), ("clipping", 0.003)):
    chex.assert_trees_all_close(
      state.variables[collection],
      jax.tree.map(
        lambda a, g, rate=rate: a - rate * g, variables[collection], gradient[collection]
      ),
      rtol=1e-4,
      atol=1e-6,
    )
  chex.assert_trees_all_equal(state.variables["teacher"], start["teacher"])
