"""The form of an operation is the shape that JAX finds, and no form mixes examples."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from networks import everything

from tcljax.graph import forms
from tcljax.graph.operations import OPERATIONS, find
from tcljax.graph.record import Kind
from tcljax.layers.activations import ReLU


def found_by_jax(op, inputs, settings, arrays, batch=2):
  """The shape of the output without the batch; None where JAX refuses, or it is empty."""
  given = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in arrays.items()}
  xs = [jax.ShapeDtypeStruct((batch, *shape), np.float32) for shape in inputs]
  try:
    run = lambda xs, given: find(op).run(*xs, **given, **settings)
    shape = jax.eval_shape(run, xs, given).shape
  except (TypeError, ValueError, AssertionError):
    return None
  assert shape[0] == batch
  return shape[1:] if 0 not in shape else None


def found_by_form(op, inputs, settings, arrays):
  try:
    form = find(op).form(inputs, settings, arrays)
  except ValueError:
    return None
  return form.output if form.arrays == arrays else None


def test_every_operation_has_a_form_and_it_holds():
  network, _ = everything()
  shapes = {"input:0": network.input_shape}
  for node in network.graph.nodes:
    operation, inputs = find(node.op), [shapes[name] for name in node.inputs]
    collection = "clipping" if operation.kind is Kind.NEURONS else "params"
    arrays = {
      name: np.shape(a) for name, a in network.variables[collection].get(node.name, {}).items()
    }
    settings = dict(node.settings)
    form = operation.form(inputs, settings, arrays)
    assert form.arrays == arrays
    shapes[node.name] = form.output
    if operation.kind is not Kind.NEURONS:
      assert form.output == found_by_jax(node.op, inputs, settings, arrays)
  assert {node.op for node in network.graph.nodes} == set(OPERATIONS)
  assert shapes[network.graph.output] == (5,)


def pairs(rng, axes, least=0):
  return tuple(tuple(map(int, rng.integers(least, 3, 2))) for _ in range(axes))


def some(rng, axes, most):
  return tuple(map(int, rng.integers(1, most + 1, axes)))


def drawn_conv(rng):
  axes, groups = int(rng.integers(1, 4)), int(rng.integers(1, 3))
  settings = {
    "window_strides": some(rng, axes, 3),
    "padding": pairs(rng, axes, -1),
    "lhs_dilation": some(rng, axes, 2),
    "rhs_dilation": some(rng, axes, 2),
    "feature_group_count": groups,
  }
  kernel = (*some(rng, axes, 3), int(rng.integers(1, 3)), int(rng.integers(1, 5)))
  arrays = {"kernel": kernel} | ({"bias": kernel[-1:]} if rng.integers(2) else {})
  return [(*some(rng, axes, 5), 2)], settings, arrays


def drawn_pool(rng):
  x = some(rng, int(rng.integers(1, 4)), 5)
  settings = {
    "window_dimensions": (1, *some(rng, len(x), 3)),
    "window_strides": (1, *some(rng, len(x), 3)),
    "padding": ((0, 0), *pairs(rng, len(x))),
    "base_dilation": (1, *some(rng, len(x), 2)),
    "window_dilation": (1, *some(rng, len(x), 2)),
  }
  return [x], settings, {}


def drawn_pad(rng):
  x = some(rng, 2, 4)
  entry = lambda: (*map(int, rng.integers(-2, 3, 2)), int(rng.integers(0, 3)))
  return [x], {"padding": (entry(), entry())}, {}


def drawn_slice(rng):
  x = some(rng, 2, 6)
  start, limit = (tuple(map(int, rng.integers(0, 7, 2))) for _ in range(2))
  return [x], {"start": start, "limit": limit, "strides": some(rng, 2, 3)}, {}


def drawn_add(rng):
  return [some(rng, 2, 2), some(rng, int(rng.integers(1, 3)), 2)], {}, {}


def drawn_concatenate(rng):
  x = some(rng, 3, 2)
  return [x, some(rng, 3, 2), x], {"axis": int(rng.integers(1, 5))}, {}


def drawn_neurons(rng):
  x = (*some(rng, int(rng.integers(1, 4)), 5), 2)
  axes = len(x) - 1 if rng.integers(4) else 2
  each = lambda most: some(rng, axes, most) if rng.integers(2) else int(rng.integers(1, most + 1))
  paddings = (0, "SAME", pairs(rng, axes), tuple(map(int, rng.integers(0, 2, axes))))
  settings = {
    "window": each(4),
    "stride": each(3),
    "padding": paddings[rng.integers(4)],
    "of": "spikes",
  }
  return [x], settings | ({"bound": 6.0} if rng.integers(2) else {}), {}


class Host(nn.Module):
  """Runs neurons, which are modules."""

  settings: object

  @nn.compact
  def __call__(self, x):
    return find("neurons").run(x, act=functools.partial(ReLU, name="a"), **self.settings)


def test_windows_of_neurons_have_the_form_that_jax_finds():
  rng, outcomes = np.random.default_rng(0), set()
  thresholds = {"raw_threshold": (), "v_init": ()}
  for _ in range(150):
    inputs, settings, _ = drawn_neurons(rng)
    x = jax.ShapeDtypeStruct((2, *inputs[0]), np.float32)
    try:
      expected = jax.eval_shape(functools.partial(Host(settings).apply, {}), x).shape[1:]
    except ValueError:
      expected = None
    assert found_by_form("neurons", inputs, settings, thresholds) == expected, settings
    outcomes.add(expected is None)
  assert outcomes == {True, False}


@pytest.mark.parametrize(
  "op, drawn",
  [
    ("conv", drawn_conv),
    ("sum_pool", drawn_pool),
    ("pad", drawn_pad),
    ("slice", drawn_slice),
    ("add", drawn_add),
    ("concatenate", drawn_concatenate),
  ],
)
def test_a_form_refuses_what_jax_refuses_and_nothing_else(op, drawn):
  rng, outcomes = np.random.default_rng(0), set()
  for _ in range(150):
    case = drawn(rng)
    expected = found_by_jax(op, *case)
    assert found_by_form(op, *case) == expected, case
    outcomes.add(expected is None)
  assert outcomes == {True, False}


@pytest.mark.parametrize(
  "form, inputs, settings, message",
  [
    (forms.transpose, [(2, 3)], {"permutation": (1, 0, 2)}, "must order 3 axes, 0 as the first"),
    (forms.total, [(2, 3)], {"axes": (0,)}, "axes=0 must be a whole number from 1 to 2"),
    (forms.total, [(2, 3)], {"axes": (1, 1)}, "names an axis twice"),
    (forms.concatenate, [(2,), (2,)], {"axis": 0}, "axis=0 must be a whole number from 1 to 1"),
    (forms.reshape, [(2, 3)], {"shape": (7,)}, "cannot have the shape"),
    (forms.reshape, [(2, 3)], {"shape": (6, True)}, "shape=True must be a whole number"),
    (forms.reshape, [(2, 3)], {"shape": (6,) + (1,) * 12}, "must be at most 12 whole numbers"),
    (forms.reshape, [(2, 3)], {}, r"its settings are \[\] and must be \['shape'\]"),
    (forms.add, [(2,), (3,)], {}, "it adds values of unlike shapes"),
    (forms.add, [(2, 1), (2,)], {}, "it adds values of unlike shapes"),
    (forms.take, [(2, 3)], {"axis": 0, "indices": (0,)}, "axis=0 must be a whole number from 1"),
    (forms.take, [(2, 3)], {"axis": 2, "indices": (3,)}, "indices=3 must be a whole number from 0"),
    (forms.take, [(2, 3)], {"axis": 2, "indices": ()}, r"indices=\(\) must be whole numbers"),
    (forms.take, [(2, 3)], {"axis": 2, "indices": 1}, "indices=1 must be whole numbers"),
    (forms.neurons, [(4,)], {"bound": 0.0}, "bound=0.0 must be a finite number"),
    (forms.neurons, [(4,)], {"bound": 6}, "bound=6 must be a floating-point number"),
    (forms.neurons, [(4,)], {"bound": float("inf")}, "bound=inf must be a finite number"),
    (forms.add, [(2,)], {}, "it reads 1 inputs in place of 2"),
    (forms.cut, [(2,)], {"start": (0,), "limit": (3,), "strides": (1,)}, "does not lie within"),
    (
      forms.neurons,
      [(4, 4, 2)],
      {"window": 2, "stride": 1, "padding": 2, "of": "spikes"},
      "padding=2 must be at least 0 and below window=2",
    ),
    (
      forms.neurons,
      [(4, 4, 2)],
      {"window": 2, "stride": None, "padding": 0, "of": "spikes"},
      "stride=None must be given",
    ),
    (
      forms.neurons,
      [(4, 4, 2)],
      {"window": (2, 2, 2), "stride": 1, "padding": "SAME", "of": "spikes"},
      "images of 4x4 pixels: its tuples must have 2 entries",
    ),
    (forms.neurons, [(2,)], {"window": 1, "stride": 1, "padding": 0, "of": "spikes"}, "need imag"),
    (forms.neurons, [(2,)], {"bound": 6}, "bound=6 must be a floating-point number"),
    (forms.neurons, [(2,)], {"bound": float("inf")}, "bound=inf must be a finite number above 0"),
    (forms.neurons, [(2,)], {"bound": None}, "bound=None must be a number"),
  ],
)
def test_what_a_form_refuses_is_told(form, inputs, settings, message):
  with pytest.raises(ValueError, match=message):
    form(inputs, settings, {})


@pytest.mark.parametrize("name", ["window_dimensions", "window_strides", "padding"])
def test_windows_stay_within_an_example(name):
  inputs, settings, _ = drawn_pool(np.random.default_rng(0))
  value = settings[name]
  settings[name] = ((1, 1) if name == "padding" else 2, *value[1:])
  with pytest.raises(ValueError, match=rf"{name}=.* must have .* entries, the first"):
    forms.sum_pool(inputs, settings, {})


def test_a_window_of_padding_alone_has_no_maximum():
  settings = {
    "window_dimensions": (1, 2),
    "window_strides": (1, 1),
    "padding": ((0, 0), (1, 1)),
    "base_dilation": (1, 1),
    "window_dilation": (1, 1),
  }
  assert forms.max_pool([(3,)], settings, {}).output == (4,)
  with pytest.raises(ValueError, match="may leave a window of 2 with nothing else"):
    forms.max_pool([(3,)], settings | {"padding": ((0, 0), (2, 0))}, {})
