"""Networks of Equinox."""

from typing import Any

import jax

from tcljax.checks import must_be
from tcljax.frameworks.importing import framework
from tcljax.frameworks.inference import traced
from tcljax.graph import Traced


def from_equinox(
  model: Any,
  example: jax.Array | jax.ShapeDtypeStruct,
  state: Any = None,
  *,
  pooling: str = "gate",
) -> Traced:
  """Traces a network of Equinox in inference mode; the model itself stays as it is.

  Args:
    model: an `eqx.Module` that is called with one example, as Equinox's layers are, without a
      batch; `jax.vmap` gives it one here.
    example: a batch of inputs [B, ...], or its shape and type.
    state: of a model with BatchNorm, the `eqx.nn.State` that it is called with too and that it
      returns beside its output.
    pooling: see `tcljax.trace`.

  Raises:
    ValueError: if Equinox is not installed, this is no model or one without numbers, if it keeps
      a state that is not given, if it draws random numbers, and as `tcljax.trace` does.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import tcljax
    >>> eqx = __import__("pytest").importorskip("equinox")
    >>> model = eqx.nn.MLP(4, 3, width_size=8, depth=2, key=jax.random.key(0))
    >>> tcljax.from_equinox(model, jnp.ones((1, 4))).populations
    ('relu', 'relu_2')
  """
  nn = framework("equinox", "equinox").nn
  if not callable(model):
    wanted = "an eqx.Module that is called with one example, such as eqx.combine(params, static)"
    raise ValueError(must_be("model", model, wanted))
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model)):
    raise ValueError(
      "model has weights without numbers, as eqx.filter_eval_shape makes them: give a trained one"
    )
  own = nn.inference_mode(model)

  def with_state(x):
    answer = own(x, state)
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], nn.State)):
      raise ValueError(
        "a state is given, and the model returns no pair of an output and a state: leave it out"
      )
    return answer[0]

  one = own if state is None else with_state
  # BatchNorm names the axis that it means over when it is trained.
  batched = jax.vmap(one, axis_name="batch")
  if state is None and _has_state(nn, model):
    try:
      jax.eval_shape(batched, example)
    except Exception as error:  # of any kind, as the model is the user's
      # The argument lacks, or what stands in its place cannot do what a state does.
      if any(word in str(error) for word in ("'state'", "'get'", "'set'", "'update'")):
        raise ValueError(
          "the model has a state, as BatchNorm does, and none is given: give the trained one, "
          "tcljax.from_equinox(model, example, state)"
        ) from error
  return traced(batched, example, pooling)


def _has_state(nn: Any, model: Any) -> bool:
  """Whether a part of a model keeps a state; it may be one that inference does without."""
  is_index = lambda part: isinstance(part, nn.StateIndex)
  return any(map(is_index, jax.tree.leaves(model, is_leaf=is_index)))
