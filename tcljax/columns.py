"""Tables of text."""

from collections.abc import Sequence
from typing import Any


def table(columns: Sequence[tuple[str, Sequence[Any], str]]) -> str:
  """Lines of text: a title and values in each column, all to the right.

  Args:
    columns: of each the title, the values, and how a value is written, such as "{:.2f}".
  """
  cells = [[title, *(form.format(value) for value in values)] for title, values, form in columns]
  widths = [max(map(len, column)) for column in cells]
  rows = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in zip(*cells))
  return "\n".join(rows)
