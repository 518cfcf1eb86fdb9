"""What no graph can hold is refused when a model is traced, with the place and what to do."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from graphs import Function, randomized
from running import UsedTwice

import tcljax
from tcljax.graph import trace_model
from tcljax.layers.activations import TCL, ReLU


def test_an_activation_of_a_constant_is_told():
  class Constant(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return x + self.act(name="a")(jnp.ones((1, 3)))

  with pytest.raises(ValueError, match="activation 'a' does not depend on the input"):
    trace_model(Constant(), {}, (3,))


def test_an_activation_used_twice_is_told():
  with pytest.raises(ValueError, match="activation 'neurons' is used twice"):
    trace_model(UsedTwice(), {}, (3,))
  model = UsedTwice(act=functools.partial(TCL))
  variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
  with pytest.raises(ValueError, match="activation 'neurons' is used twice"):
    tcljax.simulate(model, variables, jnp.ones((1, 3)), tcljax.SpikingConfig())


@pytest.mark.parametrize(
  "function, where",
  [
    (lambda x: x / x.shape[0], "by `div` in Function"),
    (lambda x: x + len(x), "by `add` in Function"),
    (lambda x: x * jnp.arange(float(len(x))).sum(), "by `mul` in Function"),
    (lambda x: x @ jnp.full((4, 3), 1.0 / x.shape[0]), "by `dot_general` in Function"),
    (lambda x: jnp.pad(x, ((0, 0), (0, len(x)))), "by `pad` in Function"),
    (lambda x: x if len(x) % 2 else 2.0 * x, "in Function"),
    (lambda x: x if len(x) == 2 else -x, "in Function"),
  ],
)
def test_a_model_that_uses_the_number_of_examples_is_refused(function, where):
  model = Function(function)
  variables = model.init(jax.random.key(0), jnp.ones((2, 3)))
  with pytest.raises(ValueError, match=f"number of examples in a batch, {where}|{where}"):
    trace_model(model, variables, (3,))


def test_a_model_of_one_number_of_examples_alone_is_refused():
  variables = Function(lambda x: x).init(jax.random.key(0), jnp.ones((2, 3)))
  for model in (Function(lambda x: x.reshape(2, 2, 2)), Function(lambda x: x.reshape(5, 2, 2))):
    with pytest.raises(ValueError, match=r"cannot be run on . inputs of .*reshape"):
      trace_model(model, variables, (3,))


class Scalars(nn.Module):
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return nn.Dense(2)(self.act(name="a")(nn.Dense(4)(x).sum(axis=-1))[:, None])


def test_neurons_without_an_axis_of_channels_are_refused_at_every_door():
  x = np.ones((5, 3), np.float32)
  variables = Scalars().init(jax.random.key(0), x)
  for door in (
    lambda: tcljax.calibrate(Scalars(), variables, [x]),
    lambda: tcljax.calibrate(Scalars(), variables, [x], per_channel=False),
    lambda: trace_model(Scalars(), variables, (3,)),
  ):
    with pytest.raises(ValueError, match=r"'a' is applied to an array of shape \[batch\]: neurons"):
      door()


@pytest.mark.parametrize(
  "function, message",
  [
    (lambda x: [], "returns no array: let it return one"),
    (lambda x: {0: x}, r"returns a dictionary with the keys \[0\]: let them be text"),
    (
      lambda x: jnp.ones((len(x), 2)),
      "returns what does not depend on its input",
    ),
    (lambda x: nn.Dropout(0.5, deterministic=False)(x), "InvalidRngError.* deterministic=True$"),
    (lambda x: (lambda x, train: x)(x), "argument: 'train'; model.x. must run it for inference"),
    (
      lambda x: x.nothing,
      "AttributeError: .* has no attribute .?nothing.?$",
    ),
  ],
)
def test_what_is_no_function_of_inputs_to_outputs_is_refused(function, message):
  model = Function(function)
  variables = Function(lambda x: x).init(jax.random.key(0), jnp.ones((2, 3)))
  with pytest.raises(ValueError, match=message) as told:
    trace_model(model, variables, (3,))
  assert "\n" not in str(told.value)


def test_layers_in_a_scan_are_refused_by_name():
  class Block(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x, _):
      return self.act(name="a")(nn.Dense(4)(x)), None

  class Scanned(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      axes = {"params": 0, "clipping": 0}
      blocks = nn.scan(Block, axes, split_rngs={"params": True}, length=3)(act=self.act)
      return nn.Dense(2)(blocks(x, None)[0])

  x = jnp.ones((3, 4))
  variables = Scanned().init(jax.random.key(0), x)
  with pytest.raises(
    ValueError,
    match=r"'ScanBlock_0.a' is used twice: .* of its own, in a loop of Python in place of nn.scan",
  ):
    tcljax.calibrate(Scanned(), variables, [x])


def test_names_that_a_graph_cannot_hold_are_told_at_once(rng):
  for name in ("conv:2", "input:0", "x/y", "a\nb", "a" * 300):

    class Named(nn.Module):
      act: object = ReLU

      @nn.compact
      def __call__(self, x, name=name):
        return nn.Dense(2)(self.act(name=name)(nn.Dense(4)(x)))

    x = rng.normal(size=(3, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="has a name that no network can hold"):
      tcljax.calibrate(Named(), randomized(Named(act=lambda name: nn.relu), x), [x])
