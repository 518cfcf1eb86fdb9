"""The compiler's options: which are taken, and what they and the forms of our loops save."""

import functools
import os

import jax
import jax.numpy as jnp
import pytest
from programs import temporary_bytes

import tcljax
from tcljax.kernels import xla_options
from tcljax.models.resnet import ResNet

KINDS = {
  "_ON_CPUS": xla_options.saving_memory,
  "_ONCE_ON_CPUS": xla_options.compiling_quickly,
}


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_those_that_the_compiler_knows(kind, monkeypatch):
  options = KINDS[kind]()
  # Another one is gone from the compiler of jax 0.12.
  every = set(getattr(xla_options, kind))
  assert every - {"xla_cpu_use_fusion_emitters"} <= set(options) <= every
  for unknown in ({"xla_cpu_no_such_option": True}, {"xla_cpu_use_thunks_of_old": "no"}):
    monkeypatch.setattr(xla_options, kind, {**options, **unknown})
    assert KINDS[kind]() == options


@pytest.mark.parametrize("kind", KINDS)
def test_other_devices_have_none(kind, monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert KINDS[kind]() == {}


def repeating(times):
  """A loop over a matrix so many times, each after a product that keeps it from the last."""

  def program(x, w):
    for _ in range(times):
      x = w @ x
      x = jnp.tanh(2 * jnp.sin(x) + jnp.exp(x)) + x[::-1] * jnp.cos(x)
    return x

  return program, (jnp.ones((64, 64)), jnp.ones((64, 64)))


@pytest.mark.parametrize(("times", "emitters"), [(2, False), (64, True)])
def test_a_program_that_repeats_itself_writes_equal_loops_once(times, emitters, monkeypatch):
  program, arguments = repeating(times)
  taken, jit = [], jax.jit
  options = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_copy_insertion_use_region_analysis": 1}
  monkeypatch.setattr(xla_options, "saving_memory", lambda: options)
  monkeypatch.setattr(
    jax, "jit", lambda f, **settings: taken.append(settings) or jit(f, donate_argnums=0)
  )
  xla_options.Jitted(program, donate_argnums=0).lower(*arguments)
  left = set(options) - ({"xla_cpu_use_fusion_emitters"} if emitters else set())
  assert set(taken[-1]["compiler_options"]) == left
  assert all(settings["donate_argnums"] == 0 for settings in taken)


def test_a_function_is_traced_once_and_gives_what_it_returns():
  program, arguments = repeating(2)
  traces = []
  jitted = xla_options.Jitted(lambda *args: traces.append(args) or program(*args))
  for _ in range(2):
    assert jnp.allclose(jitted(*arguments), program(*arguments))
  assert len(traces) == 1


def test_operations_in_loops_and_branches_count():
  def program(x):
    x = jax.lax.fori_loop(0, 3, lambda i, x: jnp.sin(jnp.sin(x)), x)
    return jax.lax.cond(x.sum() > 0, jnp.cos, jax.checkpoint(jnp.tan), x)

  names = [name for name, *_ in xla_options._operations(jax.make_jaxpr(program)(jnp.ones(3)).jaxpr)]
  assert names.count("sin") == 2
  assert {"cos", "tan"} <= set(names)


def test_a_deeper_network_has_no_more_operations_that_differ():
  """Only so does what is written once not grow with depth."""

  def differing(blocks):
    model = ResNet(num_classes=3, blocks=(blocks,) * 2, widths=(2, 4), act=tcljax.TCL)
    x = jnp.ones((2, 8, 8, 3))
    variables = model.init(jax.random.key(0), x)

    def loss(clipping):
      spiking = tcljax.SpikingConfig(4, 2)
      return tcljax.simulate(model, {**variables, "clipping": clipping}, x, spiking).logits.sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(variables["clipping"]).jaxpr
    return set(xla_options._operations(jaxpr)), xla_options.repeats(jaxpr)

  few, times = differing(2)
  many, more = differing(4)
  assert few == many
  assert more > 1.5 * times


@pytest.mark.compiler
@pytest.mark.skipif(
  "xla_cpu_use_fusion_emitters=false" in os.environ.get("XLA_FLAGS", ""),
  reason="the compiler is told to write every loop by itself",
)
def test_equal_loops_are_written_once(tmp_path, monkeypatch):
  program, arguments = repeating(64)
  if "xla_cpu_use_fusion_emitters" not in xla_options.saving_memory():
    pytest.skip("this compiler has one way to write loops")
  options = {"xla_cpu_use_fusion_emitters": False, "xla_dump_to": str(tmp_path)}
  monkeypatch.setattr(xla_options, "saving_memory", lambda: options)
  xla_options.Jitted(program).lower(*arguments).compile()
  assert 1 <= len(list(tmp_path.glob("*.o"))) <= 4


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
