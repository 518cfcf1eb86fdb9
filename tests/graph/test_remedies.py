"""What spikes cannot carry is named, with what to do about it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import tcljax
from tcljax.graph import trace_model
from tcljax.layers.activations import ReLU


@pytest.mark.parametrize(
  "operation, message",
  [
    (nn.relu, r"`max`.*: write self.act\(name=...\)\(x\) in place of .*nn.relu"),
    (nn.relu6, r"`max`.*: write self.act\(name=...\)\(x\) in place of .*nn.relu6"),
    (lambda x: jnp.maximum(x, 0), r"`max`.*: write self.act.* in place of .*jnp.maximum\(x, 0\)"),
    (lambda x: jnp.maximum(x, -x), "`max`.*two branches"),
    (lambda x: jnp.minimum(x, 6), "`min`.*: write self.act.* in place of what clips from above"),
    (nn.leaky_relu, "`ge`.*: neurons compute .*LeakyReLU and PReLU are read by tcljax.trace"),
    (nn.gelu, "`(integer_pow|mul)`.*(in place of GELU|multiplied with each other)"),
    (nn.silu, "`logistic`.*: neurons compute .*SiLU"),
    (nn.softmax, "`reduce_max`.*: leave a softmax at the end out"),
    (lambda x: x.max(axis=1), "`reduce_max`.*: leave a softmax"),
    (lambda x: x.argmax(axis=-1), "`argmax`.*return the logits themselves"),
    (nn.sigmoid, "`logistic`.*leave a softmax or sigmoid at the end out"),
    (lambda x: nn.max_pool(x[:, :, None, None], (2, 1)), "`reduce_window_max`.*: use average"),
    (jnp.square, "`square`.*: spikes cannot be multiplied with each other: take BatchNorm"),
    (lambda x: x * x, "`mul`.*in place of LayerNorm"),
    (jnp.exp, "`exp`"),
    (lambda x: x - x.mean(axis=0, keepdims=True), "`reduce_sum`.*use_running_average=True"),
    (lambda x: jnp.einsum("bi,bj->bij", x, x), "`dot_general`.*attention"),
    (lambda x: jnp.arange(3.0)[x[:, 0].astype(int)], "`convert_element_type`.*whole numbers"),
    (jnp.sort, "`sort`.*nor sort anything"),
    (lambda x: jnp.round(x), "`round`.*whole numbers"),
    (lambda x: x @ x.T, "`dot_general`.*multiplied with each other"),
    (lambda x: x.T @ jnp.ones((len(x), 3)), "`dot_general`.*summed over no examples"),
    (lambda x: x.reshape(-1), "whose first axis is not the batch"),
    (lambda x: x + jnp.arange(2.0)[:, None], "`add`"),
    (
      lambda x: jax.lax.while_loop(lambda y: y.sum() < 9.0, lambda y: y + 1.0, x),
      "`while`.*a number of times that does not depend on the input",
    ),
    (lambda x: jax.lax.scan(lambda c, _: (c, c), x, None, length=2000)[1], "`scan`.*some hundred"),
    (
      lambda x: nn.pool(x[:, :, None], 0.0, lambda a, b: a + b, (2,), (2,), "VALID"),
      "`reduce_window`",
    ),
    (lambda x: jnp.pad(x, ((1, 1), (0, 0)))[1:-1], "`pad`"),
    (lambda x: x[:1] + x[1:], "`slice`"),
    (lambda x: jnp.concatenate([x, x])[:2], "`concatenate`"),
    (lambda x: jnp.concatenate([x, x[:1]])[:2], "`slice`|`concatenate`"),
  ],
)
def test_what_spikes_cannot_carry_is_named(operation, message):
  class Bad(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return operation(self.act(name="a")(nn.Dense(4)(x)))

  x = jnp.ones((2, 3))
  with pytest.raises(ValueError, match=message):
    trace_model(Bad(), Bad().init(jax.random.key(0), x), (3,))


@pytest.mark.parametrize(
  "make, message",
  [
    (nn.LayerNorm, "in .*LayerNorm_0.*: spikes cannot be multiplied .*BatchNorm.* LayerNorm"),
    (lambda: nn.GroupNorm(2), "in .*GroupNorm_0.*: spikes cannot be multiplied .*GroupNorm"),
    (
      lambda: nn.BatchNorm(use_running_average=False),
      "BatchNorm_0.*train be False by default, .* use_running_average=True",
    ),
    (lambda: nn.PReLU(), "`ge` in .*PReLU_0.*: .*LeakyReLU and PReLU are read by tcljax.trace"),
    (lambda: nn.DenseGeneral(3, axis=(1, 2)), None),
    (lambda: nn.leaky_relu, "`ge` in .*LeakyReLU"),
    (lambda: lambda x: nn.max_pool(x, (2,), (2,)), "`reduce_window_max` in .*give maximum pooling"),
    (lambda: nn.Dropout(0.5, deterministic=True), None),
  ],
)
def test_calibrate_refuses_what_convert_would(make, message):
  class Layered(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      x = self.act(name="a")(nn.Conv(4, (3,))(x))
      return make()(x)

  x = jax.random.normal(jax.random.key(0), (2, 6, 3))
  variables = Layered().init(jax.random.key(0), x)
  if message is None:
    assert "clipping" in tcljax.calibrate(Layered(), variables, [x])
    return
  with pytest.raises(ValueError, match=message):
    tcljax.calibrate(Layered(), variables, [x])


def test_tune_refuses_it_too_with_thresholds_that_come_from_elsewhere():
  class Normalized(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return nn.Dense(3)(nn.LayerNorm()(self.act(name="a")(nn.Dense(4)(x))))

  x = jnp.ones((8, 3))
  variables = Normalized(act=tcljax.TCL).init(jax.random.key(0), x)
  with pytest.raises(ValueError, match=r"in .*LayerNorm_0.*: spikes cannot be multiplied"):
    tcljax.tune(Normalized(), variables, x, [0] * 8, steps=1, batch_size=8)


class Block(nn.Module):
  width: int = 4
  act: object = ReLU

  @nn.compact
  def __call__(self, x):
    return self.act(name="a")(nn.Dense(self.width)(x))


def in_a_model(wrapped):
  """A model that calls `wrapped(act, x)` on vectors of 8 numbers."""

  class Wrapping(nn.Module):
    act: object = ReLU

    @nn.compact
    def __call__(self, x):
      return nn.Dense(3)(wrapped(self.act, x).reshape(len(x), -1))

  model, x = Wrapping(), jax.random.normal(jax.random.key(0), (5, 8))
  return model, model.init(jax.random.key(1), x), x


def halves(x):
  return x.reshape(len(x), 2, 4)


AXIS_1 = {"in_axes": 1, "out_axes": 1}
COPIES = {"variable_axes": {"params": 0, "clipping": 0}, "split_rngs": {"params": True}}
SHARED = {"variable_axes": {"params": None, "clipping": None}, "split_rngs": {"params": False}}


@pytest.mark.parametrize(
  "wrapped, where",
  [
    (
      lambda act, x: nn.vmap(Block, **AXIS_1, **COPIES)(act=act, name="b")(halves(x)),
      "'b/a' is appl",
    ),
    (
      lambda act, x: nn.vmap(Block, **AXIS_1, **SHARED)(act=act, name="b")(halves(x)),
      "'b/a' is appl",
    ),
    (lambda act, x: nn.vmap(Block, **SHARED)(act=act, name="b")(x), "'b/a' is applied insid"),
  ],
)
def test_of_vmap_what_to_write_is_told(wrapped, where):
  model, variables, x = in_a_model(wrapped)
  with pytest.raises(
    ValueError, match=f"{where}.*: leave nn.vmap and jax.vmap out around activations"
  ) as (raised):
    tcljax.calibrate(model, variables, [x])
  assert "\n" not in str(raised.value)


def test_within_vmap_too_an_activation_of_another_kind_is_told():
  squashed = lambda act, x: jax.vmap(jnp.tanh)(act(name="a")(nn.Dense(4)(x)))
  model, variables, x = in_a_model(squashed)
  with pytest.raises(ValueError, match=r"`tanh` in .*vmap.*: neurons compute max\(x, 0\)"):
    tcljax.calibrate(model, variables, [x])


@pytest.mark.parametrize(
  "wrapped",
  [
    # What is advised in place of vmap.
    lambda act, x: jnp.concatenate(
      [act(name=f"a{i}")(nn.Dense(4, name=f"d{i}")(halves(x)[:, i])) for i in range(2)], axis=-1
    ),
    lambda act, x: act(name="a")(nn.Dense(4)(halves(x))),
    lambda act, x: act(name="a")(nn.Conv(8, (1,), feature_group_count=2)(x.reshape(len(x), 1, 8))),
    # What runs as it stands.
    lambda act, x: act(name="a")(nn.vmap(nn.Dense, **AXIS_1, **COPIES)(4)(halves(x))),
    lambda act, x: act(name="a")(nn.vmap(nn.Dense, **AXIS_1, **SHARED)(4)(halves(x))),
    lambda act, x: act(name="a")(jax.vmap(lambda one: jnp.ones((4, 8)) @ one)(x)),
    lambda act, x: nn.remat(Block)(act=act, name="b")(x),
    lambda act, x: nn.remat(act)(name="a")(nn.Dense(4)(x)),
    lambda act, x: nn.jit(Block)(act=act, name="b")(x),
    lambda act, x: act(name="a")(jax.jit(lambda y: 2 * y)(nn.Dense(4)(x))),
    lambda act, x: act(name="a")(jax.checkpoint(lambda y: 2 * y)(nn.Dense(4)(x))),
    lambda act, x: act(name="a")(jax.vmap(lambda y: 2 * y)(nn.Dense(4)(x))),
    lambda act, x: act(name="a")(checkpoint_name(nn.Dense(4)(x), "kept")),
    lambda act, x: act(name="a")(jax.device_put(nn.Dense(4)(x))),
    lambda act, x: act(name="a")(jax.lax.optimization_barrier(nn.Dense(4)(x))),
  ],
)
def test_what_is_advised_or_said_to_run_converts(wrapped):
  model, variables, x = in_a_model(wrapped)
  variables = tcljax.calibrate(model, variables, [x])
  network = tcljax.convert(model, variables, (8,))
  expected = tcljax.simulate(model, variables, x, network.spiking).logits
  assert jnp.allclose(network(x), expected, atol=1e-5)
