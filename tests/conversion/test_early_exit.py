"""Images that leave a simulation early, and the margin that lets them."""

import dataclasses
import json
from types import SimpleNamespace

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest
from browsing import CHROMIUM, check_page
from running import calibrate_plainly
from small_networks import Dense, calibrated, inputs

import tcljax
from tcljax.commands import convert
from tcljax.conversion import early_exit
from tcljax.conversion import network as conversion
from tcljax.runs import conversion_run
from tcljax.simulation.outputs import margins


@pytest.fixture(scope="module")
def network(vgg, images):
  model, variables = vgg
  variables = calibrate_plainly(model, variables, images, per_channel=True, percentile=99)
  return tcljax.convert(model, variables, (8, 8, 3), tcljax.SpikingConfig(time_steps=16))


@pytest.mark.parametrize(
  "spiking",
  [
    {"chunk": 4, "delay": 5},
    {"chunk": 4, "neuron": tcljax.Neuron(burst=2, signed=True)},
    {"chunk": 4, "neuron": tcljax.Neuron(phase=8)},
    *[
      pytest.param(one, marks=pytest.mark.slow)
      for one in ({}, {"delay": 3}, {"chunk": 4}, {"encoding": "poisson"})
    ],
  ],
)
def test_an_image_leaves_at_the_first_step_with_a_wide_margin(vgg, images, network, spiking):
  network = tcljax.SpikingNetwork(
    network.graph,
    network.variables,
    network.input_shape,
    tcljax.SpikingConfig(time_steps=16, **spiking),
  )
  x = np.concatenate([images, 2 * images, images[::-1] - 1])  # 48: the batch shrinks twice
  keys = jax.random.split(jax.random.key(0), len(x)) if "encoding" in spiking else None
  whole = np.stack(
    jax.jit(
      lambda x, keys: (
        tcljax.simulate(
          network.model,
          network.variables,
          x,
          network.spiking,
          keys=keys,
          observe=lambda chunk: chunk.logits,
        ).observed
      )
    )(x, keys)
  )
  gaps = np.sort(whole, axis=-1)
  gaps = gaps[..., -1] - gaps[..., -2]
  delay, chunk = network.spiking.delay, network.spiking.chunk or 1
  looks = [t for t in range(chunk, 17, chunk) if t > delay]
  margin = np.quantile(gaps[[t - 1 for t in looks]], 0.7)
  expected = [next((t for t in looks if gap[t - 1] >= margin), 16) for gap in gaps.T]
  assert len(set(expected)) >= 3

  found = tcljax.answer_early(network, x, margin, keys=keys)
  np.testing.assert_array_equal(found.time_steps, expected)
  np.testing.assert_allclose(
    found.logits, whole[np.array(expected) - 1, np.arange(48)], rtol=1e-4, atol=1e-4
  )


def test_with_an_unreachable_margin_all_stay_to_the_end(network, images):
  found = tcljax.answer_early(network, images, np.inf)
  assert set(found.time_steps) == {16}
  np.testing.assert_allclose(found.logits, network(images), rtol=1e-5, atol=1e-5)
  assert set(tcljax.answer_early(network, images, 0.0, time_steps=5).time_steps) == {1}


def test_the_batch_shrinks_by_halves(monkeypatch, network, images):
  sizes = []
  advance = early_exit._next_steps
  monkeypatch.setattr(
    early_exit, "_next_steps", lambda *args: (sizes.append(len(args[3])), advance(*args))[1]
  )
  x = np.concatenate([images] * 4 + [images[:4]])  # 68
  margin = np.quantile(margins(np.asarray(network(x))), 0.3)
  steps = tcljax.answer_early(network, x, margin).time_steps
  left = [np.sum(steps >= t) for t in range(1, steps.max() + 1)]
  assert len(sizes) == len(left) and {68} < set(sizes) <= {68, 34, 17, 9}
  assert all(size >= n and (size < 2 * n or size == 9) for size, n in zip(sizes, left))


def test_the_margin_is_the_least_that_changes_so_few_answers(network, images):
  x = np.concatenate([images, 2 * images, images[::-1] - 1])
  final = np.asarray(network(x)).argmax(-1)

  def percent_changed(margin):
    return 100 * np.mean(tcljax.answer_early(network, x, margin).logits.argmax(-1) != final)

  assert percent_changed(0.0) > 10
  margins = [
    tcljax.choose_margin(network, [x[:20], x[20:]], changed=changed) for changed in (0.0, 10.0)
  ]
  assert margins[0] > margins[1] > 0
  assert percent_changed(margins[0]) == 0 and 0 < percent_changed(margins[1]) <= 10
  assert tcljax.choose_margin(network, [x], time_steps=1) <= 1  # nothing comes later
  early = tcljax.answer_early(network, x, margins[1])
  assert early.time_steps.mean() < 14


def test_one_compilation_serves_every_number_of_steps(monkeypatch, network, images):
  chex.clear_trace_counter()
  for module, name in ((early_exit, "in_chunks"), (conversion, "simulate_any_time_steps")):
    monkeypatch.setattr(module, name, chex.assert_max_traces(getattr(module, name), n=2))
  x = images[:5]  # no other test has this size
  for steps in (3, 8, 21):
    network(x, time_steps=steps)
    tcljax.answer_early(network, x, np.inf, time_steps=steps)


@pytest.mark.parametrize(
  "arguments, message",
  [
    ({"margin": -0.5}, "margin=-0.5 must be at least 0"),
    ({"margin": float("nan")}, "margin=nan must be at least 0"),
    ({"margin": 1.0, "time_steps": 0}, "time_steps=0: a simulation takes at least 1 step"),
  ],
)
def test_bad_input_is_told(network, images, arguments, message):
  with pytest.raises(ValueError, match=message):
    tcljax.answer_early(network, images, **arguments)


def test_bad_input_for_the_margin_is_told(network, images):
  with pytest.raises(ValueError, match="inputs have shape"):
    tcljax.answer_early(network, images[:, :4], 1.0)
  with pytest.raises(ValueError, match="changed=101 must be a percentage"):
    tcljax.choose_margin(network, [images], changed=101)
  with pytest.raises(ValueError, match="batches is empty"):
    tcljax.choose_margin(network, [])


def test_the_margin_of_one_output_is_its_distance_from_0():
  """Some leave early, nobody's sign changes by more than was asked for, and sure ones go first."""
  model, x = Dense(1), inputs(200)
  network = tcljax.convert(model, calibrated(model), (6,), tcljax.SpikingConfig(time_steps=16))
  final = np.asarray(network(x))[:, 0] > 0
  assert 0 < final.sum() < 200

  def percent_changed(margin):
    early = tcljax.answer_early(network, x, margin)
    return 100 * np.mean((early.logits[:, 0] > 0) != final), early.time_steps

  assert percent_changed(0.0)[0] > 5 and set(percent_changed(np.inf)[1]) == {16}
  for changed in (0.0, 2.0):
    margin = tcljax.choose_margin(network, [x[:80], x[80:]], changed=changed)
    percent, steps = percent_changed(margin)
    assert 0 < margin < np.inf and percent <= changed
    assert 1 < steps.mean() < 16 and len(set(steps)) > 2


def test_what_leaves_early_is_measured_by_the_sign_of_one_output():
  model, x = Dense(1), inputs(64)
  network = tcljax.convert(model, calibrated(model), (6,), tcljax.SpikingConfig(time_steps=16))
  classes = np.int32(np.asarray(network(x))[:, 0] > 0)
  assert set(classes) == {0, 1}
  split = tcljax.data.Split(x, classes)
  experiment = SimpleNamespace(
    spiking=network.spiking,
    snn=network.spiking,
    seed=0,
    eval=SimpleNamespace(batch_size=32),
    preprocess=lambda images: images,
    dataset=SimpleNamespace(train=split, test=split),
  )
  found = conversion_run.measure_early_exit(experiment, network, changed=0.0)
  assert found["accuracy"] == found["accuracy_at_the_end"] == 100
  assert 1 < found["mean_time_steps"] < 16


class Segmenting(Dense):
  """A class for each place of an image."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(self.act(name="act1")(nn.Dense(4)(x)))


class Flat(Dense):
  """One number for each input, without an axis for classes."""

  @nn.compact
  def __call__(self, x):
    return nn.Dense(1)(self.act(name="act1")(nn.Dense(4)(x.reshape(len(x), -1)))).reshape(-1)


@pytest.mark.parametrize(
  "model, message",
  [
    (Segmenting(), r"output has shape \(16, 4, 4, 3\) for 16 inputs, expected \[batch, classes\]"),
    (Flat(), r"output has shape \(16,\) for 16 inputs, expected"),
  ],
)
def test_outputs_that_are_not_classes_are_told(rng, model, message):
  x = rng.normal(size=(16, 4, 4, 2)).astype(np.float32)
  variables = calibrate_plainly(model, model.init(jax.random.key(0), x), x)
  network = tcljax.convert(model, variables, x.shape[1:])
  with pytest.raises(ValueError, match=message):
    tcljax.answer_early(network, x, 1.0)
  with pytest.raises(ValueError, match=message):
    tcljax.choose_margin(network, [x])


@pytest.mark.parametrize("kind", [tuple, list, lambda pair: {"image": pair[0], "label": pair[1]}])
def test_batches_with_labels_are_told(network, images, kind):
  batch = kind([images, np.zeros(len(images), np.int32)])
  with pytest.raises(
    ValueError, match=r"batches holds a \w+ of 2: give inputs alone, without labels"
  ):
    tcljax.choose_margin(network, [batch])


def test_batches_with_keys_of_either_kind_are_taken(network, images):
  for keys in (
    jax.random.split(jax.random.key(0), 16),
    jax.random.split(jax.random.PRNGKey(0), 16),
  ):
    assert tcljax.choose_margin(network, [(images, keys)]) >= 0


def test_an_output_that_is_not_finite_is_told(network, images):
  images = np.where(np.arange(16)[:, None, None, None] == 3, np.nan, images)
  params = {**network.variables["params"]}
  last = network.graph.nodes[-1].name
  params[last] = jax.tree.map(lambda a: a * np.inf, params[last])
  broken = dataclasses.replace(network, variables={**network.variables, "params": params})
  with pytest.raises(ValueError, match="output is not finite for some of the inputs"):
    tcljax.choose_margin(broken, [images])


def test_the_margin_of_known_answers_by_hand():
  # Of two images over three steps: the first answer of the second is another than its last.
  known = np.array([[[2, 0], [3, 0]], [[4, 0], [0, 1]], [[6, 0], [0, 5]]], float)
  assert early_exit.margin_of_answers(known, 0, 0) > 3
  assert early_exit.margin_of_answers(known, 1, 0) == 1


def test_images_leave_by_the_margin_as_it_was_chosen():
  """Of two margins that differ in the last bit of float32, the lower lets some leave wrong."""
  low = np.float32(0.15)
  high = np.nextafter(low, np.float32(1))
  found = np.stack([np.where(np.arange(10) < 3, low, high), np.ones(10, np.float32)])
  others = np.stack([np.arange(10) < 3, np.zeros(10, bool)])
  margin = early_exit._least_margin(found, others, changed=0)
  assert not others[early_exit.leaving_at(found, margin), np.arange(10)].any()


@pytest.mark.slow
def test_convert_measures_early_exit(workdir, tmp_path, capsys, monkeypatch):
  chosen_on = []
  monkeypatch.setattr(
    conversion_run,
    "choose_margin",
    lambda network, batches, *rest: early_exit.choose_margin(
      network, [chosen_on.append(len(x)) or (x, keys) for x, keys in batches], *rest
    ),
  )
  flags = ["convert.py", f"--workdir={workdir}", f"--output={tmp_path / 'snn'}"]
  assert convert.main([*flags, "--early_exit=5"]) == 0
  assert "early exit at a margin of" in capsys.readouterr().out
  results = json.loads((tmp_path / "snn" / "results.json").read_text())
  found = results["early_exit"]
  assert sum(chosen_on) == 1797 - 360 and chosen_on[-1] < chosen_on[0]  # each image once
  assert 1 <= found["mean_time_steps"] <= found["time_steps"] == 4 and found["margin"] > 0
  assert abs(found["accuracy_at_the_end"] - results["snn"]["4"]) <= 100 * 2 / 360 + 1e-3
  assert abs(found["accuracy"] - found["accuracy_at_the_end"]) < 10
  page = tmp_path / "snn" / "report" / "index.html"
  assert f"at a margin of {found['margin']:.4g}" in page.read_text()
  if CHROMIUM is not None:
    check_page(page, tmp_path)
  assert convert.main([*flags, "--early_exit=-1"]) == 2
  assert "--early_exit=-1.0 must be a percentage" in capsys.readouterr().err
  assert convert.main([*flags, "--early_exit=1", "--multihost"]) == 2
  assert "--early_exit is measured on one host" in capsys.readouterr().err
