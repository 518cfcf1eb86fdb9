"""README.md, the model card: it says what is known, and quotes what others wrote."""

import dataclasses

import pytest
from small_networks import Dense, calibrated

import tcljax

ACCURACY = {
  "data": "digits, the test images",
  "images": 360,
  "ann": 98.25,
  "snn": {"1": 50, "4": 97},
}
KNOWN = {
  "name": "digits",
  "dataset": "digits",
  "class_names": ["zero", "o|ne`"],
  "preprocessing": {"scale": 1 / 255, "mean": [0.5], "std": [0.25]},
  "input_range": [-2.0, 2.0],
  "accuracy": ACCURACY,
}


def text_of(network, folder, **metadata):
  made = dataclasses.replace(network, metadata=metadata)
  return (tcljax.save(made, folder / "net") / "README.md").read_text()


def test_it_says_what_is_known(network, tmp_path):
  text = text_of(network, tmp_path, **KNOWN, trained_by="us")
  _, front, body = text.split("---\n", 2)
  assert 'library_name: tcljax\ntags:\n- "spiking-neural-network"\n' in front
  assert "license" not in front and '- "digits"\n' in front
  for words in (
    "# digits\n",
    "| time steps T | 6; another T can be asked for |\n"
    f"| steps where each layer takes one | T + {len(network.graph.populations())} |\n"
    "| spikes of a neuron in a step | 0 or 1 |\n| reset of a neuron | hard |",
    "| `x` | `[B, 8, 8, 3]` |",
    "with scale 0.00392157,\nmean 0.5 and std 0.25",
    "So inputs are\nfrom -2 to 2.",
    "| `output` | `[B, 10]` |",
    "| 0 | `zero` |\n| 1 | `o/ne'` |",
    "In percent, on 360 images of `digits, the test images`.",
    "| 1 | 50.00 |\n| 4 | 97.00 |",
    "for _ in range(6):",
    '"trained_by": "us"',
  ):
    assert words in body


class OfNumbers(Dense):
  """Answers with one number for each input, [B]."""

  def __call__(self, x):
    return super().__call__(x)[..., 0]


@pytest.mark.parametrize(
  ("model", "last"),
  [
    (Dense(1), "axis=0))\n"),
    (OfNumbers(1), "axis=0))\n"),
    (Dense(3), "axis=0).argmax(axis=-1))\n"),
  ],
)
def test_its_program_prints_the_class_where_the_largest_output_says_it(tmp_path, model, last):
  made = tcljax.convert(model, calibrated(model), (6,))
  assert f"in results], {last}```" in text_of(made, tmp_path)


@pytest.mark.parametrize(
  "fields, words",
  [
    ({"burst": 4}, "0 to 4 |"),
    ({"signed": True}, "-1 to 1; it takes back no more"),
    ({"phase": 4}, "0 or 1; its height halves from step to step, in periods of 4 steps |"),
  ],
)
def test_it_says_what_neurons_can_send(network, tmp_path, fields, words):
  spiking = tcljax.SpikingConfig(4, neuron=tcljax.Neuron(**fields))
  text = text_of(dataclasses.replace(network, spiking=spiking), tmp_path)
  assert f"| spikes of a neuron in a step | {words}" in text


def test_it_says_what_is_not_known(network, tmp_path):
  text = text_of(network, tmp_path)
  assert "# A spiking network\n" in text and "pipeline_tag" not in text
  assert "It was not measured" in text and "How its inputs were prepared is not known" in text


@pytest.mark.parametrize(
  "odd", (3, None, "a\n---\n# b", "`" * 3, [], {}, ["x"], {"snn": 3}, {"snn": {"x": "y"}}, 10**400)
)
def test_what_somebody_wrote_never_becomes_markdown(network, tmp_path, odd):
  text = text_of(network, tmp_path, **dict.fromkeys([*KNOWN, "note"], odd))
  assert text.count("\n---\n") == 1 and "# b" not in text.replace("\\n# b", "")
  assert text.count("```") == 6 and "# A spiking network\n" in text
