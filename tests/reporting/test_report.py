"""Pages of made-up results: whole, harmless, needing nothing else; they say what they leave out."""

import dataclasses
import errno
import html.parser
import json
import pathlib
import re

import jax
import numpy as np
import pytest
from browsing import check_page, needs_chromium

import tcljax
from tcljax.evaluation.accuracy import Evaluation
from tcljax.evaluation.cost_figures import Costs, LayerCosts
from tcljax.evaluation.diagnosis import Diagnosis
from tcljax.evaluation.portrait import Portrait
from tcljax.files import FileError
from tcljax.models import VGG
from tcljax.reporting import report
from tcljax.reporting.findings import Findings

T = 8
HOSTILE = '"><script src=https://evil.example></script><img src=x onerror=alert(2)>'
CLASSES = (HOSTILE, "$\\frac{1}{0}$ & \x00\x1b", "\u65e5\u672c \ud83d\ude00")


@pytest.fixture(scope="module")
def network():
  model = VGG(num_classes=3, stages=((4,), (4,)), dense=(), act=tcljax.TCL)
  images = np.zeros((1, 4, 4, 1), np.float32)
  variables = model.init(jax.random.key(0), images)
  return tcljax.convert(model, variables, (4, 4, 1), tcljax.SpikingConfig(T))


def evaluation(**changes):
  up = np.linspace(20, 90, T)
  counts = np.array([[5, 1, 0], [0, 6, 0], [2, 0, 4]])
  rates = {"act1_1": 0.25, "act2_1": 0.5}
  found = Evaluation(18, 91.0, 90.0, up, up + 1, up / 50, rates, confusion={T: counts})
  return dataclasses.replace(found, **changes)


def made_up(of_network, /, **changes):
  rng = np.random.default_rng(0)
  names = ("act1_1", "act2_1")
  layer = LayerCosts(
    "conv", ("act1_1",), True, 90, 80, 64, False, np.ones(T), np.ones(T), np.ones(T), 80.0, 0.0
  )
  given = {
    "name": HOSTILE,
    "data": HOSTILE,
    "time_steps": T,
    "evaluation": evaluation(),
    "thresholds": {name: rng.uniform(1, 2, 4) for name in names},
    "class_names": CLASSES,
    "network": of_network,
    "operations": f"operation  fate\n{HOSTILE}  affine\n",
    "costs": Costs(
      9, T, {"conv:1": layer}, {"act1_1": 64}, *[{"act1_1": np.ones(T)}] * 2, 400, 0.1
    ),
    "portrait": Portrait(
      images=9,
      time_steps=T,
      neurons={"act1_1": 64, "act2_1": 16},
      diagnosis={
        "act1_1": Diagnosis(0.5, 0, 0, 0.1, 0.2, 0.1, 0, 0),
        "act2_1": Diagnosis(0.5, 0.2, 0, 0.4, 0.1, 0.1, 0, 0),
      },
      activations={name: rng.uniform(0, 1.5, 200) for name in names},
      rates={name: rng.uniform(0, 1, 200) for name in names},
      neuron_rates={name: rng.uniform(0, 1, 64) for name in names},
      answers=rng.normal(size=(T, 9, 3)).cumsum(axis=0),
    ),
    "images": rng.integers(0, 255, (9, 4, 4, 1), dtype=np.uint8),
    "labels": rng.integers(0, 3, 9),
    "margin": 1.5,
    "records": [{"phase": HOSTILE, "step": k, "loss": 1 / k, "accuracy": 50.0} for k in (1, 2, 3)],
    "earlier": {"calibrated": dict.fromkeys(range(1, T + 1), 30.0)},
    "made": {HOSTILE: {HOSTILE: HOSTILE}},
  }
  return Findings(**{**given, **changes})


class Seen(html.parser.HTMLParser):
  """What stands in a page."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.ids, self.links, self.text, self.attributes = [], [], [], [], set()
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      self.attributes.add(name)
      if name == "id":
        self.ids.append(value)
      if name in ("href", "src"):
        self.links.append(value)

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture(scope="module")
def whole(network, tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole")
  path = report.write_report(folder, made_up(network))
  text = path.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
  return path, text, Seen(text)


def test_it_needs_nothing_else(whole):
  path, text, seen = whole
  assert not {"script", "link", "iframe", "object", "embed", "form", "img", "base"} & {*seen.tags}
  assert not [name for name in seen.attributes if name.startswith("on")]
  inside = re.compile(r"#[\w.-]+|figures/\w+\.(png|json)|data:image/png;base64,[\w+/= ]+")
  assert [link for link in seen.links if not inside.fullmatch(link)] == []
  for link in {link for link in seen.links if link.startswith("figures/")}:
    assert (path.parent / link).is_file()
  assert not re.search(r"url\((?!#)|@import", text)
  # What a user named stands there as text.
  assert text.count("https://") == text.count("https://evil.example") > 0
  assert "default-src 'none'" in text and '<html lang="en">' in text
  assert path.stat().st_size < 2**20


@pytest.mark.slow
@needs_chromium
def test_a_browser_has_nothing_to_complain_of(whole, tmp_path):
  check_page(whole[0], tmp_path)


def test_what_a_user_named_is_text(whole):
  _, text, seen = whole
  assert "<script" not in text and "<img" not in text
  assert HOSTILE in "".join(seen.text) and "\x00" not in text and "\x1b" not in text


def test_people_find_their_way(whole):
  _, text, seen = whole
  anchors = [link[1:] for link in seen.links if link.startswith("#")]
  assert {*anchors} <= {*seen.ids} and len(seen.ids) == len({*seen.ids})
  assert seen.tags.count("h1") == 1 and seen.tags.count("h2") == seen.tags.count("section") - 1
  assert text.count('<p class="says">') == seen.tags.count("h2")
  pictures = re.findall(r'<svg viewBox="[^"]+" role="img" aria-labelledby="([\w-]+)"><title', text)
  assert len(pictures) == seen.tags.count("svg") == 10
  assert {*pictures} <= {*seen.ids}
  assert "Left out" not in text
  assert "prefers-color-scheme:dark" in text and "@media print" in text


def test_each_figure_has_its_files(whole):
  path, text, _ = whole
  beside = path.parent / "figures"
  names = {file.stem for file in beside.iterdir()}
  assert names == {
    *("learning", "accuracy", "energy", "error_by_layer", "rates", "distributions", "confusion"),
    *("costs", "answers", "graph"),
  }
  for name in names:
    assert (beside / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((beside / f"{name}.json").read_text())
    assert f'id="figure-{name}-title"' in text
  assert json.loads((beside / "confusion.json").read_text())["counts"][2] == [2, 0, 4]
  error = json.loads((beside / "error_by_layer.json").read_text())
  # 0.06 and 0.18 are the squares of what the two layers add themselves.
  assert [round(layer["share"]) for layer in error] == [25, 75]


def test_the_verdict_says_when_hardware_has_the_answer(whole):
  verdict = whole[1].partition('<p class="verdict">')[2].partition("</p>")[0]
  assert "the answer of T steps comes after T + 2, that of 8 after 10." in verdict


def test_the_worst_layer_comes_first(whole):
  _, text, _ = whole
  assert "Stage 2, layer 1 adds 75 % of it: activations are cut off at the threshold" in text
  assert text.index("Stage 2, layer 1") < text.index("Stage 1, layer 1 adds 25 %")
  assert (
    "The spiking network loses a little: 90.00 % after 8 steps, where its ANN has 91.00 %" in text
  )


@pytest.fixture
def undrawn(monkeypatch):
  """Figures are made and not written, which takes most of the time."""
  monkeypatch.setattr(report, "written", lambda drawn: ("", b""))


def sections(found):
  """The titles of the sections of a page, and what it says of those that are left out."""
  text, figures = report.made_of(found)
  said = html.unescape(text.partition('id="left-out"')[2])
  return re.findall(r"<h2[^>]*>([^<]+)", text), re.findall(r"<li>([^<]+)", said), figures


def test_a_network_that_cannot_be_converted_has_a_page_that_says_why(network, undrawn):
  nothing = dict.fromkeys(("network", "costs", "portrait", "margin", "images", "labels"))
  why = "the network cannot be converted: of a weight, NaN"
  titles, missing, figures = sections(made_up(network, operations="", unconverted=why, **nothing))
  assert titles[0] == "Learning curves" and titles[-1] == "Left out"
  assert [*figures] == ["learning", "accuracy", "distributions", "confusion"]
  named = "The error's split, Costs, Answers over time, The graph, Operations"
  assert missing == [f"{named}: {why}."]


def test_a_page_is_of_a_run_or_of_a_network(network, undrawn):
  def page(**changes):
    text, _ = report.made_of(made_up(network, name="n", **changes))
    return re.findall(r"<h1>([^<]+)", text), "".join(re.findall(r"<li>(Learn[^<]+)", text))

  assert page() == (["n: training"], "")
  title, said = page(records=None)
  assert title == ["n: spiking network"]
  assert "Learning curves: they belong to the report of train.py" in said
  title, said = page(records=[])
  assert title == ["n: training"] and "Learning curves: no steps of training are recorded" in said


def test_quantities_have_distances_and_no_classes(network, undrawn):
  nan = np.full(T, np.nan)
  one = evaluation(
    ann=np.nan, clipped=np.nan, snn=nan, agreement=nan, error=1 / np.arange(1, T + 1)
  )
  one = dataclasses.replace(one, confusion={})
  looked = dataclasses.replace(made_up(network).portrait, diagnosis={})
  _, missing, figures = sections(made_up(network, evaluation=one, portrait=looked, labels=None))
  assert "error" in figures and not {"accuracy", "energy", "confusion", "answers"} & {*figures}
  told = " ".join(missing)
  for words in (
    "confusion matrix: it is of one class",
    "Poisson input has no error",
    "not answer with one",
  ):
    assert words in told
  several = {name: {"error": one.error} for name in ("box", HOSTILE)}
  text, figures = report.made_of(
    made_up(network, evaluation=dataclasses.replace(one, by_output=several))
  )
  assert [*json.loads(figures["error"][1])] == ["box", HOSTILE] and "<script" not in text


def test_without_labels_the_ann_is_what_is_compared_with(network, undrawn):
  nan = np.full(T, np.nan)
  one = evaluation(ann=np.nan, clipped=np.nan, snn=nan, confusion={})
  text, figures = report.made_of(made_up(network, evaluation=one, labels=None, earlier={}))
  said = "There are no labels. After 8 steps the spiking network answers as its ANN in 91.00"
  assert said in text
  assert "accuracy" in figures and "energy" not in figures and "answers" in figures


def test_many_classes_have_a_table(network, undrawn):
  counts = np.diag(np.arange(30)).astype(int)
  counts[3, 7], counts[4, 1] = 9, 2
  one = evaluation(confusion={4: counts, 16: counts * 0})
  text, figures = report.made_of(made_up(network, evaluation=one, class_names=()))
  assert "confusion" not in figures and "Answers after 4 steps." in text
  rows = re.findall(r'<tr><th scope="row">(\d+)</th><td>(\d+)</td><td>(\d+)</td>', text)
  assert rows == [("3", "7", "9"), ("4", "1", "2")]


def test_a_report_is_replaced_and_what_is_not_of_it_stays(network, tmp_path, undrawn):
  old = tmp_path / "report" / "figures"
  old.mkdir(parents=True)
  for name in ("older.png", "older.json", "accuracy.png.partial", "notes.txt"):
    (old / name).write_text("x")
  report.write_report(tmp_path, made_up(network, portrait=None, costs=None))
  left = {file.name for file in old.iterdir()}
  assert "notes.txt" in left and "older.png" not in left and "accuracy.png" in left
  assert "accuracy.png.partial" not in left


def test_a_figure_that_cannot_be_written_stays_as_it_was(network, tmp_path, undrawn, monkeypatch):
  found, figures = made_up(network, portrait=None, costs=None), tmp_path / "report" / "figures"
  report.write_report(tmp_path, found)
  for path in figures.glob("*.png"):
    path.write_bytes(b"whole")

  def halfway(path, data):
    path.open("wb").close()
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_bytes", halfway)
  with pytest.raises(FileError, match="make room on the disk"):
    report.write_report(tmp_path, found)
  assert {path.read_bytes() for path in figures.glob("*.png")} == {b"whole"}
  assert not [*figures.glob("*.partial")]
