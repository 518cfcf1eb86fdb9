"""The kernels for GPUs in Pallas's interpreter, against the neurons that are their reference."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tcljax import SpikingConfig, calibrate, simulate
from tcljax.kernels import blocks, fire
from tcljax.layers.collections import CLIPPING, spike_counts
from tcljax.maths.neurons import integrate
from tcljax.maths.spikes import Neuron
from tcljax.models import CNN
from tcljax.models.pooling import POOLINGS
from tests.programs import most_operands

# One block that is full, and axes that no block fits: places, channels, both, no places.
_SHAPES = [(2, 2, 4, 4, 16), (3, 2, 5, 5, 4), (2, 1, 3, 33), (2, 3, 10)]


def given(shape, dtype=jnp.float32, same=False, rest=False):
  """Currents, potentials, thresholds and charges of neurons that fire in about every other step.

  With `same` currents [1, B, ..., C], those of every step; at rest no potentials.
  """
  rng = np.random.default_rng(0)
  draw = lambda low, high, shape: jnp.asarray(rng.uniform(low, high, shape), jnp.float32)
  steps, *neurons = shape
  return (
    draw(-0.5, 1.5, (1, *neurons) if same else shape).astype(dtype),
    None if rest else draw(0, 1, neurons),
    draw(0.5, 1.5, shape[-1:]),
    draw(-0.2, 0.2, (steps, shape[-1])),
  )


def check(shape, dtype, neuron, unit, total=False, same=False, rest=False):
  """Outputs are equal to the bit, and gradients but for the order of sums."""
  arguments = given(shape, dtype, same, rest)
  runs = [  # by the kernel, and by what other platforms run
    lambda arguments, interpret=interpret: fire.fire(*arguments, neuron, unit, total, interpret)
    for interpret in (True, False)
  ]
  (found, back), (expected, expected_back) = (jax.vjp(jax.jit(run), arguments) for run in runs)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  jax.tree.map(np.testing.assert_array_equal, jax.jit(runs[0])(arguments), expected)
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)
  assert 0 < found[2].sum() < np.prod(shape)  # some fire, and not all
  if total:
    by_neuron = (found[0] != 0).sum(axis=0)
    np.testing.assert_array_equal(found[3], by_neuron)
  else:
    assert found[3] is None
  rng = np.random.default_rng(1)
  cotangents = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), found)
  for one, other in zip(
    *(jax.tree.leaves(b(cotangents)) for b in (back, expected_back)), strict=True
  ):
    assert one.dtype == other.dtype
    one, other = np.asarray(one, np.float32), np.asarray(other, np.float32)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * abs(other).max())


@pytest.mark.bits
@pytest.mark.parametrize("shape", _SHAPES, ids=str)
@pytest.mark.parametrize("total", [False, True])
def test_kernels_equal_the_neurons(shape, total):
  check(shape, jnp.float32, Neuron(), False, total)


@pytest.mark.bits
@pytest.mark.parametrize("shape", _SHAPES, ids=str)
def test_currents_that_are_the_same_in_every_step(shape):
  check(shape, jnp.float32, Neuron(), False, total=True, same=True)
  check(shape, jnp.bfloat16, Neuron("hard"), True, same=True)
  alone, *others = given(shape, same=True)
  every = jnp.repeat(alone, shape[0], axis=0)
  found, expected = (
    fire.fire(currents, *others, Neuron(), interpret=True) for currents in (alone, every)
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.bits
@pytest.mark.parametrize("shape", _SHAPES, ids=str)
def test_neurons_that_begin_at_rest(shape):
  check(shape, jnp.float32, Neuron(), False, total=True, rest=True)
  check(shape, jnp.float32, Neuron("hard"), True, same=True, rest=True)
  currents, _, tau, charges = given(shape)
  v = jnp.broadcast_to(charges[0], shape[1:])
  found, expected = (
    fire.fire(currents, *begins, Neuron(), interpret=True)
    for begins in ((None, tau, charges), (v, tau, charges.at[0].set(0.0)))
  )
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("interpret", [False, True])
def test_last_potentials_that_nobody_reads_have_no_gradient(interpret):
  """The same gradients as with zeros for them, of which the kernel is given none."""
  arguments = given((2, 2, 3, 5), rest=True)
  fired = lambda arguments: fire.fire(*arguments, Neuron(), interpret=interpret)
  unread = jax.grad(lambda arguments: fired(arguments)[0].sum())
  read = jax.grad(lambda arguments: fired(arguments)[0].sum() + 0.0 * fired(arguments)[1].sum())
  jax.tree.map(np.testing.assert_array_equal, unread(arguments), read(arguments))
  if interpret:
    # Beside these currents, thresholds, charges, and gradients to spikes and counts.
    assert most_operands("pallas_call", unread, arguments) == 5
    assert most_operands("pallas_call", read, arguments) == 6


@pytest.mark.parametrize("interpret", [False, True])
def test_gradients_of_the_last_potentials_are_those_of_the_neurons(interpret):
  currents, v, tau, charges = given((3, 2, 4, 5))
  kernel = lambda v: fire.fire(currents, v, tau, charges, Neuron(), interpret=interpret)[1].sum()
  neurons = lambda v: integrate(currents + charges[:, None, None], v, tau[None, None])[1].sum()
  found, expected = jax.grad(kernel)(v), jax.grad(neurons)(v)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
  assert abs(expected).max() > 0


@pytest.mark.parametrize(
  "reset, unit",
  [
    ("soft", True),
    ("hard", False),
    *[pytest.param(*pair, marks=pytest.mark.slow) for pair in (("soft", False), ("hard", True))],
  ],
)
def test_every_kind_of_neuron_in_either_precision(reset, unit):
  check((2, 2, 3, 5), jnp.bfloat16, Neuron(reset, "arctan", 0.7), unit, total=True)
  check((2, 2, 3, 5), jnp.float32, Neuron(reset, "rectangle"), unit)


def test_blocks_larger_than_an_example_and_smaller(monkeypatch):
  monkeypatch.setattr(blocks, "_NEURONS", 16)
  monkeypatch.setattr(blocks, "_ROWS", 4)
  check((2, 2, 9, 6), jnp.float32, Neuron(), unit=False, total=True)  # 3 x 2 blocks an example


@pytest.mark.slow
@pytest.mark.parametrize("rates", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("chunk", [2, 4])
def test_a_network_gives_the_same_with_kernels(chunk, pooling, rates, monkeypatch):
  model = CNN(num_classes=3, stages=((4,),), dense=(5,), pooling=pooling)
  images = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
  variables = model.init(jax.random.key(1), images)
  variables = calibrate(model, variables, [images], SpikingConfig(4), instalments=3)

  def run(clipping):
    done = simulate(
      model,
      {**variables, CLIPPING: clipping},
      images,
      SpikingConfig(4, chunk),
      observe=lambda chunk: (chunk.logits, spike_counts(chunk.spikes)),
      rates=rates,
    )
    return jnp.square(done.logits).sum(), done

  def run_compiled():
    anew = functools.partial(run)  # jax.jit keeps what it has traced of a function
    return jax.jit(jax.value_and_grad(anew, has_aux=True))(variables[CLIPPING])

  (_, expected), expected_gradient = run_compiled()
  calls = []

  def interpreted(*arguments, unit, total):
    calls.append((unit, total))
    assert (arguments[1] is None) == (chunk == 4)  # begins at rest
    return fire_alone(*arguments, unit=unit, total=total, interpret=True)

  fire_alone = fire.fire
  monkeypatch.setattr(fire, "fire", interpreted)
  monkeypatch.setattr(fire, "serves", lambda steps, neuron: True)
  (_, found), gradient = run_compiled()
  # One for each activation; the height of spikes is 1 where they are to gate.
  assert calls == [(pooling == "gate", rates), (False, rates)]
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, gradient, expected_gradient)


def test_potentials_are_written_in_place_unless_the_way_back_needs_them():
  run = lambda v: fire.fire(currents, v, *others, Neuron(), interpret=True)[1]
  currents, v, *others = given((2, 2, 4, 4, 16))

  def aliases(function):
    text = str(jax.make_jaxpr(function)(v))
    return re.findall(r"input_output_aliases=(\(.*?\))\n", text)

  assert aliases(run) == ["((3, 1),)"]  # the last of the inputs, the second of the outputs
  assert aliases(lambda v: jax.vjp(run, v)[0]) == ["()"]
  carried = jax.jit(lambda v: (run(v), v))(v)[1]  # who needs the first still has them
  np.testing.assert_array_equal(carried, v)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_cuda_gets_kernels_and_other_platforms_the_reference():
  arguments = given((8, 2, 5, 5, 10), jnp.bfloat16)

  def run(arguments):
    spikes, v, count, _ = fire.fire(*arguments, Neuron())
    return spikes.sum() + v.sum() + count.sum()

  traced = jax.jit(jax.value_and_grad(run)).trace(arguments)

  def kernels(platform):
    return traced.lower(lowering_platforms=(platform,)).as_text().count("xla.gpu.triton")

  try:
    assert kernels("cuda") == 2
  except RuntimeError as error:
    if "No supported GPU devices found" not in str(error):
      raise
    pytest.skip("from jax 0.11 on, Pallas writes kernels for GPUs only where there is one")
  assert kernels("cpu") == kernels("tpu") == 0


def test_kernels_serve_gpus_that_have_triton(monkeypatch):
  assert not fire.serves(8, Neuron())  # on CPUs
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

  def serves(steps, neuron=Neuron(), **attributes):
    device = type("Device", (), attributes)()
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    return fire.serves(steps, neuron)

  assert serves(8, compute_capability="9.0") and serves(32, compute_capability="10.0")
  for neuron in (Neuron(burst=2), Neuron(signed=True), Neuron(phase=2)):  # which have no kernels
    assert not serves(8, neuron, compute_capability="9.0")
  assert not serves(8, compute_capability="7.5")
  assert not serves(8, compute_capability="gfx90a")
  assert not serves(8)
  assert not serves(fire.MOST_STEPS + 1, compute_capability="9.0")
  monkeypatch.setattr(fire, "triton", None)  # as in a JAX that has it no more
  assert not serves(8, compute_capability="9.0")
