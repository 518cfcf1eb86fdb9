"""The plan of the house: imports go down, rooms stay small, `import tcljax` stays light."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest
from running import ROOT

HEAVY = {"orbax", "tensorflow_datasets", "grain", "sklearn", "matplotlib", "tensorboardX"}


def plan():
  """The list of the floors."""
  text = (ROOT / "docs" / "architecture.md").read_text()
  return re.search(r"## Floors\n.*?```text\n(.*?)```", text, re.DOTALL)[1]


def floors():
  """From each room to its floor, 0 on top; rooms on one floor import nothing of each other."""
  return {
    room.rstrip("/"): number
    for number, line in enumerate(plan().splitlines())
    for room in re.findall(r"\S+/|\S+\.py", line.partition("  ")[0])
  }


def room(path):
  """The folder below tcljax/ that holds a module, or the file beneath all folders."""
  return path.parts[1] if len(path.parts) > 2 or path.suffix else path.name + ".py"


def upward(path, source, floor):
  """Imports of a module, those inside functions too, that do not go down."""
  for node in ast.walk(ast.parse(source)):
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: a relative import"
      names = [node.module] if node.module != "tcljax" else [f"tcljax.{a.name}" for a in node.names]
    for name in names:
      if name.startswith("tcljax."):
        there = name.split(".")[1]
        there = there if there in floor else there + ".py"
        if there != room(path) and floor.get(there, -1) <= floor[room(path)]:
          yield f"{path} imports {name}"


def modules():
  return [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "tcljax").rglob("*.py"))
    if path != ROOT / "tcljax" / "__init__.py"
  ]


def test_imports_go_down():
  floor = floors()
  assert {room(path) for path in modules()} == set(floor)
  assert [
    found for path in modules() for found in upward(path, (ROOT / path).read_text(), floor)
  ] == []


def test_every_room_has_its_name_there():
  rows = re.split(r"\n(?=\S)", plan())
  for path in (path for path in modules() if len(path.parts) > 2 and path.stem != "__init__"):
    [row] = [row for row in rows if f"{path.parts[1]}/" in row.splitlines()[0].partition("  ")[0]]
    assert re.search(rf"\b{path.stem}\b", row), path


@pytest.mark.parametrize("name", sorted(set(floors()) - {"commands"}))
def test_an_import_upwards_is_found(name):
  floor = floors()
  path = (
    pathlib.Path("tcljax", name) if name.endswith(".py") else pathlib.Path("tcljax", name, "a.py")
  )
  higher = max((other for other in floor if floor[other] < floor[name]), key=floor.get)
  higher = higher.removesuffix(".py")
  for source in (
    f"import tcljax.{higher}.b",
    f"def f():\n  from tcljax.{higher}.b import c",
    f"from tcljax import {higher}",
  ):
    assert list(upward(path, source, floor))


# What a user sees whole at a call: each argument has a name there.
MANY_ARGUMENTS = {"calibrate", "tune", "simulate", "convert", "evaluate"}


def test_rooms_and_functions_stay_small():
  entries = [path for path in (ROOT / "tcljax").iterdir() if path.name != "__pycache__"]
  assert len(entries) <= 22
  for path in modules():
    source = (ROOT / path).read_text()
    assert len(source.splitlines()) <= 300, path
    for node in ast.walk(ast.parse(source)):
      if isinstance(node, ast.FunctionDef) and node.name not in MANY_ARGUMENTS:
        given = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
        assert len(given) <= 8, f"{path}: {node.name}"


def test_the_library_imports_nothing_heavy():
  found = subprocess.run(
    [sys.executable, "-c", "import sys, tcljax; print(*{m.split('.')[0] for m in sys.modules})"],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert not HEAVY & set(found.split())
