"""The table of operations: all that a graph can hold.

To add an operation, add its `Operation` to the `OPERATIONS` of the module it belongs to:
`products`, `affine`, `pooling`, `shaping`, `movement` or `neurons`. The record says how it runs,
which JAX primitives make it and what else becomes of it. Tracing, folding, running, saving and
loading ask this table and nothing else. What holds for every operation, as an output format, is a
field of the record (`tcljax.graph.record`).
"""

import collections

from tcljax.graph import affine, movement, neurons, pooling, products, shaping
from tcljax.graph.record import Operation, Reader

# By name. Where several operations read a primitive, the first that does not refuse makes the node.
OPERATIONS: dict[str, Operation] = {
  operation.name: operation
  for module in (products, affine, pooling, shaping, movement, neurons)
  for operation in module.OPERATIONS
}


def find(name: str) -> Operation:
  """The operation of this name.

  Raises:
    ValueError: if there is none.
  """
  if name not in OPERATIONS:
    raise ValueError(f"unknown operation {name!r}")
  return OPERATIONS[name]


def readers() -> dict[str, list[Reader]]:
  """For each JAX primitive, by name, the readers of the operations that it makes."""
  found = collections.defaultdict(list)
  for operation in OPERATIONS.values():
    for primitive, read in operation.read.items():
      found[primitive].append(read)
  return dict(found)
