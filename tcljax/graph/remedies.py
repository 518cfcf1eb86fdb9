"""What users are told whose models do what a graph cannot hold: for each JAX primitive, what to do.

A primitive may be refused for several reasons; its inputs and parameters tell them apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tcljax.graph.record import Symbol

_OTHERS = (
  "between two activations convert can read convolutions, products with weights, sums, scalings, "
  "BatchNorm, average pooling and reshapes, each example by itself"
)
_EXAMPLES = (
  "each example is to be answered by itself: keep the batch as the first axis, and neither sum, "
  "cut nor mix it; call BatchNorm with use_running_average=True"
)
_RELU = (
  "write self.act(name=...)(x) in place of what clips at zero (nn.relu, nn.relu6, jnp.maximum(x, "
  "0)), and pass act=self.act on to inner modules; its threshold is an upper bound too"
)
_BOUND = (
  "write self.act(name=...)(x) in place of what clips from above (nn.relu6, nn.hard_tanh, "
  "jnp.clip): its threshold is the upper bound"
)
_OTHER_ACTIVATION = (
  "neurons compute max(x, 0): write self.act(name=...)(x) in place of LeakyReLU, PReLU, ELU, "
  "hard_swish or a choice by jnp.where, and train the network so"
)
_CURVED = (
  "neurons compute max(x, 0): write self.act(name=...)(x) in place of GELU, SiLU, softplus, "
  "sigmoid or tanh, and train the network so; leave a softmax or sigmoid at the end out, as the "
  "largest logit is the answer without it"
)
_SOFTMAX = (
  "leave a softmax at the end out, as the largest logit is the answer without it; within the "
  "network, as in attention, spikes cannot compute it"
)
_LOGITS = "return the logits themselves, of which the largest is taken afterwards"
_DEBUGGING = "leave jax.debug.print and jax.debug.callback of activations out"
_STATISTICS = (
  "spikes cannot be multiplied with each other: take BatchNorm, whose statistics are constants, "
  "in place of LayerNorm, GroupNorm and others of the input itself; leave out attention and gates"
)
_MAXIMUM = (
  "use average pooling, or give maximum pooling to the activation before or after it, "
  "self.act(name=..., max_pool=tcljax.MaxPool(2))(x), which is the same network"
)
_TWO_BRANCHES = (
  "spikes cannot carry a maximum of two branches: add or concatenate them, and train the network so"
)
_LOOP = (
  "write its layers out by a loop of Python, each activation with a name of its own, in place of "
  "nn.scan, jax.lax.scan, while_loop or cond"
)
VMAP = (
  "leave nn.vmap and jax.vmap out: layers and activations take the whole batch, nn.Dense the last "
  "axis of any array, nn.Conv all pixels; in place of copies with weights of their own, write a "
  "loop of Python over named layers and jnp.concatenate what they make, or use nn.Conv with "
  "feature_group_count (nn.remat and nn.jit may stay)"
)
_INDEXING = (
  "take parts of an example by slices, x[:, a:b], in place of indices; what depends on the input "
  "cannot be an index"
)
_PRODUCT = (
  "a kernel [in, out] that sums over the last axis alone is read: flatten first, "
  "x.reshape(len(x), -1), and use nn.Dense in place of nn.DenseGeneral or jnp.einsum over other "
  "axes, nn.ConvTranspose in place of jax.image.resize"
)
_CONVOLUTION = (
  "convolutions of images with channels last and of constant kernels [height, width, in, out] are "
  "read, those of nn.Conv"
)
_PADDING = "pad with zeros, and not along the batch"
_CONSTANT_PART = "join parts that depend on the input; in place of a constant one, pad with zeros"
_REPEATING = (
  "write jnp.concatenate([x, x], axis=...) in place of jnp.repeat, jnp.tile or broadcasts"
)
_WHOLE_NUMBERS = "neurons carry no whole numbers or truth values: leave rounding and casts out"

_BY_NAME = {
  **dict.fromkeys(("exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "erf"), _CURVED),
  **dict.fromkeys(("erfc", "pow", "cbrt", "sin", "cos", "tan", "atan2"), _CURVED),
  **dict.fromkeys(("square", "sqrt", "rsqrt"), _STATISTICS),
  **dict.fromkeys(
    ("gt", "ge", "lt", "le", "eq", "ne", "select_n", "abs", "sign"), _OTHER_ACTIVATION
  ),
  **dict.fromkeys(("min", "clamp"), _BOUND),
  **dict.fromkeys(("reduce_window_max", "cummax"), _MAXIMUM),
  **dict.fromkeys(("scan", "while", "cond"), _LOOP),
  **dict.fromkeys(("gather", "dynamic_slice", "scatter", "sort", "top_k"), _INDEXING),
  **dict.fromkeys(("round", "floor", "ceil", "convert_element_type"), _WHOLE_NUMBERS),
  **dict.fromkeys(("slice", "transpose", "reshape", "squeeze"), _EXAMPLES),
  "reduce_sum": _EXAMPLES,
  "argmax": _LOGITS,
  **dict.fromkeys(("debug_print", "debug_callback"), _DEBUGGING),
  "conv_general_dilated": _CONVOLUTION,
  "broadcast_in_dim": _REPEATING,
}

# What is said of shapes and axes, which vmap changes.
_OF_AXES = (_EXAMPLES, _PRODUCT, _CONVOLUTION, _REPEATING, _INDEXING)


def remedy(
  primitive: str,
  inputs: Sequence[Any] = (),
  params: Mapping[str, Any] | None = None,
  place: str = "",
) -> str:
  """What a user can do whose model applies this primitive where it cannot be read.

  Args:
    primitive: its name.
    inputs: symbols and constants that it was applied to.
    params: its parameters.
    place: where in the model, names joined by slashes.
  """
  found = _remedy(primitive, inputs, params or {})
  return VMAP if "vmap(" in place and found in _OF_AXES else found


def _remedy(primitive: str, inputs: Sequence[Any], params: Mapping[str, Any]) -> str:
  several = sum(isinstance(value, Symbol) for value in inputs) > 1
  match primitive:
    case "max":
      return _TWO_BRANCHES if several else _RELU
    case "mul" | "div":
      return _STATISTICS if several or primitive == "div" else _EXAMPLES
    case "integer_pow":
      return _STATISTICS if params["y"] == 2 else _CURVED
    case "add" | "sub":
      return _EXAMPLES
    case "dot_general":
      return _STATISTICS if several else _PRODUCT
    case "reduce_max":  # over the channels it is no pooling
      return _SOFTMAX if inputs[0].ndim - 1 in params["axes"] else _MAXIMUM
    case "pad":
      return _PADDING
    case "concatenate":
      return _CONSTANT_PART if params["dimension"] else _EXAMPLES
  return _BY_NAME.get(primitive, _OTHERS)
