"""The table of operations: a record alone makes an operation traced, folded, run and stored."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import both, randomized

import tcljax
from tcljax.graph import affine, fold, neurons, pooling, shaping, trace
from tcljax.graph.forms import Form
from tcljax.graph.operations import OPERATIONS
from tcljax.graph.record import Kind, Made, Operation, Refused
from tcljax.layers.activations import ReLU


def test_every_record_is_in_the_table_once():
  records = [o for module in (affine, pooling, shaping, neurons) for o in module.OPERATIONS]
  assert [o.name for o in records] == list(OPERATIONS)
  assert {o.name for o in records if o.kind is Kind.SYNAPSES} == {"conv", "dense"}


def test_a_difference_of_branches_is_a_sum_with_one_of_them_negated(rng):
  class Difference(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return self.act(name="a")(nn.Dense(3)(x)) - nn.Dense(3)(x)

  x = rng.normal(size=(4, 5)).astype(np.float32)
  traced, folded, expected = both(Difference(), randomized(Difference(), x), x)
  np.testing.assert_allclose(traced, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(folded, expected, rtol=1e-5, atol=1e-6)
  graph, arrays = trace(Difference(), randomized(Difference(), x), (5,))
  negated, added = graph.nodes[-2:]
  assert (negated.op, added.op) == ("affine", "add")
  assert added.inputs == ("a", negated.name)
  assert arrays[negated.name]["scale"] == -1 and arrays[negated.name]["shift"] == 0


class Mirrored(nn.Module):
  """Turns the rows about, and mixes them by weights, each followed by a norm."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Conv(4, (3,))(x))
    x = nn.BatchNorm(use_running_average=True)(jax.lax.rev(x, (1,)))
    kernel = self.param("rows", nn.initializers.normal(1.0), (x.shape[1], 5))
    x = nn.BatchNorm(use_running_average=True)(jnp.einsum("brc,rk->bck", x, kernel))
    x = self.act(name="b")(nn.max_pool(x, (2,), (2,)))
    return nn.Dense(3)(x.reshape(x.shape[0], -1))


def read_rev(inputs, params):
  if 0 in params["dimensions"]:
    raise Refused
  return Made("rev", tuple(inputs), settings={"axes": tuple(params["dimensions"])})


def read_rows(inputs, params):
  x, kernel = inputs
  if params["dimension_numbers"] != (((1,), (0,)), ((), ())) or x.ndim != 3:
    raise Refused
  return Made("rows", (x,), {"kernel": kernel})


def fold_rows(arrays, scale, shift):
  if np.any(shift):
    raise Refused
  return {"kernel": arrays["kernel"] * scale.reshape(-1)}


REV = Operation(
  name="rev",
  run=lambda x, *, axes: jax.lax.rev(x, axes),
  read={"rev": read_rev},
  form=lambda inputs, settings, listed: Form(inputs[0]),
)
# Reads what "dense" refuses.
ROWS = Operation(
  name="rows",
  run=lambda x, *, kernel: jnp.einsum("brc,rk->bck", x, kernel),
  read={"dot_general": read_rows},
  kind=Kind.SYNAPSES,
  fold=fold_rows,
  form=lambda inputs, settings, listed: Form(
    (inputs[0][1], listed["kernel"][1]), {"kernel": (inputs[0][0], listed["kernel"][1])}
  ),
)


# Its maximum stands in the model: that is where the kinds of operations count.
@pytest.mark.filterwarnings("ignore:the model takes a maximum")
@pytest.mark.parametrize("shifted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_operation_is_added_by_its_record_alone(rng, monkeypatch, tmp_path, shifted):
  model = Mirrored()
  x = rng.normal(size=(3, 6, 2)).astype(np.float32)
  variables = randomized(model, x)
  norm = variables["params"]["BatchNorm_1"]
  if not shifted:
    variables["batch_stats"]["BatchNorm_1"]["mean"] = np.zeros(5, np.float32)
    norm["bias"] = np.zeros(5, np.float32)
  with pytest.raises(ValueError, match="the model applies `rev` in Mirrored: between two"):
    trace(model, variables, (6, 2))
  monkeypatch.setitem(OPERATIONS, "rev", REV)
  with pytest.raises(ValueError, match="the model applies `dot_general` in Mirrored"):
    trace(model, variables, (6, 2))
  monkeypatch.setitem(OPERATIONS, "rows", ROWS)

  traced, folded, expected = both(model, variables, x)
  assert np.std(expected, axis=0).min() > 1e-3
  np.testing.assert_allclose(traced, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-5)
  graph, _ = fold(*trace(model, variables, (6, 2)))
  # "rev" takes up nothing, "rows" a scale; and what it makes are currents, of which maxima pass.
  assert [node.op for node in graph.nodes if node.op != "reshape"] == [
    *("conv", "neurons", "rev", "affine", "rows"),
    *(["affine"] if shifted else []),
    *("max_pool", "neurons", "dense"),
  ]
  assert {"rev:1", "rows:1"} < {node.name for node in graph.nodes}

  variables = tcljax.calibrate(model, variables, [x])
  spiking = tcljax.SpikingConfig(time_steps=6)
  path = tcljax.save(tcljax.convert(model, variables, (6, 2), spiking), tmp_path / "net")
  expected = tcljax.simulate(model, variables, x, spiking).logits
  np.testing.assert_allclose(tcljax.load(path)(x), expected, rtol=1e-4, atol=1e-4)
  monkeypatch.delitem(OPERATIONS, "rev")
  with pytest.raises(ValueError, match="cannot be read: node 'rev:1': unknown operation 'rev'"):
    tcljax.load(path)


def test_a_new_operation_passes_spikes_on_unless_it_says_otherwise(rng, monkeypatch):
  monkeypatch.setitem(OPERATIONS, "rev", REV)
  monkeypatch.setitem(OPERATIONS, "rows", dataclasses.replace(ROWS, kind=Kind.PASSAGE))
  x = rng.normal(size=(3, 6, 2)).astype(np.float32)
  with pytest.raises(ValueError, match="applies `reduce_window_max` in Mirrored: use average"):
    trace(Mirrored(), randomized(Mirrored(), x), (6, 2))
