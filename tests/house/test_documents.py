"""README, guides and docstrings hold: examples run, commands parse, links lead to files."""

import argparse
import ast
import doctest
import pathlib
import re
import shutil
import subprocess

import jax
import pytest
from running import ROOT, load_benchmark

import tcljax
from tcljax.commands import compare, convert, train
from tcljax.commands.arguments import Command
from tcljax.runs.config_forms import base_config, parse
from tcljax.runs.standings import METHODS

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_FENCE = re.compile(r"(<!-- not run: [^>]+-->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`(python (?:train|convert|benchmarks/)[^`]+|tcljax-\w+ [^`]+)`")
_OVERRIDES = re.compile(r"`(--config\.[a-z][^`]+)`")
_COMMANDS = {
  "train.py": train.main,
  "convert.py": convert.main,
  "tcljax-train": train.main,
  "tcljax-convert": convert.main,
  "tcljax-compare": compare.main,
}
_OTHERS = {"pip", "tfds", "mkdocs"}  # not ours


def blocks(page, language):
  """The code blocks of a page in a language, but for those that say why they are not run."""
  return [
    code
    for skipped, name, code in _FENCE.findall(page.read_text())
    if name == language and not skipped
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  "page",
  [page for page in PAGES[1:] if blocks(page, "python")],
  ids=lambda page: str(page.relative_to(ROOT)),
)
def test_snippets_run(page, workdir, tmp_path, monkeypatch):
  """Those of one page in their order, each with the names of those before it."""
  code = blocks(page, "python")
  monkeypatch.chdir(tmp_path)
  if any("runs/digits-snn" in snippet for snippet in code):  # as the page has just made it
    shutil.copytree(workdir, "runs/digits")
    flags = ("--workdir=runs/digits", "--output=runs/digits-snn", "--noreport")
    assert convert.main(["convert.py", *flags]) == 0
  names = {"__name__": "snippet"}
  # Other frameworks add arrays of unlike ranks.
  with jax.numpy_rank_promotion("allow" if page.parent.name == "frameworks" else "raise"):
    for snippet in code:
      exec(compile(snippet, page.name, "exec"), names)


def test_the_example_of_the_readme_converts(tmp_path, monkeypatch, capsys):
  [example] = blocks(README, "python")
  monkeypatch.chdir(tmp_path)
  exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
  spiking, ann = map(float, re.findall(r"\d\.\d+", capsys.readouterr().out))
  assert ann > 0.9 and abs(spiking - ann) < 0.03


def command_lines(page):
  """The commands of a page, as a shell would hand them over: lists of arguments."""
  found = list(map(words, blocks(page, "bash")))
  text = _FENCE.sub("", page.read_text())
  found += [words(span) for span in _SPAN.findall(text)]
  overrides = [f"python train.py --config=configs/digits.py {o}" for o in _OVERRIDES.findall(text)]
  return [argv for argvs in [*found, *map(words, overrides)] for argv in argvs]


def words(script):
  """What bash calls in this script, with variables replaced; nothing of it runs."""
  record = "command_not_found_handle() { printf '%s\\x1f' \"$@\"; printf '\\x1e'; }\n"
  done = subprocess.run(
    ["/bin/bash", "-c", record + script],
    env={"PATH": "/nowhere", "HOME": "/home", "TFDS_DATA_DIR": "/data"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.stderr, done.stderr
  return [line.split("\x1f")[:-1] for line in done.stdout.split("\x1e")[:-1]]


class Parsed(Exception):
  """A benchmark has parsed its command line; the rest is for the commands that it runs."""


@pytest.fixture
def only_parse(monkeypatch):
  """Commands and benchmarks read their arguments and do nothing."""

  def run(command, prepare):
    flags = command.parse(*{"config", "workdir", "output"}.intersection(command.flags, given))
    if "config" in given:
      parse(flags.config)
    if "methods" in command.flags:
      assert set(flags.methods) <= set(METHODS)
      assert all(t.isdecimal() for t in flags.time_steps)
    return 0

  def parse_known_args(parser, args=None, namespace=None):
    raise Parsed(original(parser, args, namespace)[1])

  original, given = argparse.ArgumentParser.parse_known_args, set()
  monkeypatch.setattr(Command, "run", run)
  monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
  monkeypatch.chdir(ROOT)
  return given


def check_command(argv, given):
  """Raises what the command raises on arguments that it does not know."""
  program, *arguments = argv
  if program == "srun":  # what it starts on each node
    program, *arguments = (word for word in arguments if not word.startswith("--gpu"))
  if program == "python":
    program, *arguments = arguments
  given.clear()
  given.update(re.findall(r"--(\w+)=", " ".join(arguments)))
  if program in _COMMANDS:
    assert _COMMANDS[program]([program, *arguments]) == 0
  elif program.startswith("benchmarks/"):
    with pytest.raises(Parsed) as parsed:
      load_benchmark(pathlib.Path(program).stem).main(arguments)
    if overrides := parsed.value.args[0]:
      given.clear()  # these were flags of the benchmark itself
      given.add("config")
      assert train.main(["train.py", "--config=configs/resnet20.py", *overrides]) == 0
  elif program.startswith("examples/"):
    assert (ROOT / program).is_file() and not arguments, argv
  elif program == "gcloud":
    inner = [a.removeprefix("--command=") for a in arguments if a.startswith("--command=")]
    for line in (line for script in inner for line in words(script)):
      check_command(line, given)
  else:
    assert program in _OTHERS or [program, *arguments] == ["-m", "pytest"], argv


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_understood(page, only_parse):
  for argv in command_lines(page):
    check_command(argv, only_parse)


@pytest.mark.parametrize(
  "line",
  [
    "python train.py --config=configs/digits.py --config.tune.stepps=1",
    "python train.py --config=configs/digits.py:joined",
    "python convert.py --workdir=a --outputs=b",
    "tcljax-compare --config=configs/digits.py --methods=tuned-all",
    "python benchmarks/methods.py --pretrain=a",
    "python benchmarks/methods.py --pretrained=a --workdir=b --config.tune.batch_size=0",
    "python evaluate.py",
  ],
)
def test_a_wrong_command_is_found(line, only_parse):
  [argv] = words(line)
  with pytest.raises((AssertionError, ValueError, SystemExit)):
    check_command(argv, only_parse)


def headings(page):
  """What links to a page may name after #, as GitHub and MkDocs make it of the headings."""
  found = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
  return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_and_headings(page):
  text = _FENCE.sub("", page.read_text())
  for target, heading in re.findall(r"\]\(([^)#:\s]+)(?:#([\w-]+))?\)", text):
    assert (page.parent / target).is_file(), target
    assert not heading or heading in headings(page.parent / target), heading


def test_the_readme_is_short():
  assert len(README.read_text().splitlines()) <= 120


def test_lines_are_short():
  for page in PAGES:
    assert [line for line in page.read_text().splitlines() if len(line) > 110] == [], page


def test_the_fields_of_a_config_are_listed():
  text = (ROOT / "docs" / "commands.md").read_text()
  sections, optimizers = text[text.index("### General") :].split("### Optimizers")
  listed = dict(re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", sections, re.MULTILINE))
  header, *rows = (re.findall(r"`([^`]+)`", row) for row in optimizers.split("\n") if "| `" in row)
  for field, *values in rows:
    listed |= {f"{at}.{field}": value for at, value in zip(header, values, strict=True)}
  fields = {path: repr(value) for path, value in flat(base_config().to_dict())}
  assert listed == fields


def flat(tree, prefix=""):
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from flat(value, f"{prefix}{key}.")
    else:
      yield prefix + key, value


def test_the_reference_names_every_function():
  named = [
    name
    for page in (ROOT / "docs" / "api").glob("*.md")
    for name in re.findall(r"^::: tcljax\.(\w+)$", page.read_text(), re.MULTILINE)
  ]
  assert sorted(named) == sorted(tcljax.__all__)
  table = (ROOT / "docs" / "api" / "index.md").read_text()
  assert sorted(re.findall(r"`(\w+)`", table.partition("|---")[2])) == sorted(tcljax.__all__)


def docstrings(path):
  """Pairs of a name and a docstring, those of attributes too, with the line where it begins."""
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
      yield node.name, node.body[0].lineno, ast.get_docstring(node)
  for before, node in zip(tree.body, tree.body[1:], strict=False):
    if isinstance(before, ast.Assign) and isinstance(node, ast.Expr):
      yield before.targets[0].id, node.lineno, ast.literal_eval(node.value)


EXAMPLES = [
  (path, name, line, text)
  for path in sorted((ROOT / "tcljax").rglob("*.py"))
  for name, line, text in docstrings(path)
  if ">>>" in text
]


@pytest.mark.parametrize("path, name, line, text", EXAMPLES, ids=[e[1] for e in EXAMPLES])
def test_examples_in_docstrings_run(path, name, line, text, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  example = doctest.DocTestParser().get_doctest(text, {}, name, str(path), line)
  runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
  runner.run(example)
  assert not runner.summarize(verbose=False).failed


def test_every_public_name_has_an_example():
  assert set(tcljax.__all__) - {name for _, name, _, _ in EXAMPLES} == set()
