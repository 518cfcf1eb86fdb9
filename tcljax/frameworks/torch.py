"""Networks of PyTorch, by `torch.export`: their operations in JAX, one by one."""

import copy
import operator
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.checks import must_be
from tcljax.files import why
from tcljax.frameworks.aten import OPERATIONS
from tcljax.frameworks.importing import framework
from tcljax.graph import Traced, trace


def from_torch(module: Any, example: Any, *, pooling: str = "gate") -> Traced:
  """Traces a network of PyTorch in evaluation mode; the module itself stays as it is.

  Args:
    module: a `torch.nn.Module`, as it was trained.
    example: a batch of inputs as the module takes them, [B, C, H, W]: a tensor or an array, or a
      tuple of several.
    pooling: see `tcljax.trace`.

  Returns:
    The network, which takes what the module takes, as JAX's arrays; its populations are named after
    the submodules that they stand in.

  Raises:
    ValueError: if PyTorch is not installed, this is no module, `torch.export` cannot read it or it
      uses an operation that is not known here, and as `tcljax.trace` does.

  Examples:
    >>> import tcljax
    >>> torch = __import__("pytest").importorskip("torch")
    >>> layers = torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()
    >>> module = torch.nn.Sequential(*layers, torch.nn.Linear(144, 3))
    >>> tcljax.from_torch(module, torch.zeros(1, 1, 8, 8)).populations
    ('1.relu',)
  """
  torch = framework("torch", "torch")
  if not isinstance(module, torch.nn.Module):
    raise ValueError(must_be("module", module, "a torch.nn.Module"))
  inputs = example if isinstance(example, (tuple, list)) else (example,)
  arrays = [np.asarray(x.detach() if hasattr(x, "detach") else x) for x in inputs]
  program = _exported(torch, module, arrays)
  shapes = tuple(jax.ShapeDtypeStruct(a.shape, jnp.dtype(a.dtype)) for a in arrays)
  several = isinstance(example, (tuple, list))
  run = _function(torch, program)
  if several:
    return trace(lambda xs: run(*xs), shapes, pooling=pooling)
  return trace(lambda x: run(x), shapes[0], pooling=pooling)


def _exported(torch, module, arrays):
  """What `torch.export` makes of a module, for any number of examples."""
  own = copy.deepcopy(module).eval()
  # Of one example it would take the batch for a constant.
  tensors = tuple(torch.from_numpy(np.concatenate([a, a, a])[:3].copy()) for a in arrays)
  free = tuple({0: torch.export.Dim("batch", min=2, max=1024)} for _ in tensors)
  try:
    with torch.no_grad(), warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of what torch does with itself
      program = torch.export.export(own, tensors, dynamic_shapes=free)
      return program.run_decompositions()
  except Exception as error:  # of any kind, as the module is the user's
    raise ValueError(
      f"torch.export cannot read the module on inputs of shape "
      f"{', '.join(str(tuple(a.shape)) for a in arrays)}: {type(error).__name__}: {why(error)}"
    ) from error


def _function(torch, program):
  """The program as a function of JAX's arrays."""
  signature = program.graph_signature
  held = {**program.state_dict, **program.constants}
  named = {
    **signature.inputs_to_parameters,
    **signature.inputs_to_buffers,
    **signature.inputs_to_lifted_tensor_constants,
  }
  constants = {name: jnp.asarray(held[target].detach().numpy()) for name, target in named.items()}
  given = list(signature.user_inputs)
  *calls, end = [node for node in program.graph.nodes if node.op != "placeholder"]
  steps = [(node, _operation(node)) for node in calls]  # what is not known is told before tracing

  def run(*xs):
    values = {**constants, **dict(zip(given, xs, strict=True))}
    read = lambda value: torch.fx.node.map_arg(value, lambda node: values[node.name])
    for node, operation in steps:
      with jax.named_scope(_place(node)):
        values[node.name] = operation(*read(node.args), **read(node.kwargs))
    return program.call_spec.out_spec.unflatten(read(end.args)[0])  # as the module returns them

  return run


def _place(node):
  """The submodule that an operation stands in; "" for the module itself."""
  stack = node.meta.get("nn_module_stack") or {}
  paths = [path for path, _ in stack.values()]
  return paths[-1].removeprefix("L['self'].") if paths else ""


def _operation(node):
  """What computes a node.

  Raises:
    ValueError: if that is not known here.
  """
  if node.target in (operator.getitem, operator.mul, operator.add, operator.sub, operator.floordiv):
    return node.target
  name = str(node.target).split(".")[1] if "." in str(node.target) else str(node.target)
  if name not in OPERATIONS:
    raise ValueError(
      f"{node.target} in {_place(node) or 'the module'} is an operation of PyTorch that tcljax "
      "does not know: write it by others, or give tcljax.trace a function of JAX"
    )
  return OPERATIONS[name]
