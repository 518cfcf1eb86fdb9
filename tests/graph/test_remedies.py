"""What spikes cannot carry is named, with what to do about it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import tcljax
from tcljax.graph import trace
from tcljax.layers.activations import ReLU


@pytest.mark.parametrize(
  "operation, message",
  [
    (nn.relu, r"`max`.*: write self.act\(name=...\)\(x\) in place of .*nn.relu"),
    (nn.relu6, r"`max`.*: write self.act\(name=...\)\(x\) in place of .*nn.relu6"),
    (lambda x: jnp.maximum(x, 0), r"`max`.*: write self.act.* in place of .*jnp.maximum\(x, 0\)"),
    (lambda x: jnp.maximum(x, -x), "`max`.*two branches"),
    (lambda x: jnp.minimum(x, 6), "`min`.*: write self.act.* in place of what clips from above"),
    (nn.leaky_relu, "`ge`.*: neurons compute .*in place of LeakyReLU"),
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
    (lambda x: jnp.einsum("bij,ik->bkj", x[:, :, None], jnp.ones((4, 2))), "in place of nn.DenseG"),
    (lambda x: x[:, jnp.array([2, 0])], "`gather`.*by slices"),
    (lambda x: jnp.repeat(x, 2, axis=1), "`(broadcast_in_dim|gather)`"),
    (lambda x: jnp.round(x), "`round`.*whole numbers"),
    (lambda x: x @ x.T, "each example is to be answered by itself"),
    (lambda x: x.reshape(-1), "`reshape`"),
    (lambda x: x + jnp.arange(2.0)[:, None], "`add`"),
    (lambda x: jax.lax.fori_loop(0, 3, lambda i, y: 0.5 * y, x), "`scan`"),
    (lambda x: jax.lax.scan(lambda c, _: (0.5 * c, None), x, None, length=3)[0], "`scan`"),
    (
      lambda x: nn.pool(x[:, :, None], 0.0, lambda a, b: a + b, (2,), (2,), "VALID"),
      "`reduce_window`",
    ),
    (lambda x: jnp.pad(x, ((0, 0), (1, 1)), constant_values=2.0), "`pad`"),
    (lambda x: jnp.pad(x, ((1, 1), (0, 0)))[1:-1], "`pad`"),
    (lambda x: x[:1] + x[1:], "`slice`"),
    (lambda x: jnp.concatenate([x, x])[:2], "`concatenate`"),
    (lambda x: jnp.concatenate([x, jnp.ones((2, 1))], axis=1), "`concatenate`"),
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
    trace(Bad(), Bad().init(jax.random.key(0), x), (3,))


@pytest.mark.parametrize(
  "make, message",
  [
    (nn.LayerNorm, "in .*LayerNorm_0: spikes cannot be multiplied .*BatchNorm.* LayerNorm"),
    (lambda: nn.GroupNorm(2), "in .*GroupNorm_0: spikes cannot be multiplied .*GroupNorm"),
    (lambda: nn.BatchNorm(use_running_average=False), "use_running_average=True .*BatchNorm_0"),
    (lambda: nn.PReLU(), "`ge` in .*PReLU_0: .*in place of LeakyReLU, PReLU"),
    (lambda: nn.DenseGeneral(3, axis=(1, 2)), "`dot_general` in .*nn.Dense in place of nn.DenseG"),
    (lambda: nn.leaky_relu, "`ge` in .*in place of LeakyReLU"),
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
  with pytest.raises(ValueError, match=r"in .*LayerNorm_0: spikes cannot be multiplied"):
    tcljax.tune(Normalized(), variables, x, [0] * 8, steps=1, batch_size=8)
