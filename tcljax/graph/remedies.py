"""What users are told whose models do what a graph cannot hold: for each JAX primitive, what to do.

A primitive may be refused for several reasons; its inputs and parameters tell them apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

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
_EXPONENTIAL = (
  "leave a softmax or sigmoid at the end out, as the largest logit is the answer without it; "
  "within the network, as in attention, put ReLU in place of softmax or softplus, and train it so"
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
_LARGE_MAXIMUM = (
  "of numbers of either sign a maximum is read of at most 32: apply ReLU before it, as neurons "
  "take the maximum of what they compute, however many there are, or use average pooling"
)
_DILATED = "windows of a maximum hold neighbors: leave window_dilation and base_dilation at 1"
_OF_PARTS = (
  "take parts out by x[:, a:b], compute with them, and put them back by x.at[:, a:b].set(...)"
)
_FEW_SUMMANDS = (
  "add at most 32 numbers to one, or multiply by a matrix of zeros and ones; no number "
  "of one example may come to another"
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
_NOT_FINITE = (
  "its constants, such as weights, hold NaN, infinity or 1 / 0: let them be finite; cut out what "
  "minus infinity hides"
)
_WHOLE_NUMBERS = "neurons carry no whole numbers or truth values: leave rounding and casts out"

_BY_NAME = {
  **dict.fromkeys(("exp2", "expm1", "log", "log1p", "logistic", "tanh", "erf"), _CURVED),
  **dict.fromkeys(("erfc", "pow", "cbrt", "sin", "cos", "tan", "atan2"), _CURVED),
  **dict.fromkeys(("square", "sqrt", "rsqrt"), _STATISTICS),
  **dict.fromkeys(("min", "clamp"), _BOUND),
  "exp": _EXPONENTIAL,
  **dict.fromkeys(("reduce_window_max", "reduce_window_min", "cummax", "cummin"), _MAXIMUM),
  **dict.fromkeys(("scan", "while", "cond"), _LOOP),
  **dict.fromkeys(("sort", "top_k", "approx_top_k"), _INDEXING),
  **dict.fromkeys(("scatter-mul", "scatter-min", "scatter-max"), _OF_PARTS),
  **dict.fromkeys(("round", "floor", "ceil", "convert_element_type"), _WHOLE_NUMBERS),
  **dict.fromkeys(("slice", "split", "transpose", "reshape", "squeeze", "rev"), _EXAMPLES),
  **dict.fromkeys(("reduce_sum", "cumsum", "tile"), _EXAMPLES),
  **dict.fromkeys(("argmax", "argmin"), _LOGITS),
  "conv_general_dilated": _CONVOLUTION,
  "broadcast_in_dim": _REPEATING,
}
_CHOICES = (
  *("gt", "ge", "lt", "le", "eq", "ne", "select_n", "abs", "sign"),
  *("and", "or", "xor", "not", "is_finite"),
)


def remedy(
  primitive: str,
  inputs: Sequence[Any] = (),
  params: Mapping[str, Any] | None = None,
  inserts: bool = False,
) -> str:
  """What a user can do whose model applies this primitive where it cannot be read.

  Args:
    primitive: its name.
    inputs: symbols and constants that it was applied to.
    params: its parameters.
    inserts: whether it stands in a function that gets its neurons from the tracer.
  """
  params = params or {}
  several = sum(isinstance(value, Symbol) for value in inputs) > 1
  if inserts and not all(_is_finite(value, primitive) for value in inputs):
    return _NOT_FINITE
  if primitive in _CHOICES or any(_is_comparison(value) for value in inputs):
    return _OTHER_ACTIVATION
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
    case "reduce_max" | "reduce_min" | "reduce_window_max" | "reduce_window_min" if inserts:
      return _of_maximum(inputs, params)
    case "cummax" | "cummin" if inserts:
      return _EXAMPLES if inputs else _LARGE_MAXIMUM
    case "gather" | "dynamic_slice" | "scatter" | "scatter-add" | "scatter-sub":
      indices = inputs[1:2] if primitive.startswith("scatter") else inputs[1:]
      if any(isinstance(value, Symbol) for value in indices):
        return _INDEXING
      if primitive in ("scatter-add", "scatter-sub") and isinstance(inputs[2], Symbol):
        return _FEW_SUMMANDS
      of_function = primitive == "scatter" and params["update_jaxpr"] is not None
      return _OF_PARTS if of_function else _EXAMPLES
    case "reduce_max":  # over the channels it is no pooling
      x = inputs[0] if inputs else None
      last = isinstance(x, Symbol) and any(len(x.stored) - 1 in x.axes[k] for k in params["axes"])
      return _SOFTMAX if last else _MAXIMUM
    case "pad":
      return _PADDING
    case "concatenate":
      return _CONSTANT_PART if params["dimension"] else _EXAMPLES
  return _BY_NAME.get(primitive, _OTHERS)


def _is_comparison(value):
  """Whether an input is the truth of a comparison with something that depends on the input."""
  return not isinstance(value, Symbol) and not hasattr(value, "dtype")


def _is_finite(value, primitive):
  """Whether a constant is, and what is divided by it."""
  if not hasattr(value, "dtype") or not jnp.issubdtype(value.dtype, jnp.floating):
    return True
  value = np.asarray(value).astype(np.float64)
  return bool(np.isfinite(value).all()) and (primitive != "div" or bool(np.all(value != 0)))


def _of_maximum(inputs: Sequence[Any], params: Mapping[str, Any]) -> str:
  """Of one in a function that is traced; nothing is known of what is refused only at the end."""
  if not inputs or not isinstance(inputs[0], Symbol):
    return _LARGE_MAXIMUM
  sizes = params.get("window_dimensions")
  axes = params["axes"] if sizes is None else [k for k, n in enumerate(sizes) if n > 1]
  if any(inputs[0].has_batch(axis) for axis in axes):
    return _EXAMPLES
  return _DILATED
