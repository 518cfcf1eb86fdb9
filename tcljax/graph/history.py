"""The operations that were read so far, and what each of them has read."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tcljax.graph.fates import REFUSED, Fate
from tcljax.graph.layout import Symbol

# What a maximum goes through before it is subtracted, as in a softmax.
_KEEPING = ("broadcast_in_dim", "reshape", "squeeze", "stop_gradient", "max", "select_n", "copy")


class History:
  """Of one function.

  Attributes:
    fates: of each operation so far.
    made: by the place of an operation in `fates`, the nodes made for it.
  """

  def __init__(self) -> None:
    self.fates: list[Fate] = []
    self.made: dict[int, list[str]] = {}
    self._inputs: list[Sequence[Any]] = []
    self._parents: list[list[int | None]] = []  # for each input the operation that has made it
    self._makers: dict[int, tuple[int, Any]] = {}  # by the identity of a value, which is kept alive

  def begin(self, fate: Fate, inputs: Sequence[Any]) -> int:
    """Notes an operation that reads these values; returns its place."""
    self.fates.append(fate)
    self._inputs.append(inputs)
    self._parents.append([self._maker(x) for x in inputs])
    return len(self.fates) - 1

  def end(self, step: int, outputs: Sequence[Any]) -> None:
    """Notes what it has made."""
    self._makers.update({id(x): (step, x) for x in outputs})

  def refuse(self, node: str, reason: str) -> None:
    """Notes that an operation is refused after all, by a node that was made for it."""
    for step, names in self.made.items():
      if node in names:
        self.fates[step] = dataclasses.replace(self.fates[step], fate=REFUSED, detail=reason)

  def _maker(self, value):
    return self._makers[id(value)][0] if id(value) in self._makers else None

  def used(self, outputs: Sequence[Any]) -> set[int]:
    """The places of the operations that these values are made of."""
    waiting = [self._maker(x) for x in outputs]
    found: set[int] = set()
    while waiting:
      step = waiting.pop()
      if step is not None and step not in found:
        found.add(step)
        waiting += self._parents[step]
    return found

  def before_softmax(self, value: Symbol) -> tuple[Symbol, tuple[int, ...]]:
    """The logits, of their maximum or of what they are above it; else the value itself.

    Returns:
      The value, and the places of the operations that come after it.
    """
    step = self._maker(value)
    if step is None:
      return value, ()
    if (found := self._of_maximum(step)) is not None:
      return found
    if self.fates[step].operation == "sub":
      found = self._of_maximum(self._parents[step][1])
      if found is not None and found[0] == self._inputs[step][0]:
        return found[0], (*found[1], step)
    return value, ()

  def _of_maximum(self, step):
    """What a maximum is taken of, and the operations from there on; None of what is none."""
    steps = []
    while step is not None and self.fates[step].operation in _KEEPING:
      steps.append(step)
      read = zip(self._inputs[step], self._parents[step])
      makers = [maker for value, maker in read if isinstance(value, Symbol)]
      step = makers[0] if len(makers) == 1 else None
    if step is None or self.fates[step].operation != "reduce_max":
      return None
    return self._inputs[step][0], (step, *steps)

  def before_sigmoid(self, value: Symbol) -> tuple[Symbol, tuple[int, ...]]:
    """The logits, of their negative; else the value itself. Returns as `before_softmax`."""
    step = self._maker(value)
    if step is None or self.fates[step].operation != "neg":
      return value, ()
    return self._inputs[step][0], (step,)
