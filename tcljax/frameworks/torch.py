"""Networks of PyTorch, by `torch.export`: their operations in JAX, one by one."""

import copy
from typing import Any

import jax
import numpy as np

from tcljax.checks import must_be
from tcljax.files import why
from tcljax.frameworks.exported import array_of, exported, function_of, type_of
from tcljax.frameworks.importing import framework
from tcljax.graph import Traced, trace
from tcljax.graph.comparison import compared, tolerance_of
from tcljax.kernels import xla_options

_BATCH = "a batch of inputs [B, ...], a tensor or an array"
_EXAMPLES = 3  # which a module is run on


def from_torch(module: Any, example: Any, *, pooling: str = "gate") -> Traced:
  """Traces a network of PyTorch in evaluation mode; the module itself stays as it is.

  Args:
    module: a `torch.nn.Module`, as it was trained.
    example: a batch of inputs as the module takes them, [B, C, H, W]: a tensor or an array, or its
      shape and type as a `jax.ShapeDtypeStruct`; a dictionary of these for a module that takes one;
      a tuple for one that takes several.
    pooling: see `tcljax.trace`.

  Returns:
    The network, which takes what the module takes, as JAX's arrays, and returns what it returns;
    its populations are named after the submodules that they stand in.

  Raises:
    ValueError: if PyTorch is not installed, this is no module or one without weights, it does not
      run on the example, `torch.export` cannot read it, or it uses an operation that is not known
      here; if PyTorch and JAX do not answer the same; and as `tcljax.trace` does.

  Examples:
    >>> import tcljax
    >>> torch = __import__("pytest").importorskip("torch")
    >>> layers = torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten()
    >>> module = torch.nn.Sequential(*layers, torch.nn.Linear(144, 3))
    >>> tcljax.from_torch(module, torch.zeros(1, 1, 8, 8)).populations
    ('1.relu',)
  """
  torch = framework("torch", "torch")
  own = _for_inference(torch, module)
  if not jax.tree.leaves(example):
    raise ValueError(must_be("example", example, _BATCH))
  inputs = jax.tree.map(lambda leaf: _batch(torch, leaf), example)
  several = isinstance(inputs, (tuple, list))
  args = tuple(inputs) if several else (inputs,)
  expected = _run(torch, own, args)
  run = function_of(torch, exported(torch, own, args))
  _check_same(run, args, expected)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, type_of(x.dtype)), inputs)
  return trace((lambda xs: run(*xs)) if several else (lambda x: run(x)), shapes, pooling=pooling)


def _for_inference(torch, module):
  """A copy of a module in evaluation mode, on the CPU.

  Raises:
    ValueError: if it is no module, or has no numbers in its weights.
  """
  if not isinstance(module, torch.nn.Module):
    raise ValueError(must_be("module", module, "a torch.nn.Module"))
  if isinstance(module, torch.jit.ScriptModule):
    raise ValueError("module is of TorchScript: give the torch.nn.Module that it was made from")
  module = getattr(module, "_orig_mod", module)  # of what torch.compile made
  for name, held in (*module.named_parameters(), *module.named_buffers()):
    if torch.nn.parameter.is_lazy(held):
      raise ValueError(f"{name} of the module is lazy: call the module on a batch, then train it")
    if held.is_meta:
      raise ValueError(
        f"{name} of the module is on the device meta and has no numbers: call "
        "module.to_empty(device='cpu') and load trained weights"
      )
    if isinstance(held, torch.nn.Parameter) and not held.isfinite().all():
      raise ValueError(f"{name} of the module is not finite: load trained weights")
  try:
    return copy.deepcopy(module).cpu().eval()
  except Exception as error:  # of any kind, as the module is the user's
    raise ValueError(
      f"the module cannot be copied: {type(error).__name__}: {why(error)}; weights that "
      "torch.nn.utils.weight_norm made are removed by torch.nn.utils.remove_weight_norm"
    ) from error


def _batch(torch, leaf):
  """Examples like this one: random numbers, but whole numbers, which may be indices, its own."""
  as_array = lambda: (
    np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else np.array(leaf)
  )
  try:
    given = leaf.detach().cpu() if isinstance(leaf, torch.Tensor) else torch.tensor(as_array())
  except TypeError:
    given = None
  if given is None or given.ndim < 1:
    raise ValueError(must_be("example", leaf, _BATCH))
  shape = _EXAMPLES, *given.shape[1:]
  if given.is_floating_point():
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(given.dtype)
  if not len(given):
    return torch.zeros(shape, dtype=given.dtype)
  return given[torch.arange(_EXAMPLES) % len(given)]


def _run(torch, module, args):
  """What PyTorch itself answers, as arrays.

  Raises:
    ValueError: if it does not run on such inputs, or answers with something else.
  """
  try:
    with torch.no_grad():
      answer = module(*copy.deepcopy(args))  # some change what they are given
  except Exception as error:  # of any kind, as the module is the user's
    told = ", ".join(f"{tuple(x.shape)} and type {x.dtype}" for x in jax.tree.leaves(args))
    raise ValueError(
      f"the module cannot be run on inputs of shape {told}: {type(error).__name__}: {why(error)}"
    ) from error
  for leaf in jax.tree.leaves(answer):
    if not isinstance(leaf, (torch.Tensor, float, int)):
      raise ValueError(
        f"the module returns a {type(leaf).__name__}: let it return a tensor, or several in tuples "
        "and dictionaries"
      )
  return jax.tree.map(lambda x: array_of(x) if isinstance(x, torch.Tensor) else x, answer)


def _check_same(run, args, expected):
  """Raises ValueError unless JAX answers as PyTorch did."""
  arrays = jax.tree.map(array_of, args)
  options: Any = xla_options.compiling_quickly()
  traced = jax.jit(run).trace(*arrays)
  found = jax.tree.leaves(traced.lower().compile(options)(*arrays))
  tolerance = tolerance_of(traced.jaxpr)
  for one, other in zip(found, jax.tree.leaves(expected), strict=True):
    one, other = (np.asarray(value, np.float32) for value in (one, other))
    same, error, largest = compared(one, other, tolerance)
    if not same:
      raise ValueError(
        f"JAX's form of the module differs from PyTorch on random inputs, by {error:.3g} where the "
        f"largest output is {largest:.3g}: is it the same in every call?"
      )
