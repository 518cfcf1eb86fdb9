"""What users are told whose models do what a graph cannot hold: for each JAX primitive, what to do.

A primitive may be refused for several reasons; its inputs and parameters tell them apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tcljax.graph.layout import Symbol

_OTHERS = (
  "between two activations convert can read whatever is affine: convolutions, products with "
  "weights, sums, scalings, BatchNorm, average pooling and all that moves numbers, each example by "
  "itself"
)
_EXAMPLES = (
  "each example is to be answered by itself: keep the batch apart from other axes, and neither "
  "sum, cut nor mix it; call BatchNorm with use_running_average=True"
)
_RELU = (
  "write self.act(name=...)(x) in place of what clips at zero (nn.relu, nn.relu6, jnp.maximum(x, "
  "0)), and pass act=self.act on to inner modules; its threshold is an upper bound too; or give "
  "tcljax.trace a model without a field act, which puts neurons there itself"
)
_BOUND = (
  "write self.act(name=..., bound=6.0)(x) in place of what clips from above (nn.relu6, "
  "nn.hard_tanh, jnp.clip), or give tcljax.trace a model without a field act, which does so itself"
)
_OTHER_ACTIVATION = (
  "neurons compute max(x, 0): put ReLU in place of ELU, hard_swish or another choice by jnp.where, "
  "and train the network so; LeakyReLU and PReLU are read by tcljax.trace, of a model without act"
)
_CURVED = (
  "neurons compute max(x, 0): put ReLU (or self.act of a model with a field act) in place of GELU, "
  "SiLU, softplus, sigmoid or tanh, and train the network so; leave a softmax or sigmoid at the "
  "end out, as the largest logit is the answer without it"
)
_SOFTMAX = (
  "leave a softmax at the end out, as the largest logit is the answer without it; within the "
  "network, as in attention, spikes cannot compute it"
)
_LOGITS = "return the logits themselves, of which the largest is taken afterwards"
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
  "let a loop run a number of times that does not depend on the input, at most some hundred, over "
  "an axis that is not the batch; and give each activation of a field act a name of its own"
)
VMAP = (
  "leave nn.vmap and jax.vmap out around activations of a field act: layers and activations take "
  "the whole batch, nn.Dense the last axis of any array, nn.Conv all pixels; in place of copies "
  "with weights of their own, write a loop of Python over named layers and jnp.concatenate what "
  "they make, or use nn.Conv with feature_group_count (nn.remat and nn.jit may stay)"
)
_INDEXING = "what depends on the input cannot be an index, nor sort anything: take constant indices"
_PRODUCT = "only one side of a product may depend on the input, and it is summed over no examples"
_CONVOLUTION = (
  "convolutions of images of 1 to 3 axes with constant kernels are read, each example by itself"
)
_PADDING = "pad with a finite number, and not along the batch"
_CONSTANT_PART = "join along another axis than the batch"
_REPEATING = "repeat along another axis than the batch"
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
  "conv_general_dilated": _CONVOLUTION,
  "broadcast_in_dim": _REPEATING,
}


def remedy(
  primitive: str, inputs: Sequence[Any] = (), params: Mapping[str, Any] | None = None
) -> str:
  """What a user can do whose model applies this primitive where it cannot be read.

  Args:
    primitive: its name.
    inputs: symbols and constants that it was applied to.
    params: its parameters.
  """
  return _remedy(primitive, inputs, params or {})


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
      x = inputs[0] if inputs else None
      last = isinstance(x, Symbol) and any(len(x.stored) - 1 in x.axes[k] for k in params["axes"])
      return _SOFTMAX if last else _MAXIMUM
    case "pad":
      return _PADDING
    case "concatenate":
      return _CONSTANT_PART if params["dimension"] else _EXAMPLES
  return _BY_NAME.get(primitive, _OTHERS)
