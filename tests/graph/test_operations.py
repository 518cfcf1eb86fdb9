"""The table of operations: a record alone makes an operation traced, folded, run and stored."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import both, randomized
from jax.extend import core
from jax.interpreters import mlir

import tcljax
from tcljax.graph import (
  affine,
  folded,
  movement,
  neurons,
  pooling,
  products,
  shaping,
  trace_model,
)
from tcljax.graph.forms import Form
from tcljax.graph.layout import as_stored
from tcljax.graph.operations import OPERATIONS
from tcljax.graph.record import Kind, Operation, Refused
from tcljax.layers.activations import ReLU


def test_every_record_is_in_the_table_once():
  records = [
    o
    for module in (products, affine, pooling, shaping, movement, neurons)
    for o in module.OPERATIONS
  ]
  assert [o.name for o in records] == list(OPERATIONS)
  assert {o.name for o in records if o.kind is Kind.SYNAPSES} == {"conv", "dense"}


def test_a_difference_of_branches_is_a_sum_with_one_of_them_negated(rng):
  class Difference(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return self.act(name="a")(nn.Dense(3)(x)) - nn.Dense(3)(x)

  x = rng.normal(size=(4, 5)).astype(np.float32)
  traced, short, expected = both(Difference(), randomized(Difference(), x), x)
  np.testing.assert_allclose(traced, expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(short, expected, rtol=1e-5, atol=1e-6)
  graph, arrays = trace_model(Difference(), randomized(Difference(), x), (5,))
  negated, added = graph.nodes[-2:]
  assert (negated.op, added.op) == ("affine", "add")
  assert added.inputs == ("a", negated.name)
  assert arrays[negated.name]["scale"] == -1 and arrays[negated.name]["shift"] == 0


def primitive(name, compute):
  """A primitive of JAX that no record reads."""
  made = core.Primitive(name)
  made.def_impl(compute)
  made.def_abstract_eval(
    lambda *args: jax.core.ShapedArray(jax.eval_shape(compute, *args).shape, np.dtype(np.float32))
  )
  mlir.register_lowering(made, mlir.lower_fun(compute, multiple_results=False))
  return made


REVERSAL = primitive("reversal", lambda x: jax.lax.rev(x, (1,)))
MIXTURE = primitive("mixture", lambda x, kernel: jnp.einsum("brc,rk->bck", x, kernel))


class Mirrored(nn.Module):
  """Turns the rows about, and mixes them by weights, each followed by a norm."""

  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Conv(4, (3,))(x))
    x = nn.BatchNorm(use_running_average=True)(REVERSAL.bind(x))
    kernel = self.param("rows", nn.initializers.normal(1.0), (x.shape[1], 5))
    x = nn.BatchNorm(use_running_average=True)(MIXTURE.bind(x, kernel))
    x = self.act(name="b")(nn.max_pool(x, (2,), (2,)))
    return nn.Dense(3)(x.reshape(x.shape[0], -1))


def read_reversal(graph, use):
  x = graph.as_in_model(use.inputs[0])
  return graph.same_layout(x, graph.node("reversal", (x.name,), x.stored))


def read_mixture(graph, use):
  x, kernel = use.inputs
  x = graph.as_in_model(x)
  if kernel.ndim != 2:
    raise Refused
  made = graph.node("mixture", (x.name,), use.shapes[0], arrays={"kernel": kernel})
  return as_stored(made, graph.shapes[made])


def fold_mixture(arrays, scale, shift):
  if np.any(shift):
    raise Refused
  return {"kernel": arrays["kernel"] * scale.reshape(-1)}


REVERSED = Operation(
  name="reversal",
  run=lambda x: jax.lax.rev(x, (1,)),
  read={"reversal": read_reversal},
  form=lambda inputs, settings, listed: Form(inputs[0]),
)
MIXED = Operation(
  name="mixture",
  run=lambda x, *, kernel: jnp.einsum("brc,rk->bck", x, kernel),
  read={"mixture": read_mixture},
  kind=Kind.SYNAPSES,
  fold=fold_mixture,
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
  with pytest.raises(ValueError, match=r"the model applies `reversal` in Mirrored.*: between two"):
    trace_model(model, variables, (6, 2))
  monkeypatch.setitem(OPERATIONS, "reversal", REVERSED)
  with pytest.raises(ValueError, match="the model applies `mixture` in Mirrored"):
    trace_model(model, variables, (6, 2))
  monkeypatch.setitem(OPERATIONS, "mixture", MIXED)

  traced, short, expected = both(model, variables, x)
  assert np.std(expected, axis=0).min() > 1e-3
  np.testing.assert_allclose(traced, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(short, expected, rtol=1e-4, atol=1e-5)
  graph = folded(*trace_model(model, variables, (6, 2))).graph
  # "reversal" takes up nothing, "mixture" a scale; and it makes currents, of which maxima pass.
  assert [node.op for node in graph.nodes if node.op != "reshape"] == [
    *("conv", "neurons", "reversal", "affine", "mixture"),
    *(["affine"] if shifted else []),
    *("max_pool", "neurons", "dense"),
  ]
  assert {"reversal:1", "mixture:1"} < {node.name for node in graph.nodes}

  variables = tcljax.calibrate(model, variables, [x])
  spiking = tcljax.SpikingConfig(time_steps=6)
  path = tcljax.save(tcljax.convert(model, variables, (6, 2), spiking), tmp_path / "net")
  expected = tcljax.simulate(model, variables, x, spiking).logits
  np.testing.assert_allclose(tcljax.load(path)(x), expected, rtol=1e-4, atol=1e-4)
  monkeypatch.delitem(OPERATIONS, "reversal")
  with pytest.raises(
    ValueError, match="cannot be read: node 'reversal:1': unknown operation 'reversal'"
  ):
    tcljax.load(path)


def test_a_new_operation_passes_spikes_on_unless_it_says_otherwise(rng, monkeypatch):
  monkeypatch.setitem(OPERATIONS, "reversal", REVERSED)
  monkeypatch.setitem(OPERATIONS, "mixture", dataclasses.replace(MIXED, kind=Kind.PASSAGE))
  x = rng.normal(size=(3, 6, 2)).astype(np.float32)
  with pytest.raises(ValueError, match=r"applies `reduce_window_max` in Mirrored.*: use average"):
    trace_model(Mirrored(), randomized(Mirrored(), x), (6, 2))


def test_spikes_arrive_where_a_weight_is_not_0():
  sent = jnp.array([[1.0, 2.0, 0.0, 1.0]])
  kernel = jnp.array([[-3.0, 0.0], [0.5, 0.0], [1.0, 1.0], [0.0, 2.0]])
  arrive = OPERATIONS["dense"].synaptic_operations
  assert arrive(sent, kernel=kernel, bias=jnp.ones(2)).tolist() == [[3.0, 1.0]]
  settings = {name: (1,) for name in ("window_strides", "lhs_dilation", "rhs_dilation")}
  arrive = OPERATIONS["conv"].synaptic_operations
  found = arrive(
    sent[..., None],
    kernel=jnp.array([7.0, 0.0, -1.0])[:, None, None],
    padding=((1, 1),),
    feature_group_count=1,
    bias=jnp.ones(1),
    **settings,
  )
  assert found[..., 0].tolist() == [[2.0, 1.0, 3.0, 0.0]]
  arrive = OPERATIONS["affine"].synaptic_operations
  scale, shift = jnp.array([-2.0, 0.0, 1.0, 0.5]), jnp.ones(4)
  assert arrive(sent, scale=scale, shift=shift).tolist() == [[1.0, 0.0, 0.0, 1.0]]
