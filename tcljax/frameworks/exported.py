"""What `torch.export` lists of a module, as a function of JAX."""

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tcljax.files import why
from tcljax.frameworks.aten import NOT_FOR_INFERENCE, OPERATIONS
from tcljax.frameworks.batch_size import where_used
from tcljax.frameworks.source_lines import called_from, frames_of, line_of

# They give a number that is known where a function is traced, whatever the input holds.
_SIZES = ("sym_size", "sym_numel")


def exported(torch: Any, module: Any, inputs: tuple[Any, ...]) -> Any:
  """What `torch.export` makes of a module, for any number of examples.

  Args:
    torch: the framework.
    module: in evaluation mode, on the CPU.
    inputs: what it is called with, trees of tensors of at least two examples; of one example it
      would take the batch for a constant.

  Raises:
    ValueError: if it cannot be exported.
  """
  leaves, shapes = jax.tree.leaves(inputs), torch.export.ShapesCollection()
  for leaf in leaves:
    shapes[leaf] = {0: torch.export.Dim("batch", min=2, max=1024)}
  try:
    with torch.no_grad(), _quiet():
      program = torch.export.export(module, inputs, dynamic_shapes=shapes)
      return program.run_decompositions()
  except Exception as error:  # of any kind, as the module is the user's
    if "Constraints violated" in why(error):
      with torch.no_grad(), _quiet():
        place = where_used(torch, module, inputs)
      raise ValueError(
        f"the module uses the number of examples in a batch{place}: torch.export fixes it there, "
        "and it has to stay open; use x.shape[0] in reshapes alone, and never len(x)"
      ) from error
    shapes_told = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
    chooses = "data-dependent" in why(error)
    raise ValueError(
      f"torch.export cannot read the module on inputs of shape {shapes_told}: "
      f"{type(error).__name__}: {why(error)}"
      + (
        "; let no choice, as by `if`, depend on numbers in its input, weights or buffers"
        if chooses
        else ""
      )
    ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without what torch.export warns of, logs and prints about itself."""
  before = logging.root.manager.disable
  logging.disable(logging.CRITICAL)
  try:
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
      warnings.simplefilter("ignore")
      yield
  finally:
    logging.disable(before)


def function_of(torch: Any, program: Any) -> Callable[..., Any]:
  """A program as a function of trees of JAX's arrays, each operation in its module and line.

  Raises:
    ValueError: if an operation is not known here or is none of inference, or if the module answers
      with what it remembers of earlier calls.
  """
  _check_forgets(program)
  signature, held = program.graph_signature, {**program.state_dict, **program.constants}
  named = {
    **signature.inputs_to_parameters,
    **signature.inputs_to_buffers,
    **signature.inputs_to_lifted_tensor_constants,
  }
  given = lambda of, values: torch.fx.node.map_arg(of, lambda node: values[node.name])
  constants = {name: held[target].detach() for name, target in named.items()}
  # Which effects come one after the other, such as checks of a matrix that is inverted.
  constants |= dict.fromkeys(signature.input_tokens, torch.tensor([]))
  of_input, steps = {*signature.user_inputs}, []
  for node in program.graph.nodes:
    if node.op in ("placeholder", "output"):
      continue
    inputs = {one.name for one in node.all_input_nodes}
    _check_is_of_inference(node)
    if node.op == "call_function" and constants.keys() >= inputs:  # a normed weight, for one
      constants[node.name] = _by_pytorch(torch, node, given, constants)
      continue
    if node.op == "call_function" and not of_input & inputs:  # of the number of examples alone
      steps.append((node, None, {}))
      continue
    if _name(node) not in _SIZES:
      of_input.add(node.name)
    kwargs = {
      name: type_of(value) if isinstance(value, torch.dtype) else value
      for name, value in node.kwargs.items()
    }
    operation = called_from(_frames(node), _operation(node))
    steps.append((node, operation, kwargs))
  read = {one.name for node, operation, _ in steps if operation for one in node.all_input_nodes}
  read |= {*signature.user_outputs}
  arrays = {name: _in_jax(torch, constants[name]) for name in constants.keys() & read}

  def run(*inputs):
    known = {**constants}  # as PyTorch has them
    values = {**arrays, **dict(zip(signature.user_inputs, jax.tree.leaves(inputs), strict=True))}
    for node, operation, kwargs in steps:
      if operation is None:
        known[node.name] = _by_pytorch(torch, node, given, known)
        values[node.name] = _in_jax(torch, known[node.name]) if node.name in read else None
        continue
      _check_is_there(node, values)
      with jax.named_scope(_place(node)):
        args = given(node.args, values), given(kwargs, values)
        values[node.name] = _computed(node, operation, *args)
      if node.name not in of_input:
        known[node.name] = values[node.name]
    _check_has(signature.user_outputs, values)
    found = [values.get(name, name) for name in signature.user_outputs]
    return program.call_spec.out_spec.unflatten(found)  # as the module returns them

  return run


def _by_pytorch(torch, node, given, known):
  """What PyTorch makes of constants and sizes, so that it may be any operation that it has."""
  with torch.no_grad():
    value = node.target(*given(node.args, known), **given(node.kwargs, known))
  if _name(node).startswith(("empty", "new_empty")):  # else it would be other in each call
    value.zero_()
  return value


def _in_jax(torch, value):
  """What PyTorch computed, with JAX's arrays in place of tensors, also while JAX traces."""
  with jax.ensure_compile_time_eval():
    return jax.tree.map(lambda x: array_of(x) if isinstance(x, torch.Tensor) else x, value)


def _computed(node, operation, args, kwargs):
  """What an operation makes of these.

  Raises:
    ValueError: if it is used in a form that is not known here.
  """
  try:
    return operation(*args, **kwargs)
  except Exception as error:  # of any kind, as PyTorch has many forms of one operation
    raise ValueError(
      f"{_at(node)} is used in a form that tcljax does not know: {type(error).__name__}: "
      f"{why(error)}; write it by others, or give tcljax.trace a function of JAX"
    ) from error


def _check_is_there(node, values):
  """Raises ValueError if an operation reads what is left out here, as the places of maxima are."""
  if any(values.get(one.name, 0) is None for one in node.all_input_nodes):
    raise ValueError(
      f"{_at(node)} reads the places of maxima or minima, which no spikes can carry: use their "
      "values alone, such as max(...)[0]"
    )


def _check_has(outputs, values):
  """Raises ValueError if an output is left out here, as the places of maxima are."""
  if any(name in values and values[name] is None for name in outputs):
    raise ValueError(
      "the module returns the places of maxima: let it return the maxima alone, such as max(...)[0]"
    )


def _check_forgets(program):
  """Raises ValueError if an output depends on a buffer that each call changes."""
  changed = {*program.graph_signature.buffers_to_mutate.values()}
  buffers = {
    name: target
    for name, target in program.graph_signature.inputs_to_buffers.items()
    if target in changed
  }
  outputs = {*program.graph_signature.user_outputs}
  waiting = [node for node in program.graph.nodes if node.name in outputs]
  seen = {*waiting}
  while waiting:
    node = waiting.pop()
    if node.name in buffers:
      raise ValueError(
        f"the module changes its buffer {buffers[node.name]} in each call, and answers with it: "
        "let its answer depend on its inputs alone"
      )
    new = {*node.all_input_nodes} - seen
    seen |= new
    waiting += new


def _frames(node):
  return frames_of(node.meta.get("stack_trace"))


def _place(node):
  """The submodule that an operation stands in; "" for the module itself."""
  stack = node.meta.get("nn_module_stack") or {}
  *_, path = ["", *(path for path, _ in stack.values())]
  path = path.removeprefix("L['self'].")
  return ".".join(part for part in path.split(".") if part != "_orig_mod")  # of what is compiled


def _name(node):
  """Of an operation without its overload: "add" of aten.add.Tensor."""
  _, _, name = str(node.target).partition(".")
  return name.partition(".")[0] or str(node.target)


def _at(node):
  """Where an operation stands, for people."""
  line = line_of(_frames(node))
  return f"{node.target} in {_place(node) or 'the module'}{f' ({line})' if line else ''}"


def _check_is_of_inference(node):
  """Raises ValueError for what is random, or takes statistics of the batch."""
  if why_not := NOT_FOR_INFERENCE.get(_name(node)):
    raise ValueError(f"{_at(node)} {why_not}")


def _operation(node):
  """What computes a node.

  Raises:
    ValueError: if that is not known here.
  """
  if node.target is operator.getitem:
    return node.target
  if _name(node) not in OPERATIONS:
    raise ValueError(
      f"{_at(node)} is an operation of PyTorch that tcljax does not know: write it by others, or "
      "give tcljax.trace a function of JAX"
    )
  return OPERATIONS[_name(node)]


def array_of(tensor: Any) -> jax.Array:
  """The numbers of a tensor, in the type that JAX has for its own."""
  if str(tensor.dtype) == "torch.bfloat16":  # which NumPy does not know
    return jnp.asarray(tensor.detach().float().numpy(), jnp.bfloat16)
  return jnp.asarray(tensor.detach().numpy(), type_of(tensor.dtype))


def type_of(dtype: Any) -> np.dtype:
  """JAX's type for one of PyTorch: float64 is float32, as long as JAX does not have it."""
  return jax.dtypes.canonicalize_dtype(str(dtype).removeprefix("torch."))
