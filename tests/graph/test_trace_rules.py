"""All that is affine is read by rules: what moves numbers, constants among them, loops, outputs."""

import collections
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from functions import IMAGES, LAST, MIX, SQUARE, conv, currents, head, ops, stem, weights

import tcljax
from tcljax.graph.operations import OPERATIONS

AROUND = ((0, 0), (1, 1), (2, 2), (0, 0))
LAYERS, DEPTHWISE, TOKEN = weights(3, 4, 4), weights(3, 3, 1, 4), weights(1, 1, 4)
SOME = np.random.default_rng(0).random((8, 8)) > 0.5


def in_loop(x):
  return jax.lax.scan(lambda y, layer: (jax.nn.relu(y @ layer), y.sum(3)), stem(x), LAYERS)


@pytest.mark.parametrize(
  "function",
  [
    # What moves numbers.
    lambda x: head(jnp.roll(stem(x), (1, 2), (1, 2)) * jnp.arange(8.0)[None, :, None, None]),
    lambda x: head(conv(stem(x)[:, ::-1, ::-2], SQUARE)),
    lambda x: head(stem(x)[:, jnp.array([0, 2, 1, 1])]),
    lambda x: stem(x)[:, jnp.array([0, 2, 1]), jnp.array([1, 1, 5])].mean(1) @ LAST,
    lambda x: stem(x)[:, SOME].mean(1) @ LAST,
    lambda x: jnp.take(stem(x), 3, axis=2).mean(1) @ LAST,
    lambda x: sum(jnp.split(stem(x), 2, axis=-1)).mean((1, 2)),
    lambda x: head(jnp.tile(stem(x), (1, 2, 1, 1))),
    lambda x: head(conv(jnp.repeat(stem(x), 2, axis=1), SQUARE)),
    lambda x: head(jax.lax.dynamic_slice_in_dim(stem(x), 1, 3, axis=1)),
    lambda x: jnp.stack([stem(x), currents(x)], axis=1).sum((1, 2, 3)) @ LAST,
    lambda x: sum(jnp.unstack(stem(x), axis=1)).mean(1) @ LAST,
    lambda x: head(jnp.moveaxis(stem(x), 3, 1).swapaxes(1, 3)),
    lambda x: stem(x).reshape(-1, 8, 8, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 16, 16, 1),
    lambda x: head(jax.image.resize(stem(x), (x.shape[0], 16, 16, 4), "nearest")),
    lambda x: head(conv(jax.image.resize(stem(x), (x.shape[0], 13, 16, 4), "bilinear"), SQUARE)),
    # Padding of any kind, and constants beside what depends on the input.
    lambda x: head(conv(jnp.pad(stem(x), AROUND, mode="edge"), SQUARE)),
    lambda x: head(conv(jnp.pad(stem(x), AROUND, mode="reflect"), SQUARE)),
    lambda x: head(conv(jnp.pad(stem(x), AROUND, mode="wrap"), SQUARE)),
    lambda x: head(conv(jnp.pad(stem(x), AROUND, constant_values=2.0), SQUARE)),
    lambda x: head(jax.lax.pad(stem(x), 1.0, ((0, 0, 0), (1, -1, 2), (0, 0, 0), (0, 0, 0)))),
    lambda x: head(jnp.concatenate([jnp.full((*x.shape[:3], 1), 0.3), stem(x)[..., :3]], -1)),
    lambda x: jnp.concatenate(
      [jnp.broadcast_to(TOKEN, (x.shape[0], 1, 4)), stem(x).reshape(-1, 64, 4)], 1
    ).mean(1),
    lambda x: head(stem(x).at[:, 0].set(0.5)),
    lambda x: head(stem(x).at[:, 0].add(0.5)),
    lambda x: head(jnp.zeros((x.shape[0], 9, 9, 4)).at[:, :8, :8].set(stem(x))),
    lambda x: head(jnp.where(SOME[None, :, :, None], stem(x), 0.25)),
    lambda x: head(jnp.where(SOME[None, :, :, None], stem(x), currents(x))),
    # Sums.
    lambda x: head(jnp.cumsum(stem(x), axis=1)),
    lambda x: head(jax.lax.cumsum(stem(x), axis=2, reverse=True)),
    lambda x: head(nn.avg_pool(stem(x), (3, 3), (2, 2), "SAME", count_include_pad=False)),
    lambda x: head(stem(x / 255.0 - 0.5) / jnp.array([1.0, 2, 3, 4])[None, None, None]),
    lambda x: head(1.0 - stem(x)),
    # Convolutions.
    lambda x: head(jax.lax.conv_transpose(stem(x), SQUARE, (2, 2), "SAME")),
    lambda x: head(conv(stem(x), DEPTHWISE, feature_group_count=4)),
    lambda x: head(conv(stem(x), SQUARE, padding=((2, 1), (0, 3)), rhs_dilation=(2, 1))),
    # Loops and choices that do not depend on the input.
    lambda x: in_loop(x)[0].mean((1, 2)),
    lambda x: in_loop(x)[1].mean((0, 2)),
    lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jax.nn.relu(y @ MIX) + i, stem(x)).mean((1, 2)),
    lambda x: jax.lax.while_loop(
      lambda s: s[0] < 3, lambda s: (s[0] + 1, jax.nn.relu(s[1] @ MIX)), (0, stem(x))
    )[1].mean((1, 2)),
    lambda x: jax.lax.cond(True, head, lambda y: head(2 * y), stem(x)),
    lambda x: jax.lax.switch(1, [head, lambda y: head(2 * y)], stem(x)),
    lambda x: jax.lax.map(lambda layer: stem(x).mean((1, 2)) @ layer, LAYERS).sum(0),
    lambda x: (jax.debug.print("{}", x.sum()), head(jax.lax.optimization_barrier(stem(x))))[1],
  ],
)
def test_what_is_affine_is_read(function):
  assert "neurons" in ops(tcljax.trace(function, IMAGES))


def test_constants_of_16_bits_and_inputs_of_bytes():
  kernel = weights(3, 3, 3, 4).astype(jnp.bfloat16)
  half = lambda x: head(jax.nn.relu(conv(x.astype(jnp.bfloat16), kernel)).astype(jnp.float32))
  assert ops(tcljax.trace(half, IMAGES))[0] == "conv"
  pixels = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.uint8)
  assert ops(tcljax.trace(lambda x: head(stem(x / 255.0)), pixels))[0] == "affine"


def test_several_inputs_and_outputs():
  def function(inputs):
    image, (size, side) = inputs["image"], inputs["numbers"]
    y = stem(image) + size[:, None, None] @ jnp.ones((1, 4)) * side[:, :, None, None]
    return {"classes": jax.nn.softmax(head(y)), "maps": (y, y[:, 0])}

  numbers = (jax.ShapeDtypeStruct((1, 1), jnp.float32), jnp.ones((1, 1)))
  with pytest.raises(ValueError, match="multiplied with each other"):
    tcljax.trace(function, {"image": IMAGES, "numbers": numbers})

  def affine(inputs):
    image, (size, side) = inputs["image"], inputs["numbers"]
    y = stem(image) + size[:, :, None, None] - side[:, :, None, None]
    return {"classes": jax.nn.softmax(head(y)), "maps": (y, y[:, 0])}

  network = tcljax.trace(affine, {"image": IMAGES, "numbers": numbers})
  given = {"image": jnp.ones((5, 8, 8, 3)), "numbers": (jnp.ones((5, 1)), jnp.zeros((5, 1)))}
  found, expected = network.model.apply(network.variables, given), affine(given)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  np.testing.assert_allclose(found["maps"][1], expected["maps"][1], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    jax.nn.softmax(found["classes"]), expected["classes"], rtol=1e-5, atol=1e-6
  )


def test_ordered_dictionaries_go_in_and_out_by_their_keys():
  """JAX has their leaves in the order in which they were put in, and those of plain ones sorted."""
  first, other = weights(4, 3), weights(4, 3)
  made = lambda x: jax.nn.relu(x["z"] @ first - x["a"] @ other)
  function = lambda x: collections.OrderedDict(z=made(x), a=x["a"] @ first)
  inputs = collections.OrderedDict(z=jnp.ones((5, 4)), a=2 * jnp.ones((5, 4)))
  network = tcljax.trace(function, inputs)
  found, expected = network.model.apply(network.variables, dict(inputs)), function(inputs)
  for key in ("z", "a"):
    np.testing.assert_allclose(found[key], expected[key], rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.bool_])
def test_sums_of_bytes_that_begin_anew_are_told(dtype):
  kernel = weights(4, 3)
  bytes_ = jax.ShapeDtypeStruct((1, 4), dtype)
  taken = lambda x: jax.nn.relu(x.astype(jnp.float32) @ kernel)
  tcljax.trace(taken, bytes_)
  with pytest.raises(ValueError, match=r"whole numbers made floats|applies `or`"):
    tcljax.trace(lambda x: taken(x + x), bytes_)


def shifted(y):
  """A softmax of numbers that are 0 at most, written by hand."""
  e = jnp.exp(y - y.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(
  "ending, name",
  [
    (jax.nn.softmax, "softmax"),
    (jax.nn.log_softmax, "log_softmax"),
    (jax.nn.sigmoid, "sigmoid"),
    (lambda y: jnp.exp(y) / jnp.exp(y).sum(-1, keepdims=True), "softmax"),
    (lambda y: jax.nn.softmax(y[:, None])[:, 0], "softmax"),
    (shifted, "softmax"),
    (lambda y: y - jax.nn.logsumexp(y, axis=-1, keepdims=True), "log_softmax"),
    (lambda y: 1 / (1 + jnp.exp(-y)), "sigmoid"),
  ],
)
def test_a_softmax_or_sigmoid_at_the_end_is_dropped_by_name(ending, name):
  network = tcljax.trace(lambda x: ending(head(stem(x))), IMAGES)
  dropped = {fate.detail for fate in network.operations if fate.fate == "dropped"}
  assert dropped == {name} and len(network.populations) == 1
  x = jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
  found = network.model.apply(network.variables, x)
  np.testing.assert_allclose(found, head(stem(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  "function, told",
  [
    (lambda x: jnp.tanh(head(stem(x))), "applies `tanh`"),
    (lambda x: 2 * jax.nn.sigmoid(head(stem(x))), "applies `logistic`"),
    (lambda x: 2 / (1 + jnp.exp(-head(stem(x)))), "applies `exp`"),
    (lambda x: head(stem(x)).argmax(-1), "applies `argmax`.*return the logits"),
    (lambda x: head(stem(x)) / x.shape[0], "uses the number of examples in a batch, by `div`"),
    (
      lambda x: head(stem(x)) - head(stem(x)).mean(0, keepdims=True),
      "`reduce_sum`.*answered by itself",
    ),
    (lambda x: head(stem(x))[::-1], "applies `rev`.*answered by itself"),
    (lambda x: stem(x).mean((1, 2)) @ stem(x).mean((1, 2)).T, "multiplied with each other"),
    (lambda x: head(stem(x))[:2], "uses the number of examples|applies `slice`"),
    (lambda x: (head(stem(x)), jnp.ones(3)), r"not depend on its input, outputs\[1\]: let"),
    (lambda x: [], "returns no array"),
    (lambda x: {1: head(stem(x))}, r"a dictionary with the keys \[1\]: let them be text"),
    (head, "applies no ReLU to what depends on its input: there is nothing to convert"),
    (lambda x: x.nothing, r"of shape \(2, 8, 8, 3\) \(test_trace_rules.py:\d+\): Attrib"),
    (lambda x: float(x.sum()), "cannot be traced on inputs .*: ConcretizationTypeError"),
    (lambda x: nn.LayerNorm().apply({}, stem(x)), "cannot be traced on inputs"),
    (
      lambda x: nn.LayerNorm(use_bias=False, use_scale=False).apply({}, stem(x)),
      "LayerNorm.*Layer",
    ),
    (lambda x: jnp.sort(head(stem(x))), "applies `sort`"),
    (
      lambda x: head(stem(x)) / 0.0,
      r"`div` \(test_trace_rules.py:\d+\): its constants.* be finite",
    ),
    (lambda x: conv(stem(x), SQUARE * jnp.nan), "`conv_general_dilated` .* hold NaN"),
    (lambda x: LAST[stem(x).mean((1, 2)).astype(int)[:, 0]], "whole numbers"),
    (nn.Dense(3), "cannot be traced .*: give this network to tcljax.from_flax; "),
    ("model", "function='model' must be a function of a batch of inputs"),
  ],
)
def test_what_is_no_such_network_is_told_in_one_line(function, told):
  with pytest.raises(ValueError, match=told) as raised:
    tcljax.trace(function, IMAGES)
  assert "\n" not in str(raised.value)


def test_a_function_that_is_another_for_more_examples_is_told():
  """It is the same at the numbers of examples that it is traced with, which only answers tell."""
  with pytest.raises(ValueError, match="differs from the model on random inputs, by"):
    tcljax.trace(lambda x: head(stem(x)) * (1.01 if len(x) > 4 else 1.0), IMAGES)


def test_an_operation_that_runs_otherwise_than_it_was_read_is_told(monkeypatch):
  wrong = dataclasses.replace(OPERATIONS["sum"], run=lambda x, *, axes: 1.01 * x.sum(axis=axes))
  monkeypatch.setitem(OPERATIONS, "sum", wrong)
  with pytest.raises(ValueError, match="differs from the model on random inputs, by"):
    tcljax.trace(lambda x: head(stem(x)), IMAGES)


def test_a_function_that_is_another_in_every_call_is_told():
  calls, keys, seen = iter(range(100)), [jax.random.key(0)], []

  def drawing(x):
    keys[0], key = jax.random.split(keys[0])
    return stem(x) * jax.random.bernoulli(key, 0.5, (1, 8, 8, 4))

  def keeping(x):
    seen.append(SQUARE + 1.0)
    return conv(stem(x), seen[0])

  for function in (lambda x: head(stem(x)) * (1.0 + next(calls)), drawing, keeping):
    with pytest.raises(ValueError, match="does not do the same in every call: it keeps") as told:
      tcljax.trace(function, IMAGES)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_function_that_fails_at_another_batch_size_is_told(size):
  def function(x):
    assert len(x) != size, "not so\nmany"
    return stem(x)

  with pytest.raises(
    ValueError, match=r"cannot be (traced|run) on .* \(test_trace_r.*: AssertionError: not so$"
  ):
    tcljax.trace(function, IMAGES)


@pytest.mark.parametrize(
  "example",
  [
    *(None, 3.0, (), [1.0], jnp.float32(1), "x", np.array(["x"]), jnp.ones((2, 3), complex)),
    *(jax.random.split(jax.random.key(0), 3), jnp.ones((2, 0)), {"a": IMAGES, "b": object()}),
  ],
)
def test_an_example_is_a_batch_of_numbers(example):
  told = r"^example.* (must be a batch of inputs \[B, ...\]|hold no numbers)"
  with pytest.raises(ValueError, match=told) as raised:
    tcljax.trace(stem, example)
  assert "\n" not in str(raised.value)


def test_the_table_names_each_operation_once_with_its_line():
  def function(x):
    y = jax.nn.relu(currents(x) * 2.0 + 1.0)
    jnp.sin(y)
    return jax.nn.softmax(head(nn.max_pool(y, (2, 2), (2, 2)).swapaxes(1, 2)))

  network = tcljax.trace(function, IMAGES)
  fates = [(fate.operation, fate.fate, fate.detail) for fate in network.operations]
  assert fates[:7] == [
    ("conv_general_dilated", "affine", "conv:1"),
    ("mul", "folded", "conv:1"),
    ("add", "folded", "conv:1"),
    ("max", "population", "relu"),
    ("sin", "not used", ""),
    ("reduce_window_max", "pooling", "relu"),
    ("transpose", "moved", ""),
  ]
  assert all(
    fate.source.startswith(("test_trace_rules.py:", "functions.py:")) for fate in network.operations
  )
  assert tcljax.explain(network) == tcljax.explain(function, IMAGES)


def test_the_table_goes_on_after_what_is_refused():
  table = tcljax.explain(lambda x: jnp.tanh(jnp.sin(stem(x)) + 1.0), IMAGES)
  fates = [line.split()[0::1] for line in table.splitlines()[1:]]
  assert [line[1] for line in fates] == ["affine", "population", "refused", "after", "after"]
  assert "put ReLU" in table
