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
from flax import traverse_util
from jax.extend import core

from tcljax.layers.collections import CLIPPING, CONSTANT, Variables, without
from tcljax.maths.trees import Tree


class Beginning(NamedTuple):
  """What the first call of a network of `IF` leaves.

  Attributes:
    output: of the network, shapes and types, [B, ...].
    state: of the neurons, at rest.
    constant: the collection `constant`, by its name, with the currents that no step changes; empty
      where there are none.
  """

  output: Tree
  state: Variables
  constant: Variables


def begin(network: nn.Module, variables: Variables, x: Tree, carried: Sequence[str]) -> Beginning:
  """Calls a network of `IF` for the first time, which runs no step.

  Nothing is computed but the state and the currents.

  Args:
    network: with `IF` for a step at a time.
    variables: its variables, the collection `clipping` included.
    x: inputs of one step, [B, ...].
    carried: the collections that are the state.
  """
  apply = lambda variables, x: network.apply(variables, x, mutable=[*carried, CONSTANT])
  closed, returned = jax.make_jaxpr(apply, return_shape=True)(variables, x)
  output, _ = returned
  names = jax.tree.unflatten(jax.tree.structure((variables, x)), closed.jaxpr.invars)
  thresholds = jax.tree.leaves(names[0][CLIPPING])
  _, left = jax.tree.unflatten(jax.tree.structure(returned), closed.jaxpr.outvars)

  behind = _dependent(closed.jaxpr, thresholds)
  currents = traverse_util.flatten_dict(left.get(CONSTANT, {}))
  same = {path: name for path, name in currents.items() if name not in behind}
  constant = {CONSTANT: traverse_util.unflatten_dict(same)} if same else {}
  wanted = without(left, CONSTANT), constant
  program = core.ClosedJaxpr(_needed(closed.jaxpr, jax.tree.leaves(wanted)), closed.consts)
  values = core.jaxpr_as_fun(program)(*jax.tree.leaves((variables, x)))
  return Beginning(output, *jax.tree.unflatten(jax.tree.structure(wanted), values))


def _dependent(jaxpr: core.Jaxpr, names: Iterable[Any]) -> set[Any]:
  """All that depends on these variables of a program.

  What an inner program gives is taken to depend on all that it is given.
  """
  found = set(names)
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
