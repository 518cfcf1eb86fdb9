"""The sections of a report: of each its figures, tables and words, or why it is left out."""

from collections.abc import Callable

import numpy as np

from tcljax.reporting import answers, figures, graph_picture, page, verdicts
from tcljax.reporting.findings import Findings
from tcljax.reporting.layer_sections import costs, error, layers
from tcljax.reporting.page import Draw, LeftOut, Section


def lead(found: Findings) -> list[str]:
  """The numbers and the verdict that stand before all sections."""
  evaluation, at = found.evaluation, found.at
  said, numbers = [], [("time steps T", str(found.time_steps))]
  if found.has_accuracy:
    numbers += [
      ("ANN", f"{evaluation.ann:.2f} %"),
      ("clipped ANN", f"{evaluation.clipped:.2f} %"),
      (f"SNN, T = {at}", f"{evaluation.snn[at - 1]:.2f} %"),
    ]
    said.append(verdicts.accuracy_in_words(evaluation.ann, evaluation.snn, found.time_steps))
  if found.has_agreement:
    agreement = f"{evaluation.agreement[at - 1]:.2f} %"
    numbers.append(("agrees with the ANN", agreement))
    if not found.has_accuracy:
      said.append(
        f"There are no labels. After {verdicts.steps(at)} the spiking network answers as its ANN "
        f"in {agreement} of the cases."
      )
  if evaluation.mean_iou:
    numbers.append(("mean IoU of the SNN", f"{evaluation.mean_iou['snn'][at - 1]:.2f} %"))
  if evaluation.error is not None:
    error = f"{100 * evaluation.error[at - 1]:.2f} %"
    numbers.append((f"distance from the ANN, T = {at}", error))
  if evaluation.error is not None and not found.has_agreement:
    said.append(
      f"After {verdicts.steps(at)} the outputs lie {error} of their size away from those of the "
      "ANN."
    )
  numbers.append(("spikes a neuron", f"{evaluation.spikes_per_neuron[at - 1]:.3f}"))
  if found.costs is not None:
    plain = found.costs.energy("arithmetic")
    last = min(at, found.costs.time_steps)
    snn = float(plain["snn"][last - 1])
    numbers.append(("energy of an image", f"{snn:.3g} µJ"))
    said.append(verdicts.energy_in_words(snn, plain["ann"], plain["ann_int8"], last))
  if found.network is not None:
    said.append(verdicts.latency_in_words(found.network.depth, found.time_steps))
  verdict = f'<p class="verdict">{page.escaped(" ".join(said))}</p>' if said else ""
  return [f'<p class="data">{page.escaped(found.data)}</p>', page.tiles(numbers), verdict]


def learning(found: Findings, draw: Draw) -> Section:
  """How the run learned."""
  if found.records is None:
    raise LeftOut("they belong to the report of train.py, which has the records of training")
  if not found.records:
    raise LeftOut("no steps of training are recorded in metrics.jsonl")
  says = (
    "The loss should fall and level off; where it still falls at the end, more steps would help."
  )
  return Section("learning", "Learning curves", says, [draw(figures.learning(found.records))])


def accuracy(found: Findings, draw: Draw) -> Section:
  """The answers against time and energy."""
  evaluation, parts = found.evaluation, []
  says = "The curve of the spiking network should reach the lines of its ANN within few time steps."
  by_step = lambda values: dict(enumerate(map(float, values), 1))
  if found.has_accuracy:
    lines = {
      f"ANN ({evaluation.ann:.2f} %)": evaluation.ann,
      f"clipped ANN ({evaluation.clipped:.2f} %)": evaluation.clipped,
    }
    curves = {f"SNN, {name}": curve for name, curve in found.earlier.items()}
    parts.append(draw(figures.accuracy({**curves, "SNN": by_step(evaluation.snn)}, lines)))
  elif found.has_agreement:
    curves = {"SNN": by_step(evaluation.agreement)}
    parts.append(draw(figures.accuracy(curves, {}, "agreement with the ANN")))
    says = "The spiking network should agree with its ANN within few time steps."
  errors = {name: of["error"] for name, of in evaluation.by_output.items() if "error" in of}
  if not errors and evaluation.error is not None:
    errors = {"output": evaluation.error}
  if errors:
    parts.append(draw(figures.error(errors)))
    says = (
      "The distance of the outputs from those of the ANN should fall with time."
      if not found.has_agreement
      else says
    )
  if found.costs is not None and found.has_accuracy:
    models = {model: found.costs.energy(model) for model in ("arithmetic", "memory")}
    steps = min(len(evaluation.snn), found.costs.time_steps)
    for of in models.values():
      of["snn"] = of["snn"][:steps]
    parts.append(draw(figures.energy(evaluation.snn[:steps], evaluation.ann, models)))
    says += " Against energy, what lies left of the ANN and as high saves energy."
  return Section("accuracy", "Accuracy against time and energy", says, [page.side_by_side(parts)])


def confusion(found: Findings, draw: Draw) -> Section:
  """What is taken for what."""
  counted = found.evaluation.confusion
  if not counted:
    raise LeftOut("it is of one class for each image, with labels, and of at most 1024 classes")
  at = max((t for t in counted if t <= found.time_steps), default=min(counted))
  counts = np.asarray(counted[at])
  after = f"Answers after {verdicts.steps(at)}."
  if len(counts) <= figures.MOST_CLASSES:
    names = [found.class_name(k) for k in range(len(counts))]
    says = (
      "What is right lies on the diagonal; what lies elsewhere is taken for something else. "
      f"{after}"
    )
    return Section("confusion", "Confusion matrix", says, [draw(figures.confusion(counts, names))])
  of = counts.sum(axis=1)
  rows = [
    (found.class_name(i), found.class_name(j), n, f"{100 * n / max(1, of[i]):.1f} %")
    for i, j, n in figures.confusions(counts)
  ]
  says = f"The pairs of classes that are confused most often. {after}"
  if not rows:
    return Section("confusion", "Confusions", says, [page.paragraph("There are none.")])
  titles = ("label", "taken for", "images", "share of the label")
  return Section(
    "confusion", "Confusions", says, [page.table(titles, rows, "Most frequent confusions")]
  )


def examples(found: Findings, draw: Draw) -> Section:
  """Single images and their answers over time."""
  if found.network is None or found.portrait is None:
    raise LeftOut(found.unconverted)
  given, margin = found.portrait.answers, found.margin
  if given is None or margin is None or not found.has_agreement:
    raise LeftOut("the network does not answer with one class for each image")
  looked = answers.exits(given, margin, found.network.spiking.delay, found.labels)
  images = found.images if isinstance(found.images, np.ndarray) else None  # not several arrays
  pictures = [None if images is None else answers.picture_of(images[k]) for k in looked.chosen]
  names = [found.class_name(k) for k in range(looked.logits.shape[-1])]
  drawn = answers.over_time(looked, pictures, names)
  says = (
    "An answer is settled when its curve is well above the others; then early exit lets the image "
    "go. Of the first test images these are two that leave first, two that leave last, and up to "
    "two that are answered wrongly."
  )
  mean = (
    f"Of {len(looked.leave)} images the mean is {looked.leave.mean():.1f} of {len(looked.logits)} "
    "steps"
  )
  if not np.isfinite(looked.margin):
    told = f"{mean}: no margin leaves the answers of the training images as they are."
  else:
    told = f"{mean}, at a margin of {looked.margin:.4g}, chosen on training images."
  return Section("answers", "Answers over time", says, [draw(drawn), page.paragraph(told)])


def graph(found: Findings, draw: Draw) -> Section:
  """The graph as a picture."""
  if found.network is None:
    raise LeftOut(found.unconverted)
  boxes = graph_picture.boxes(found.network)
  says = (
    "Each box is a population of neurons with the layers that lead to it. Solid arrows pass "
    "weights, dashed ones, such as shortcuts, do not."
  )
  if len(boxes) > graph_picture.MOST_BOXES:
    rows = [
      (box.name, box.kind, box.note, ", ".join(name for name, _ in box.reads)) for box in boxes
    ]
    held = page.table(("name", "kind", "what", "reads"), rows, "Populations, and what they read")
    says = f"Its {len(boxes)} populations are too many for a picture."
    return Section("graph", "Graph of the network", says, [page.details("As a table", held)])
  svg = draw(graph_picture.picture(boxes))
  return Section(
    "graph",
    "Graph of the network",
    says,
    [f'<div class="tall" tabindex="0" role="region" aria-label="Graph">{svg}</div>'],
  )


def operations(found: Findings, draw: Draw) -> Section:
  """The fate of each operation."""
  if not found.operations:
    raise LeftOut(found.unconverted)
  lines = found.operations.splitlines()
  inner = page.preformatted(found.operations, "Operations")
  says = "What became of each operation of the model: nothing but populations computes with spikes."
  return Section(
    "operations", "Operations", says, [page.details(f"All {len(lines) - 1} lines", inner)]
  )


def made(found: Findings, draw: Draw) -> Section:
  """How the network was made."""
  parts = []
  for title, values in found.made.items():
    rows = [(name, value) for name, value in values.items()]
    parts.append(page.details(title, page.table(("name", "value"), rows, title)))
  says = "With this config, these versions and this command the same numbers come out again."
  return Section("made", "How it was made", says, parts)


# In their order, with the names of those that may be left out.
SECTIONS: tuple[tuple[str, Callable[[Findings, Draw], Section]], ...] = (
  ("Learning curves", learning),
  ("Accuracy", accuracy),
  ("The error's split", error),
  ("Layers", layers),
  ("The confusion matrix", confusion),
  ("Costs", costs),
  ("Answers over time", examples),
  ("The graph", graph),
  ("Operations", operations),
  ("How it was made", made),
)
