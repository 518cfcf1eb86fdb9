"""How a simulation begins: potentials at rest, and the currents that are the same in every step.

Where an example serves every step, so does what the first layers make of it, up to the first
neurons. These currents are computed once, [B, ...], and not for each of the steps that are folded
into a batch. Which they are is read from the program of the first call: those that depend on no
threshold come before all activations.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.extend import core

from tcljax.layers.collections import CLIPPING, CONSTANT, Variables, without
from tcljax.maths.trees import Tree
from tcljax.simulation.outputs import check_arrays


class Beginning(NamedTuple):
  """What a simulation begins with.

  Attributes:
    state: of the neurons, at rest.
    sums: of the outputs: zeros, [B, ...].
    constant: the collection `constant_currents`, by its name, with the currents that no step
      changes; empty where there are none.
  """

  state: Variables
  sums: Tree
  constant: Variables


def begin(network: nn.Module, variables: Variables, x: Tree, carried: Sequence[str]) -> Beginning:
  """Calls a network of `IF` for the first time, which runs no step.

  Nothing is computed but what is given back.

  Args:
    network: with `IF` for a step at a time.
    variables: its variables, the collection `clipping` included.
    x: inputs of one step, [B, ...].
    carried: the collections that are the state.
  """

  def first_call(clipping):
    output, state = network.apply(
      {**variables, CLIPPING: clipping}, x, mutable=[*carried, CONSTANT]
    )
    check_arrays(output)
    return state, jax.tree.map(lambda a: jnp.zeros_like(a, jnp.float32), output)

  clipping = variables[CLIPPING]
  closed, returned = jax.make_jaxpr(first_call, return_shape=True)(clipping)
  state, sums = jax.tree.unflatten(jax.tree.structure(returned), closed.jaxpr.outvars)
  behind = _dependent(closed.jaxpr)
  same = {
    (*path[:-1], "current"): name
    for path, name in traverse_util.flatten_dict(state.get(CONSTANT, {})).items()
    if name not in behind
  }
  constant = {CONSTANT: traverse_util.unflatten_dict(same)} if same else {}
  wanted = Beginning(without(state, CONSTANT), sums, constant)
  program = core.ClosedJaxpr(_needed(closed.jaxpr, jax.tree.leaves(wanted)), closed.consts)
  values = core.jaxpr_as_fun(program)(*jax.tree.leaves(clipping))
  return jax.tree.unflatten(jax.tree.structure(wanted), values)


def _dependent(jaxpr: core.Jaxpr) -> set[Any]:
  """All that depends on the inputs of a program, as far as its operations tell.

  What an inner program gives is taken to depend on all that it is given. Where something is written
  and read, everything is.
  """
  found = set(jaxpr.invars)
  if any(equation.effects for equation in jaxpr.eqns):
    return found.union(_variables(jaxpr.outvars))
  for equation in jaxpr.eqns:
    if any(name in found for name in _variables(equation.invars)):
      found.update(equation.outvars)
  return found


def _needed(jaxpr: core.Jaxpr, outputs: list[Any]) -> core.Jaxpr:
  """The part of a program that these outputs need."""
  needed, kept = set(_variables(outputs)), []
  for equation in reversed(jaxpr.eqns):
    if needed.intersection(equation.outvars):
      needed.update(_variables(equation.invars))
      kept.append(equation)
  return jaxpr.replace(eqns=kept[::-1], outvars=outputs)


def _variables(atoms: Iterable[Any]) -> list[Any]:
  """Those that are no literals."""
  return [atom for atom in atoms if isinstance(atom, core.Var)]
