"""The compiler's options: which are taken, and what they and the forms of our loops save."""

import functools

import jax
import jax.numpy as jnp
import pytest
from programs import temporary_bytes

import tcljax
from tcljax.kernels import xla_options

KINDS = {
  "_ON_CPUS": xla_options.saving_memory,
  "_ONCE_ON_CPUS": xla_options.compiling_quickly,
}


@pytest.fixture(params=KINDS)
def kind(request):
  KINDS[request.param].cache_clear()
  yield request.param
  KINDS[request.param].cache_clear()


def test_options_are_those_that_the_compiler_knows(kind, monkeypatch):
  options = KINDS[kind]()
  # Another one is gone from the compiler of jax 0.12.
  every = set(getattr(xla_options, kind))
  assert every - {"xla_cpu_use_fusion_emitters"} <= set(options) <= every
  for unknown in ({"xla_cpu_no_such_option": True}, {"xla_cpu_use_thunks_of_old": "no"}):
    KINDS[kind].cache_clear()
    monkeypatch.setattr(xla_options, kind, {**options, **unknown})
    assert KINDS[kind]() == options


def test_other_devices_have_none(kind, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert KINDS[kind]() == {}


@pytest.mark.compiler
def test_arrays_are_made_when_they_are_needed():
  """Twenty products that are independent of one another, each reduced at once."""

  def total(x):
    return sum(jnp.sin((x * i) @ x).sum() for i in range(1, 21))

  x = jnp.ones((128, 128))
  assert temporary_bytes(total, x, **xla_options.saving_memory()) < 3 * x.nbytes


@pytest.mark.compiler
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_gradients_of_neurons_keep_one_array(rng, reset):
  """The potentials [T, B]; beside them stand the gradients to spikes and currents."""
  currents = jnp.asarray(rng.normal(size=(8, 65536)), jnp.float32)

  @functools.partial(jax.grad, argnums=(0, 1))
  def gradients(currents, threshold):
    spikes, v = tcljax.integrate(
      currents, jnp.zeros_like(currents[0]), threshold, tcljax.Neuron(reset)
    )
    return (spikes * jnp.cos(currents)).sum() + v.sum()

  assert temporary_bytes(gradients, currents, jnp.float32(0.7)) < 3 * currents.nbytes
