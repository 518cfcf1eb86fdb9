"""The report: one page in a folder, which needs nothing else, and its figures beside it."""

import contextlib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tcljax.conversion.places import REPORT
from tcljax.files import PARTIAL, write_text, writing, written_beside
from tcljax.reporting import page, sections
from tcljax.reporting.drawing import Drawn, styled, written
from tcljax.reporting.findings import Findings

PAGE, _FIGURES = "index.html", "figures"


def write_report(directory: pathlib.Path, found: Findings) -> pathlib.Path:
  """Writes `report/index.html`, and each figure as `report/figures/NAME.png` and `.json`.

  Args:
    directory: of the network or the run.
    found: what is known of it.

  Returns:
    The path of the page.

  Raises:
    FileError: if it cannot be written.
  """
  text, figures = made_of(found)
  folder = directory / REPORT
  beside = folder / _FIGURES
  with writing(folder):
    beside.mkdir(parents=True, exist_ok=True)
    for old in beside.iterdir():
      name = pathlib.Path(old.name.removesuffix(PARTIAL))  # left where writing was ended
      if name.suffix in (".png", ".json") and (old.suffix == PARTIAL or old.stem not in figures):
        with contextlib.suppress(OSError):
          old.unlink()
  for name, (pixels, numbers) in figures.items():
    with written_beside(beside / f"{name}.png") as path:
      path.write_bytes(pixels)
    write_text(beside / f"{name}.json", numbers)
  write_text(folder / PAGE, text)
  return folder / PAGE


def made_of(found: Findings) -> tuple[str, dict[str, tuple[bytes, str]]]:
  """The page, and by the name of each figure its PNG and JSON."""
  files: dict[str, tuple[bytes, str]] = {}

  def draw(drawn: Drawn) -> str:
    svg, pixels = written(drawn)
    numbers = json.dumps(_plain(drawn.data), indent=1, ensure_ascii=True, allow_nan=False)
    files[drawn.name] = pixels, numbers + "\n"
    return page.figure(drawn.name, svg, drawn.wide, drawn.alt)

  parts, missing = [], {}
  with styled():
    for name, make in sections.SECTIONS:
      try:
        parts.append(make(found, draw))
      except page.LeftOut as reason:
        missing.setdefault(str(reason), []).append(name)
  if missing:
    says = "What this report does not show, and why."
    lines = [f"{', '.join(names)}: {reason}." for reason, names in missing.items()]
    parts.append(page.Section("left-out", "Left out", says, [page.items(lines, ordered=False)]))
  what = "spiking network" if found.records is None else "training"
  return page.page(f"{found.name}: {what}", sections.lead(found), parts), files


def _plain(value: Any) -> Any:
  """The same as JSON holds it; what is not finite is null."""
  if isinstance(value, Mapping):
    return {str(key): _plain(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple, np.ndarray)):
    return [_plain(inner) for inner in value]
  if isinstance(value, np.generic):
    value = value.item()
  return None if isinstance(value, float) and not math.isfinite(value) else value
