"""The parts of a report by hand: who leaves when, which boxes there are, what stands in words."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import tcljax
from tcljax.evaluation.diagnosis import Diagnosis
from tcljax.reporting import answers, drawing, figures, graph_picture, tables, verdicts
from tcljax.reporting.graph_picture import Box


def test_images_leave_when_their_margin_is_wide_enough():
  # Margins of three images over four steps: 1 2 3 4, 0 0 5 5, 0 1 1 1; a single output is a margin.
  given = np.array([[1, 0, 0], [2, 0, 1], [3, -5, 1], [4, -5, 1]], float)[..., None]
  found = answers.exits(given, 3.0, 0, np.array([1, 0, 0]))
  assert found.leave.tolist() == [3, 3, 4] and found.last.tolist() == [1, 0, 1]
  assert found.chosen == [0, 1, 2] and found.logits.shape == (4, 3, 2)
  assert answers.exits(given, 0.0, 2, None).leave.tolist() == [3, 3, 3]
  assert answers.exits(given, np.inf, 9, None).leave.tolist() == [4, 4, 4]


def test_what_is_shown_is_early_late_and_wrong():
  given = np.zeros((12, 20, 2))
  for k in range(20):
    given[k % 12 :, k, 0] = 2.0
  labels = np.zeros(20, int)
  labels[[5, 6, 7]] = 1
  found = answers.exits(given, 1.0, 0, labels)
  assert found.chosen == [0, 12, 5, 6, 10, 11]


def test_pictures_of_any_channels():
  image = np.arange(2 * 4 * 4 * 2).reshape(2, 4, 4, 2)
  summed = answers.picture_of(image)
  assert summed.shape == (4, 4) and (summed.min(), summed.max()) == (0, 255)
  color = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
  np.testing.assert_array_equal(answers.picture_of(color), color)
  assert answers.picture_of(color[..., :1]).shape == (4, 4)
  for none in (np.zeros(5), np.zeros((4, 1)), np.full((4, 4, 1), np.nan)):
    assert answers.picture_of(none) is None


class Residual(nn.Module):
  """A block with a shortcut, whose last layer is read twice."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    x = self.act(name="a")(nn.Conv(2, (3, 3), name="one")(x))
    y = self.act(name="b")(nn.Conv(2, (3, 3), name="two")(x))
    y = nn.Conv(2, (1, 1), name="three")(y)
    x = self.act(name="c")(x + y) + self.act(name="d")(y)
    return nn.Dense(3, name="head")(x.mean(axis=(1, 2)))


def test_boxes_of_a_block_with_a_shortcut():
  model, images = Residual(), np.zeros((1, 4, 4, 1), np.float32)
  variables = model.init(jax.random.key(0), images)
  clipping = {n: {"raw_threshold": np.float32(1), "v_init": np.float32(0)} for n in "abcd"}
  network = tcljax.convert(model, {**variables, "clipping": clipping}, (4, 4, 1))
  found = {box.name: box for box in graph_picture.boxes(network)}
  assert [*found] == ["input:0", "a", "b", "conv:3", "c", "d", "output"]
  assert found["a"].reads == (("input:0", True),) and found["a"].note.startswith("conv 3")
  assert dict(found["c"].reads) == {"a": False, "conv:3": False}
  assert found["conv:3"].reads == (("b", True),) and found["output"].kind == "output"
  assert dict(found["output"].reads) == {"c": True, "d": True}
  rank = graph_picture.ranks([*found.values()])
  assert [rank[name] for name in found] == [0, 1, 2, 3, 4, 4, 5]
  lanes = graph_picture._lanes([*found.values()], rank)
  assert lanes == {("a", "c"): 1}


def test_edges_that_overlap_have_lanes_of_their_own():
  chain = [Box("0", "input", "", ())]
  chain += [Box(str(k), "neurons", "", ((str(k - 1), True),)) for k in range(1, 7)]
  far = {"3": "0", "6": "3", "5": "1"}
  chain = [
    Box(
      box.name, box.kind, "", (*box.reads, (far[box.name], False)) if box.name in far else box.reads
    )
    for box in chain
  ]
  lanes = graph_picture._lanes(chain, graph_picture.ranks(chain))
  assert lanes == {("0", "3"): 1, ("3", "6"): 1, ("1", "5"): 2}


@pytest.mark.parametrize(
  "name, words",
  [
    ("stem_act", "the stem"),
    ("stage3_block2.act1", "stage 3, block 2, activation 1"),
    ("stage3_block2/act1", "stage 3, block 2, activation 1"),
    ("act2_1", "stage 2, layer 1"),
    ("act_dense1", "dense layer 1"),
    ("relu:4", "layer relu:4"),
  ],
)
def test_layers_in_words(name, words):
  assert verdicts.layer_in_words(name) == words


def test_losses_are_shares_of_what_layers_add():
  silent = Diagnosis(np.inf, np.inf, 0, np.inf, 0, 0, 1, 0)
  found = verdicts.losses(
    {
      "a": Diagnosis(1, 0.9, 0, 0, 0.3, 0.1, 0, 0),
      "b": Diagnosis(1, 0, 0.3, 0, 0, 0, 0, 0),
      "c": silent,
    }
  )
  assert [(one.layer, round(one.share, 1), one.cause) for one in found] == [
    ("a", 52.6, "quantization"),
    ("b", 47.4, "pooling"),
  ]
  assert verdicts.losses({"a": Diagnosis(0, 0, 0, 0, 0, 0, 0, 0)}) == []
  frames = verdicts.worst_in_words(found, "frames", 1)
  assert frames == [
    "Layer a adds 53 % of it: so few time steps have too few levels; bin recordings into more "
    "frames, or tune for these."
  ]


def test_accuracy_in_words():
  snn = np.array([10.0, 50.0, 89.2, 91.0])
  assert verdicts.accuracy_in_words(90.0, snn, 2) == (
    "The spiking network loses 40.0 points: 50.00 % after 2 steps, where its ANN has 90.00 %. "
    "It comes within one point of the ANN after 3 steps."
  )
  told = verdicts.accuracy_in_words(99.0, snn, 64)
  assert "91.00 % after 4 steps" in told and told.endswith(
    "within one point of the ANN in 4 steps."
  )


def test_latency_in_words():
  told = "On hardware that takes a step for each layer, the answer of T steps comes after T + 5"
  assert verdicts.latency_in_words(5) == f"{told}."
  assert verdicts.latency_in_words(5, 8) == f"{told}, that of 8 after 13."


def test_why_a_network_is_far_from_its_ann():
  assert verdicts.is_far(93.0, 90.9) and not verdicts.is_far(93.0, 91.1)
  told = verdicts.shortfall_in_words(93.0, 60.0, 85.0, 4, ["Layer a adds most."], "constant")
  assert told.startswith(
    "T = 4 is far from the ANN: 60.00 % where that has 93.00 %. If every spike came in time it "
    "would be 85.00 %, so most is lost to spikes that come too early or too late.\n"
    "The error of the firing rates:\n  Layer a adds most.\nWhat helps: more time steps; tuning"
  )
  told = verdicts.shortfall_in_words(93.0, 60.0, 65.0, 4, [], "frames")
  assert "65.00 %, so most is lost as 4 steps have too few levels.\nWhat helps: recordings" in told
  told = verdicts.shortfall_in_words(93.0, 76.0, 67.0, 4, [], "constant")
  assert "in time it would be 67.00 %, which gains nothing: these thresholds suit" in told


def test_long_names_are_cut_in_the_middle():
  assert drawing.label("a" * 22) == "a" * 22
  cut = drawing.label("stage1_block1.activation_of_it")
  assert len(cut) == 22 and cut.startswith("stage1") and cut.endswith("of_it")


def test_no_axis_of_an_accuracy_goes_beyond_all():
  flat = [{"phase": "ann", "step": k, "loss": 1.0, "accuracy": 100.0} for k in (1, 2)]
  low = [{"phase": "tuned", "step": k, "loss": 1.0, "accuracy": 20.0 * k} for k in (1, 2)]
  drawn = figures.learning(flat + low)
  tops = [axes.get_ylim()[1] for axes in drawn.figure.axes]
  assert 100 < tops[1] < 101 and 40 < tops[3] < 45


def test_curves_look_alike_wherever_they_are_drawn(tmp_path, monkeypatch):
  """In accuracy.png, compare.png and the report: the last one blue, and no two the same."""
  made = drawing.new_figure(4, 6.4)
  monkeypatch.setattr(tables, "new_figure", lambda height, width: made)
  curves = {f"$x_{n}$": {2: 10.0 + n, 3: 20.0 + n, 8: 30.0 + n} for n in range(10)}
  tables.plot_curves(tmp_path / "accuracy.png", curves, "title", ann=50.0)
  with drawing.styled():
    of_report = figures.accuracy(curves, {"ANN": 50.0}).figure
  styles = [
    [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.get_lines()]
    for axes in (made.axes[0], of_report.axes[0])
  ]
  assert styles[0] == styles[1] and len({*styles[0]}) == 1 + len(curves)
  assert styles[0][-1] == (drawing.BLUE, "o", "-")
  assert {color for color, *_ in styles[0]} <= {*drawing.THEME}
  assert [label.get_text() for label in made.axes[0].get_xticklabels()] == ["2", "3", "8"]
  # A name is text, whatever it holds.
  assert not any(text.get_parse_math() for text in made.legends[0].get_texts())
