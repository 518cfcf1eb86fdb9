"""The error of firing rates: by hand, its gradient, and its part in the loss of tuning."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from running import calibrate_plainly
from small_networks import inputs

import tcljax
from tcljax.distributed import parallel
from tcljax.layers.activations import ReLU
from tcljax.training import losses, objectives
from tcljax.training.rates import with_rate_error


class Pooling(nn.Module):
  """A bounded activation and one whose maximum is taken, by spikes or currents."""

  of: str = "spikes"
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (1, 1))(x.reshape(-1, 2, 3, 1))
    x = self.act(name="first", bound=0.5)(x)
    pool = tcljax.MaxPool((2, 1), of=self.of)
    x = self.act(name="second", max_pool=pool)(nn.Conv(5, (1, 1))(x))
    return nn.Dense(3)(x.mean(axis=(1, 2)))


@pytest.fixture(scope="module", params=["spikes", "currents"])
def network(request):
  model = Pooling(of=request.param)
  variables = model.init(jax.random.key(2), inputs())
  return model, calibrate_plainly(model, variables, inputs(), method="maximum")


def error_of(model, variables, spiking, x):
  rates = tcljax.simulate(model, variables, x, spiking, rates=True).rates
  return with_rate_error(model, variables, x, rates, spiking.neuron)[1]


@pytest.mark.parametrize("neuron", [{}, {"burst": 3}, {"signed": True}, {"phase": 2}])
def test_the_error_is_the_mean_of_the_shares_of_all_activations(network, neuron):
  model, variables = network
  x, spiking = inputs(), tcljax.SpikingConfig(4, neuron=neuron)
  found = tcljax.diagnose(model, variables, x, spiking)
  assert min(one.total for one in found.values()) > 0.01
  expected = np.mean([one.total**2 for one in found.values()])
  np.testing.assert_allclose(error_of(model, variables, spiking, x), expected, rtol=1e-4)


def test_an_activation_that_is_silent_has_no_share(network):
  model, variables = network
  params = variables["params"]
  silent = {**params["Conv_1"], "bias": params["Conv_1"]["bias"] - 100}
  dead = {**variables, "params": {**params, "Conv_1": silent}}
  spiking = tcljax.SpikingConfig(4)
  of_first = tcljax.diagnose(model, dead, inputs(), spiking)["first"].total
  error, gradient = jax.value_and_grad(
    lambda c: error_of(model, {**dead, "clipping": c}, spiking, inputs())
  )(dead["clipping"])
  np.testing.assert_allclose(error, of_first**2 / 2, rtol=1e-4)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize("at", [(), (2, 4)])
def test_squared_errors_count_whatever_their_unit(network, at):
  """Outputs of 1 / 4096 of the size have squared errors far below what is nothing in nats."""
  model, variables = network
  params, shares = variables["params"], []
  for scale in (1.0, 2.0**-12):
    last = jax.tree.map(lambda a, scale=scale: a * scale, params["Dense_0"])
    given = {**variables, "params": {**params, "Dense_0": last}}
    objective = objectives.tuning_objective(
      model, lambda x, key: x, tcljax.SpikingConfig(4), parallel.data_mesh(), "squared_error", at=at
    )
    of = lambda c, given=given, objective=objective: objective(
      {**given, "clipping": c}, {"image": inputs()}, jax.random.key(0)
    )
    differentiated = jax.jit(jax.value_and_grad(of, has_aux=True))
    (loss, (metrics, _)), gradient = differentiated(given["clipping"])
    shares.append(jax.tree.map(lambda a, loss=loss: a / loss, gradient))
  assert metrics["answer_loss"] < losses.NEGLIGIBLE
  for one, other in zip(*map(jax.tree.leaves, shares), strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("done", [0.0, 0.5])
def test_the_loss_of_tuning_is_a_geometric_mean_in_which_rates_weigh_less_and_less(network, done):
  model, variables = network
  spiking, mesh = tcljax.SpikingConfig(4), parallel.data_mesh()
  batch, as_it_is = {"image": inputs()}, lambda x, key: x

  def run(make):
    objective = make(model, as_it_is, spiking, mesh)
    of = lambda c: objective({**variables, "clipping": c}, batch, jax.random.key(0), done)
    differentiated = jax.jit(jax.value_and_grad(of, has_aux=True))
    (loss, (metrics, _)), gradient = differentiated(variables["clipping"])
    return loss, metrics, gradient

  answers, _, of_answers = run(objectives.snn_objective)
  loss, metrics, gradient = run(objectives.tuning_objective)
  given, *_ = run(functools.partial(objectives.tuning_objective, teacher=model))
  np.testing.assert_allclose(given, loss, rtol=1e-5)
  error, of_rates = jax.value_and_grad(
    lambda c: error_of(model, {**variables, "clipping": c}, spiking, inputs())
  )(variables["clipping"])
  np.testing.assert_allclose(metrics["answer_loss"], answers, rtol=1e-5)
  np.testing.assert_allclose(metrics["rate_error"], error, rtol=1e-5)
  np.testing.assert_allclose(metrics["loss"], np.sqrt(answers * error), rtol=1e-5)
  rates = 0.5 * (1 - done)
  np.testing.assert_allclose(loss, answers ** (1 - rates) * error**rates, rtol=1e-5)
  expected = jax.tree.map(
    lambda a, b: loss * ((1 - rates) * a / answers + rates * b / error), of_answers, of_rates
  )
  for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
