"""The ledger that all benchmarks share, and the rules for their files and results."""

import ast
import json
import pathlib

import pytest
from running import ROOT, load_benchmark

BENCHMARKS = ROOT / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
RUN = "python benchmarks/any.py"


@pytest.fixture
def ledger():
  return load_benchmark("ledger")


def table(found):
  return f"{len(found['rows'])} rows, {found.get('ann')}"


def made(ledger, output, command=RUN, **how):
  return ledger.Ledger(
    output, command, table, key=lambda row: row["T"], order=lambda row: row["T"], **how
  )


def test_rows_of_the_same_command_are_known_added_to_and_replaced(tmp_path, ledger):
  output = tmp_path / "new" / "table"
  first = made(ledger, output)
  first.shared = {"ann": 90.0}
  first.add([{"T": 8, "value": 1}, {"T": 4, "value": 2}])
  first.write()
  second = made(ledger, output)
  second.take_known()
  assert second.rows == [{"T": 4, "value": 2}, {"T": 8, "value": 1}] and second.shared["ann"] == 90
  second.add([{"T": 6, "value": 3}, {"T": 8, "value": 4}])
  second.write()
  found = json.loads((tmp_path / "new" / "table.json").read_text())
  assert [(row["T"], row["value"]) for row in found["rows"]] == [(4, 2), (6, 3), (8, 4)]
  assert list(found) == ["command", "machine", "ann", "rows"] and "jax" in found["machine"]
  text = (tmp_path / "new" / "table.md").read_text()
  assert text == f"3 rows, 90.0\n\n```bash\n{RUN}\n```\n\n{found['machine']}\n"


def test_rows_of_another_command_are_not_known_unless_its_flags_do_not_matter(tmp_path, ledger):
  first = made(ledger, tmp_path / "table", f"{RUN} --a=1 --b=1")
  first.shared = {"ann": 90.0}
  first.add([{"T": 4}, {"T": 8}])
  first.write()
  other = made(ledger, tmp_path / "table", f"{RUN} --a=1 --b=2")
  other.take_known()
  assert other.rows == [] and other.shared == {}
  other.take_known(lambda row, flag: not flag.startswith("--b") or row["T"] == 8)
  assert other.rows == [{"T": 4}] and other.shared == {"ann": 90.0}


def test_machines_that_made_a_table_together_are_all_named(tmp_path, ledger, monkeypatch):
  for machine, row in (("A", {"T": 4}), ("B", {"T": 8}), ("B", {"T": 8})):
    monkeypatch.setattr(ledger, "machine", lambda machine=machine: machine)
    one = made(ledger, tmp_path / "table")
    one.take_known()
    one.add([row])
    one.write()
    found = json.loads((tmp_path / "table.json").read_text())
    assert found["machine"] == ("A" if machine == "A" else "A / B")
  one = made(ledger, tmp_path / "table")
  one.take_known()
  one.add([{"T": 4}, {"T": 8}])  # nothing of A is left
  one.write()
  assert json.loads((tmp_path / "table.json").read_text())["machine"] == "B"


@pytest.mark.parametrize(
  "text",
  [
    "{",
    "[1]",
    "{}",
    '{"command": "x", "machine": "A", "rows": [{"T": "a"}, {"T": 1}]}',
    '{"command": "x", "machine": "A", "rows": [1]}',
  ],
)
def test_a_damaged_file_is_told_and_kept(tmp_path, ledger, text):
  (tmp_path / "table.json").write_text(text)
  with pytest.raises(SystemExit, match=r"table.json cannot be read: .*; remove it to measure anew"):
    made(ledger, tmp_path / "table").take_known(lambda row, flag: False)
  assert (tmp_path / "table.json").read_text() == text


def test_a_command_names_what_is_not_by_default(ledger):
  flags = ledger.parser("What it does.", "any")
  flags.add_argument("--rounds", type=int, default=5)
  flags.add_argument("--batch_size", type=int, default=1)
  args = flags.parse_args(["--rounds=5", "--batch_size=2", "--output=elsewhere"])
  assert ledger.command_of("any", flags, args) == f"{RUN} --batch_size=2"
  assert flags.get_default("output") == BENCHMARKS / "results" / "any"


def test_places_are_written_by_their_variables(ledger, monkeypatch):
  monkeypatch.setenv("TCLJAX_WEIGHTS_DIR", "/some/where")
  assert ledger.portable("--pretrained=/some/where/a.th") == "--pretrained=$TCLJAX_WEIGHTS_DIR/a.th"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_are_those_of_a_script_and_its_table(ledger, path):
  found = json.loads(path.read_text())
  name = path.stem.partition("-")[0]  # what follows says of which network or neurons it is
  script = load_benchmark(name)
  assert found["command"].split()[:2] == ["python", f"benchmarks/{name}.py"]
  assert path.with_suffix(".md").read_text() == ledger.document(found, script.markdown)


def test_every_table_has_its_figures():
  written = [path.name for path in (BENCHMARKS / "results").glob("*.*")]
  # A table with thresholds has a second picture.
  second = {
    f"{path.stem}-thresholds.png"
    for path in RESULTS
    if any("threshold" in row for row in json.loads(path.read_text())["rows"])
  }
  assert second <= {*written}
  assert {pathlib.Path(name).stem for name in {*written} - second} == {p.stem for p in RESULTS}


def test_no_benchmark_has_the_name_of_a_module():
  modules = {path.stem for path in (ROOT / "tcljax").rglob("*.py")}
  assert not modules & {path.stem for path in BENCHMARKS.glob("*.py")}


def test_every_script_says_how_it_is_run():
  for path in BENCHMARKS.glob("*.py"):
    source = path.read_text()
    assert len(source.splitlines()) <= 300, path
    if "__main__" in source:
      docstring = ast.get_docstring(ast.parse(source))
      assert f"\n    python benchmarks/{path.name}" in docstring, path


def test_links_to_results_lead_somewhere():
  for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
    for part in page.read_text().split("benchmarks/")[1:]:
      name = part.split()[0].split(")")[0].split("`")[0].split("]")[0].rstrip(".,;")
      assert (BENCHMARKS / name).exists(), f"{page.name}: benchmarks/{name}"
