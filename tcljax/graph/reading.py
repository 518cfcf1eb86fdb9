"""Reads the operations that a function traces to (its jaxpr) as nodes of a graph.

Nothing is matched by the name of a module or class: whatever does not depend on the input is
evaluated (BatchNorm's statistics become two constants), whatever does must be affine, an activation
or a maximum. How each primitive is read stands in the records of `tcljax.graph.operations`.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend import core

from tcljax.graph import neurons
from tcljax.graph.builder import Builder
from tcljax.graph.fates import AFFINE, IGNORED, MOVED, POOLING, POPULATION, Fate, source_of
from tcljax.graph.history import History
from tcljax.graph.layout import Symbol
from tcljax.graph.operations import readers
from tcljax.graph.record import Kind, Refused, Use
from tcljax.graph.rectifiers import Comparison
from tcljax.graph.remedies import remedy
from tcljax.graph.store import Origin

# What runs the operations inside it once, as they stand.
_CALLS = (
  "jit",
  "pjit",
  "closed_call",
  "core_call",
  "checkpoint",
  "remat2",
  "custom_jvp_call",
  "custom_vjp_call",
  "custom_lin",
)
_LONGEST_LOOP = 1024  # steps that are written out


@dataclasses.dataclass(frozen=True, eq=False)
class Unread:
  """A value that comes of an operation which no graph can hold.

  Attributes:
    bases: the symbols that it was computed from.
    error: why the first of its operations was refused.
    steps: the places of its operations in `History.fates`, the first is the one that was refused.
    before: of those before them that go with a softmax or sigmoid, if that is what they are.
  """

  bases: tuple[Symbol, ...]
  error: ValueError
  steps: tuple[int, ...]
  before: tuple[int, ...] = ()


class Reading:
  """Walks a jaxpr, keeping constants as arrays and turning the rest into nodes.

  Attributes:
    graph: what makes the nodes.
    history: the operations so far.
  """

  def __init__(self, graph: Builder) -> None:
    self.graph, self.readers, self.history = graph, readers(), History()

  def run(
    self,
    jaxpr: Any,
    consts: Sequence[Any],
    args: Sequence[Any],
    place: str = "",
    source: str = "",
  ) -> list[Any]:
    """The outputs of a jaxpr: symbols where they depend on the input, arrays elsewhere.

    Args:
      jaxpr: operations in an order in which each comes after what it reads.
      consts: values of its constants.
      args: its inputs.
      place: where in the model it stands.
      source: where in the user's code; its operations may know better.
    """
    env = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, args))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else env[atom]
    for eqn in jaxpr.eqns:
      inputs = [read(atom) for atom in eqn.invars]
      inside = "/".join(filter(None, (place, str(eqn.source_info.name_stack))))
      line = source_of(eqn.source_info.traceback) or source
      env.update(zip(eqn.outvars, self._outputs(eqn, inputs, inside, line)))
    return [read(atom) for atom in jaxpr.outvars]

  def _outputs(self, eqn, inputs, place, source):
    """What one operation gives."""
    name, params = eqn.primitive.name, eqn.params
    if name in _CALLS:
      inner = params.get("jaxpr", params.get("call_jaxpr"))
      inner, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
      return self.run(inner, consts, inputs, place, source)
    shapes = [tuple(getattr(var.aval, "shape", ())) for var in eqn.outvars]
    if shapes and all(0 in shape for shape in shapes):
      return [np.zeros(var.aval.shape, var.aval.dtype) for var in eqn.outvars]
    if not any(map(_is_unknown, inputs)):
      if eqn.primitive is neurons.PRIMITIVE:
        raise ValueError(
          f"activation {neurons.name_of(params)!r} does not depend on the input: nothing to convert"
        )
      return _evaluated(eqn, inputs)
    if name == "cond" and not _is_unknown(inputs[0]):
      branch = params["branches"][int(inputs[0])]
      return self.run(branch.jaxpr, branch.consts, inputs[1:], place, source)
    if not any(isinstance(value, Unread) for value in inputs):
      if name == "scan" and params["length"] <= _LONGEST_LOOP:
        return self._unrolled(params, inputs, place, source)
      if name == "while" and (found := self._repeated(params, inputs, place, source)) is not None:
        return found
    return self._read(eqn, inputs, shapes, Origin(name, place, source))

  def _read(self, eqn, inputs, shapes, origin):
    """The outputs of an operation that depends on the input, its nodes added."""
    fate = Fate(origin.primitive, origin.place, origin.source, IGNORED)
    step = self.history.begin(fate, inputs)
    outputs = self._as_nodes(eqn, inputs, shapes, origin, step)
    self.history.end(step, outputs)
    return outputs

  def _as_nodes(self, eqn, inputs, shapes, origin, step):
    if any(isinstance(value, Unread) for value in inputs):
      left = self._unread(origin.primitive, inputs, None, step)
      return [left for _ in shapes]
    graph = self.graph
    graph.origin, count = origin, len(graph.nodes)
    use = Use(
      origin.primitive, inputs, eqn.params, shapes, lambda *values: _evaluated(eqn, values)[0]
    )
    for read in self.readers.get(origin.primitive, ()):
      try:
        found = read(graph, use)
      except Refused:
        continue
      made = list(itertools.islice(graph.nodes, count, None))
      fates, self.history.made[step] = self.history.fates, made
      fates[step] = dataclasses.replace(fates[step], fate=_fate(graph, made))
      return found if isinstance(found, list) else [found]
    error = refusal(origin, remedy(origin.primitive, inputs, eqn.params, self.graph.inserts))
    return [self._unread(origin.primitive, inputs, error, step)] * len(shapes)

  def _unread(self, primitive, inputs, error, step):
    """What comes of an operation that is refused, or that comes after one that is."""
    bases: dict[Symbol, None] = {}
    steps: dict[int, None] = {}
    before: dict[int, None] = {}
    for value in inputs:
      if isinstance(value, Unread):
        of, others = value.bases, value.before
        if primitive == "add" and len(value.steps) == len(of) == 1:  # 1 + exp(-x)
          base, others = self.history.before_sigmoid(of[0])
          of = (base,)
        bases |= dict.fromkeys(of)
        steps |= dict.fromkeys(value.steps)
        before |= dict.fromkeys(others)
        error = error or value.error
      elif _is_unknown(value):
        base = value.x if isinstance(value, Comparison) else value
        base, others = self.history.before_softmax(base)
        bases[base] = None
        before |= dict.fromkeys(others)
    assert error is not None
    return Unread(tuple(bases), error, (*steps, step), tuple(before))

  def _unrolled(self, params, inputs, place, source):
    """A scan written out, step by step."""
    body, n = params["jaxpr"], params["length"]
    consts, carry = params["num_consts"], params["num_carry"]
    fixed, state, xs = inputs[:consts], inputs[consts : consts + carry], inputs[consts + carry :]
    order = range(n)[::-1] if params["reverse"] else range(n)
    ys: dict[int, list[Any]] = {}
    for i in order:
      where = "/".join(filter(None, (place, str(i))))
      parts = [self._entry(x, i, Origin("scan", where, source)) for x in xs]
      found = self.run(body.jaxpr, body.consts, [*fixed, *state, *parts], where, source)
      state, ys[i] = found[:carry], found[carry:]
    stacked = [self._stacked(column, place, source) for column in zip(*(ys[i] for i in range(n)))]
    return [*state, *stacked]

  def _entry(self, x, i, origin):
    """One entry of the first axis."""
    if not isinstance(x, Symbol):
      return x if isinstance(x, (Unread, Comparison)) else x[i]
    try:
      taken = self.graph.take(x, 0, [i])
    except Refused:
      return Unread((x,), refusal(origin, remedy("scan")), ())
    return Symbol(taken.name, taken.stored, taken.axes[1:])

  def _stacked(self, values, place, source):
    """Values along a new first axis."""
    if not any(map(_is_unknown, values)):
      return np.stack([np.asarray(v) for v in values])
    for value in values:
      if isinstance(value, Unread):
        return value
    shape = next(v.shape for v in values if isinstance(v, Symbol))
    use = Use("stack", list(values), {"axis": 0}, [(len(values), *shape)], np.stack)
    self.graph.origin = Origin("scan", place, source)
    return self.readers["stack"][0](self.graph, use)

  def _repeated(self, params, inputs, place, source):
    """A while loop written out, whose end does not depend on the input; None where it does."""
    conds, bodies = params["cond_nconsts"], params["body_nconsts"]
    of_cond, of_body = inputs[:conds], inputs[conds : conds + bodies]
    state = inputs[conds + bodies :]
    cond, body = params["cond_jaxpr"], params["body_jaxpr"]
    for i in range(_LONGEST_LOOP):
      goes_on = self.run(cond.jaxpr, cond.consts, [*of_cond, *state], place, source)[0]
      if _is_unknown(goes_on):
        return None
      if not goes_on:
        return state
      where = "/".join(filter(None, (place, str(i))))
      state = self.run(body.jaxpr, body.consts, [*of_body, *state], where, source)
    return None


def _is_unknown(value: Any) -> bool:
  """Whether a value depends on the input."""
  return isinstance(value, (Symbol, Unread, Comparison))


def _evaluated(eqn, inputs):
  outputs = eqn.primitive.bind(*inputs, **eqn.params)
  return outputs if eqn.primitive.multiple_results else [outputs]


def _fate(graph, made):
  """What became of an operation for which these nodes were made."""
  kinds = {graph.kind(name) for name in made}
  if Kind.NEURONS in kinds:
    pools = any("window" in dict(graph.nodes[name].settings) for name in made)
    return POOLING if pools else POPULATION
  if Kind.MAXIMUM in kinds:
    return POOLING
  return AFFINE if made else MOVED


def refusal(origin: Origin, what_to_do: str) -> ValueError:
  """The error for a primitive that spikes cannot carry."""
  where = f" in {origin.place}" if origin.place else ""
  line = f" ({origin.source})" if origin.source else ""
  return ValueError(f"the model applies `{origin.primitive}`{where}{line}: {what_to_do}")
