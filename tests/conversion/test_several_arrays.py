"""Converted networks of several inputs and outputs: called, stored, read by others, refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from several_arrays import (
  KINDS,
  SHAPES,
  T4,
  Joined,
  converted,
  halves,
  inputs,
  joined,
  made,
  simulated,
  whole,
)

import tcljax
from tcljax.conversion.description import digest

IMAGE, VECTOR = inputs()["image"], inputs()["vector"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
  return tcljax.save(converted(), tmp_path_factory.mktemp("several") / "net")


@pytest.fixture(scope="module")
def parted():
  """Of Linen, with tuples; twice the class, as early exit wants one output."""
  return tcljax.convert(Joined(parted=True), joined(), ((2,), [4]), T4)


def test_it_answers_as_its_model_is_simulated(parted):
  found, (expected, _) = converted()(inputs()), simulated(made()[1], inputs())
  assert list(found) == list(expected) == ["box", "class"]
  for name in KINDS:
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
  assert parted.input_shape == ((2,), (4,))
  one = tcljax.convert(Joined(), joined(), (6,), T4)(whole())
  together = np.concatenate(parted(halves(whole())), axis=-1)
  np.testing.assert_allclose(together, one, rtol=1e-4, atol=1e-5)


def test_what_is_stored_names_inputs_and_outputs_and_loads_the_same(stored):
  about = json.loads((stored / "network.json").read_text())
  assert about["format"] == 9 and about["input_shape"] == {"image": [6, 6, 1], "vector": [3]}
  assert about["output"].keys() == KINDS.keys()
  loaded = tcljax.load(stored)
  assert (loaded.graph, loaded.input_shape) == (converted().graph, SHAPES)
  found, expected = loaded(inputs()), converted()(inputs())
  for name in KINDS:
    np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"format": 5, "output": "dense:4"}, "input_shape=.* must be of type list"),
    ({"format": 5, "input_shape": [3]}, "output=.* must be of type str"),
    ({"metadata": "x" * 10000}, r"metadata='x+\.\.\. of the description must be of type dict"),
    ({"output": {}}, "output holds an empty object"),
    ({"output": {"class": []}}, "output holds an empty list"),
    ({"output": {"class": 3}}, "output holds 3, which stands for no array"),
    ({"output": {"class": "x"}}, r"the output\['class'\] 'x' is not a node"),
    ({"output": {"a/b": "dense:4"}}, "the name 'a/b' of an input or output is empty, too long or"),
    ({"output": ["dense:4"] * 257}, "it has 257 outputs, and 256 are the most"),
    ({"input_shape": {"image": [6, 6, 1], "vector": [0]}}, r"input_shape\['vector'\]=0 must be a"),
    ({"input_shape": {"image": [6, 6, 1], "": [3]}}, "the name '' of an input or output is empty"),
    ({"input_shape": [[6, 6, 1], 3]}, "input_shape holds 3, which stands for no array"),
    ({"input_shape": [[6, 6, 1]]}, "it reads 'input:1', which no node before it makes"),
    (
      {"input_shape": [[6, 6, 1], [3], *[[4096, 4096]] * 4]},
      "it has 67108903 numbers in the input",
    ),
    ({"input_shape": [[6, 6, 1], *[[3]] * 256]}, "it has 257 inputs, and 256 are the most"),
  ],
)
def test_descriptions_of_others_are_refused(stored, tmp_path, fields, message):
  folder = tmp_path / "net"
  folder.mkdir()
  (folder / "weights.safetensors").write_bytes((stored / "weights.safetensors").read_bytes())
  tree = json.loads((stored / "network.json").read_text()) | fields
  (folder / "network.json").write_text(json.dumps(tree | {"sha256": digest(tree)}))
  with pytest.raises(ValueError, match=f"^spiking network .*: .*({message})") as told:
    tcljax.load(folder)
  assert "\n" not in str(told.value)


@pytest.mark.parametrize("number", (5, 6, 7, 8))
def test_a_network_of_the_format_before_loads_the_same(network, tmp_path, number):
  path = tcljax.save(network, tmp_path / "net", step=False)
  tree = json.loads((path / "network.json").read_text()) | {"format": number}
  for field in ("phase", "burst", "signed")[: 1 if number == 8 else 3]:  # which came with 9 and 8
    del tree["spiking"]["neuron"][field]
  if number < 7:
    (path / "README.md").unlink()
    del tree["files"]["README.md"]
  (path / "network.json").write_text(json.dumps(tree | {"sha256": digest(tree)}))
  loaded = tcljax.load(path)
  assert (loaded.graph, loaded.input_shape) == (network.graph, network.input_shape)
  assert loaded.spiking == network.spiking


@pytest.mark.parametrize(
  "x, message",
  [
    ({"image": IMAGE}, "inputs has no 'vector': give a dictionary of 'image', 'vector'"),
    (IMAGE, "inputs is one array: give a dictionary of 'image', 'vector'"),
    (
      {"image": IMAGE, "vector": VECTOR[:5]},
      r"inputs\['vector'\] has 5 rows and inputs\['image'\]",
    ),
    (
      {"image": IMAGE, "vector": VECTOR[:, :2]},
      r"inputs\['vector'\] have shape \(16, 2\), expected \(batch, 3\)",
    ),
    (
      {"image": IMAGE, "vector": VECTOR.astype(str)},
      r"inputs\['vector'\] of shape .* give real num",
    ),
  ],
)
def test_inputs_that_do_not_fit_are_told_by_their_leaf(x, message):
  with pytest.raises(ValueError, match=f"^{message}"):
    converted()(x)


def test_of_frames_all_inputs_have_as_many_examples():
  spiking = tcljax.SpikingConfig(time_steps=4, encoding="frames")
  network = dataclasses.replace(converted(), spiking=spiking)
  image, vector = (np.stack([a] * 4) for a in (IMAGE, VECTOR))
  with pytest.raises(
    ValueError, match=r"^inputs\['vector'\] has 5 examples and inputs\['image'\] 16"
  ):
    network({"image": image, "vector": vector[:, :5]})


@pytest.mark.parametrize(
  "input_shape, message",
  [
    ({"image": (6, 6, 1)}, "x has no 'vector'"),
    ({**SHAPES, "vector": (-3,)}, r"input_shape=\(-3,\) must be a sequence of integers"),
    ({**SHAPES, "vector": 3}, "input_shape=3 must be a sequence of integers"),
    ({}, "input_shape={} holds no shapes: give one for each input"),
    ((6, 6, 1), "x is one array: give a dictionary of 'image', 'vector'"),
  ],
)
def test_shapes_that_do_not_fit_are_told(input_shape, message):
  with pytest.raises(ValueError, match=message):
    tcljax.convert(*made(), input_shape, T4)


def test_early_exit_takes_several_inputs_and_one_output(parted):
  for call in (
    lambda: tcljax.answer_early(parted, halves(whole()), 0.1),
    lambda: tcljax.choose_margin(parted, [halves(whole())]),
  ):
    with pytest.raises(
      ValueError, match=r"^the network answers with a tuple of 2 arrays: early ex"
    ):
      call()
  one = tcljax.convert(_First(parted=True), joined(), ((2,), (4,)), T4)
  x = halves(whole())
  margin = tcljax.choose_margin(one, [x], changed=0)
  early = tcljax.answer_early(one, x, margin)
  assert (early.logits.argmax(-1) == np.asarray(one(x)).argmax(-1)).all()
  keys = jax.random.split(jax.random.key(0), 16)
  assert tcljax.choose_margin(one, [(x, None)], changed=0) == margin
  assert tcljax.choose_margin(one, [(x, keys)], changed=0) == margin  # which the encoding ignores


class _First(Joined):
  def __call__(self, x):
    return super().__call__(x)[0]
