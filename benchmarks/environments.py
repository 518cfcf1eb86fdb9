"""Virtual environments with programs of others, which tcljax itself does not need."""

import json
import pathlib
import subprocess
import venv
from collections.abc import Sequence

from tcljax.reporting.progress import say


def environment(place: pathlib.Path, steps: Sequence[Sequence[str]]) -> str:
  """The Python of an environment, made anew unless it is there and whole.

  Args:
    place: its folder.
    steps: what `pip install` is given, one call each.

  Raises:
    ValueError: if something cannot be installed.
  """
  python, made = place / "bin" / "python", place.with_name(f"{place.name}.installed")
  wanted = json.dumps([[*step] for step in steps])
  if not (python.exists() and made.exists() and made.read_text() == wanted):
    say(f"installing {place.name} in {place}")
    made.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    venv.create(place, clear=True, with_pip=True)
    for step in steps:
      done = subprocess.run(
        [python, "-m", "pip", "install", "-q", *step], capture_output=True, text=True, check=False
      )
      if done.returncode:
        raise ValueError(f"{place.name} cannot be installed: {last_words(done.stderr)}")
    made.write_text(wanted)
  return str(python)


def last_words(text: str) -> str:
  """The line of an error in what a program printed: the last that says so, or the last."""
  lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it says nothing"]
  told = [line for line in lines if line.split(":")[0].lower().endswith("error")]
  return (told or lines)[-1]
