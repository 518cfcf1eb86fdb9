"""`convolve` against `jax.lax.conv_general_dilated`: values, gradients, and which way is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import primitives

import tcljax
from tcljax.graph import trace_model
from tcljax.kernels import convolution

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _operands(image, window, seed=0):
  rng = np.random.default_rng(seed)
  return (
    jnp.asarray(rng.normal(size=(3, *image, 4)), jnp.float32),
    jnp.asarray(rng.normal(size=(*window, 4, 5)), jnp.float32),
  )


@pytest.mark.parametrize(
  ("image", "window", "strides", "padding"),
  [
    ((1, 1), (3, 3), (1, 1), "SAME"),
    ((2, 2), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 2), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((4, 4), (3, 3), (2, 2), "SAME"),
    ((1, 5), (2, 3), (1, 2), "SAME"),
    ((5, 1), (2, 3), (2, 1), ((0, 3), (2, 0))),
    ((4, 4), (5, 5), (1, 1), "SAME"),
    ((3, 3), (3, 3), (1, 1), "VALID"),
    ((2, 2), (3, 3), (1, 1), "VALID"),  # no output at all
    ((1, 1), (2, 2), (3, 3), ((2, 2), (2, 2))),  # windows that see padding alone
    ((3, 3), (2, 3), (1, 1), ((-1, 1), (1, 0))),
    ((3, 3), (1, 1), (2, 2), "SAME"),
    ((8, 8), (3, 3), (1, 1), "SAME"),
    ((8, 7), (3, 3), (2, 2), "SAME"),
    ((9, 8), (2, 3), (3, 2), "SAME"),
    ((8, 9), (3, 2), (2, 3), "VALID"),
    ((7, 8), (3, 3), (1, 2), ((4, 0), (-1, 3))),
  ],
)
def test_values_and_gradients_are_those_of_lax(image, window, strides, padding):
  x, kernel = _operands(image, window)

  def run(convolve):
    @jax.jit
    def value_and_gradients(x, kernel):
      y, pull = jax.vjp(
        lambda x, kernel: convolve(x, kernel, strides, padding, dimension_numbers=_LAYOUT),
        x,
        kernel,
      )
      return y, *pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return value_and_gradients(x, kernel)

  for ours, theirs in zip(run(tcljax.convolve), run(jax.lax.conv_general_dilated), strict=True):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
  ("image", "strides", "product"),
  [
    ((2, 2), (1, 1), True),
    ((2, 4), (1, 1), True),
    ((3, 3), (1, 1), False),
    ((4, 4), (2, 2), True),  # its gradient has the four pixels of the output
    ((8, 8), (2, 2), False),
  ],
)
def test_the_product_is_taken_where_pixels_are_fewer_than_the_kernel_has(image, strides, product):
  def f(x, kernel):
    return tcljax.convolve(x, kernel, strides, "SAME", dimension_numbers=_LAYOUT)

  operands = _operands(image, (3, 3))
  found = primitives(f, *operands)
  assert ("dot_general" in found, "conv_general_dilated" in found) == (product, not product)
  gradient = primitives(lambda x, k: jax.vjp(f, x, k)[1](f(x, k)), *operands)
  assert ("conv_general_dilated" in gradient) != product


def test_only_the_middle_of_a_kernel_meets_a_single_pixel():
  x, kernel = _operands((1, 1), (3, 3))
  jaxpr = jax.make_jaxpr(
    lambda x, k: tcljax.convolve(x, k, (1, 1), "SAME", dimension_numbers=_LAYOUT)
  )(x, kernel)
  (product,) = (eqn for eqn in jaxpr.eqns if str(eqn.primitive) == "dot_general")
  assert product.invars[1].aval.shape == (4, 5)


@pytest.mark.parametrize(
  "settings",
  [
    {"dimension_numbers": None},
    {"dimension_numbers": _LAYOUT, "feature_group_count": 2},
    {"dimension_numbers": _LAYOUT, "rhs_dilation": (2, 2)},
  ],
)
def test_all_else_is_left_to_lax(settings):
  x, kernel = _operands((2, 2), (3, 3))
  if settings["dimension_numbers"] is None:
    x, kernel = x.transpose(0, 3, 1, 2), kernel.transpose(3, 2, 0, 1)
  kernel = kernel[:, :, :2, :4] if "feature_group_count" in settings else kernel
  f = lambda convolve: convolve(x, kernel, (1, 1), "SAME", **settings)
  np.testing.assert_array_equal(f(tcljax.convolve), f(jax.lax.conv_general_dilated))
  assert "conv_general_dilated" in primitives(lambda: f(tcljax.convolve))


def test_other_devices_get_the_convolution(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  x, kernel = _operands((2, 2), (3, 3))
  found = primitives(
    lambda x, k: tcljax.convolve(x, k, (1, 1), "SAME", dimension_numbers=_LAYOUT), x, kernel
  )
  assert "conv_general_dilated" in found


def test_a_precision_for_each_operand_may_be_a_list():
  numbers = _LAYOUT
  given = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4)), (1, 1), "SAME"
  expected = tcljax.convolve(*given, dimension_numbers=numbers)
  found = tcljax.convolve(*given, dimension_numbers=numbers, precision=["highest", "highest"])
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_precision_and_type_reach_the_product():
  x, kernel = (a.astype(jnp.bfloat16) for a in _operands((2, 2), (3, 3)))
  jaxpr = jax.make_jaxpr(
    lambda x, k: tcljax.convolve(
      x,
      k,
      (1, 1),
      "SAME",
      dimension_numbers=_LAYOUT,
      precision=jax.lax.Precision.HIGHEST,
      preferred_element_type=jnp.float32,
    )
  )(x, kernel)
  (product,) = (eqn for eqn in jaxpr.eqns if str(eqn.primitive) == "dot_general")
  assert product.outvars[0].aval.dtype == jnp.float32
  assert product.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2


def test_a_traced_network_keeps_its_convolutions():
  model = tcljax.create_model("cnn", 10)
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
  apply = jax.make_jaxpr(lambda x: model.apply(variables, x))(jnp.zeros((2, 4, 4, 3)))
  counts = [str(eqn.primitive) for eqn in apply.eqns].count("conv_general_dilated")
  graph, _ = trace_model(model, variables, (4, 4, 3))
  assert [node.op for node in graph.nodes].count("conv") == 4 > counts
  assert not convolution._as_written.get()


def test_layers_of_the_same_shapes_are_traced_once():
  x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 3))
  layer = lambda x: tcljax.convolve(x, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT)
  inner = [eqn.params.get("jaxpr") for eqn in jax.make_jaxpr(lambda x: layer(layer(x)))(x).eqns]
  first, second = [program for program in inner if program is not None]
  assert first is second
