"""Converted networks in other simulators, by NIR: their spikes beside those in tcljax.

    python benchmarks/nir_clients.py

Makes one virtual environment for sinabs and one for SpikingJelly, with pip, unless they are there.
Four networks are written by `tcljax.to_nir`, read by both, and run for T = 64 steps on CIFAR-10
test images (TFDS, from $TFDS_DATA_DIR). Spikes are compared neuron by neuron and step by step:

- "exact": weights, biases and pixels rounded to multiples of powers of two for which all sums are
  exact in float32, whatever their order. Nothing may differ.
- "unrounded": weights as they are. Programs add in different orders, so a neuron whose potential
  is within rounding of its threshold may fire a step earlier or later, and others after it.

The ResNet-20 has the weights resnet20_cifar10.th of $TCLJAX_WEIGHTS_DIR. The others have random
weights and BatchNorm statistics. Writes OUTPUT.json and .md; ends with status 1 where something
differs that may not.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import nir
import numpy as np
from environments import environment, last_words
from ledger import ROOT, Ledger, parser
from nir_cases import NETWORKS, TIME_STEPS, converted, on_a_grid, rounded_pixels

import tcljax
from tcljax.layers.integrate_and_fire import IF
from tcljax.reporting.progress import say
from tcljax.runs import config_forms, experiment
from tcljax.runs.presets import cifar_config

_COMMAND = "python benchmarks/nir_clients.py"
# sinabs asks for nir<=1.0.4, which refuses files with v_reset; it works with what is put over that.
_INSTALLED = {
  "sinabs": (("torch==2.13.0", "sinabs==3.1.3"), ("--no-deps", "nir==1.0.8", "nirtorch==2.6")),
  "spikingjelly": (("torch==2.13.0", "spikingjelly[nir]==2.0.0", "nir==1.0.8"),),
}
_IMAGES = 4
_ROUNDING = 1e-3  # of the threshold; sums of some thousand numbers of float32 over 64 steps


def spikes_of(network, images):
  """The spikes of each population at each step, [T, B, ...], channels first, and the answer."""
  model = network.model.clone(act=functools.partial(IF, neuron=network.spiking.neuron))

  @jax.jit
  def step(variables, images, state):
    output, new = model.apply(
      {**variables, **state},
      images,
      mutable=["membrane", "intermediates"],
      capture_intermediates=lambda module, _: isinstance(module, IF),
    )
    spikes = jax.tree.map(
      lambda y: jax.numpy.moveaxis(y, -1, 1) > 0,
      {name: found["__call__"][0] for name, found in new["intermediates"].items()},
    )
    return {"membrane": new["membrane"]}, spikes, output

  state, _, _ = step(network.variables, images, {})
  spikes, outputs = [], []
  for _ in range(network.spiking.time_steps):
    state, fired, output = step(network.variables, images, state)
    spikes.append(jax.tree.map(np.asarray, fired))
    outputs.append(np.asarray(output))
  return jax.tree.map(lambda *each: np.stack(each), *spikes), np.mean(outputs, axis=0)


def measure(images, spikes, path, python, client):
  """What a client finds: rows of its nodes, and its answer."""
  names = {
    node.metadata["population"]: name
    for name, node in nir.read(path).nodes.items()
    if isinstance(node, nir.IF)
  }
  given = path.with_suffix(".npz")
  bits = {names[population]: np.packbits(fired) for population, fired in spikes.items()}
  np.savez(given, images=np.moveaxis(images, -1, 1), time_steps=TIME_STEPS, **bits)
  script = pathlib.Path(__file__).with_name("nir_client.py")
  environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  done = subprocess.run(
    [python, script, client, path, given], capture_output=True, text=True, check=False, env=environ
  )
  if done.returncode:
    raise ValueError(f"{client} failed: {last_words(done.stderr)}")
  return json.loads(done.stdout.splitlines()[-1])


def figures(answer, found):
  """The figures of one network in one client."""
  nodes, output = found["nodes"], np.array(found["output"])
  differing = [row for row in nodes if row["differ"]]
  figures = {
    "populations": len(nodes),
    "neurons": sum(row["neurons"] for row in nodes) // _IMAGES,
    **{
      key: sum(row[key] for row in nodes)
      for key in ("spikes", "differ", "neurons_differ", "counts_differ")
    },
    "output_differs": float(np.abs(output - answer.reshape(len(answer), -1)).max()),
  }
  if differing:
    figures["first"] = differing[0]["node"]
    figures["first_from_threshold"] = differing[0]["from_threshold"]
  return figures


def main(argv=None):
  """Runs the comparison."""
  flags = parser(__doc__, "nir_clients")
  flags.add_argument("parts", nargs="*", help=f"of {', '.join(NETWORKS)}; by default all")
  flags.add_argument("--environments", type=pathlib.Path, default=ROOT / "runs" / "nir_clients")
  args = flags.parse_args(argv)
  if unknown := set(args.parts) - {*NETWORKS}:
    flags.error(f"{' '.join(sorted(unknown))}: choose from {', '.join(NETWORKS)}")
  titles = [title for title, *_ in NETWORKS.values()]
  ledger = Ledger(
    args.output,
    _COMMAND,
    markdown,
    key=lambda row: row["network"],
    order=lambda row: titles.index(row["network"]),
  )
  ledger.take_known()
  ledger.shared = {"time_steps": TIME_STEPS, "images": _IMAGES}
  try:
    folder = args.environments.absolute()
    pythons = {name: environment(folder / name, steps) for name, steps in _INSTALLED.items()}
    images, training_images = data()
    for part in args.parts or NETWORKS:
      network = converted(part, images, training_images)
      ledger.add({"network": NETWORKS[part][0], **row} for row in compare(network, images, pythons))
      ledger.write()
  except ValueError as error:
    print(f"nir_clients: {error}", file=sys.stderr)
    return 2
  bad = [row for row in ledger.rows if not is_equal(row)]
  for row in bad:
    print(f"nir_clients: {row['network']} differs in {row['client']}: {row}", file=sys.stderr)
  return 1 if bad else 0


def data():
  """Test and training images of CIFAR-10, normalised."""
  config = cifar_config("nir_clients")
  config.data.train_split, config.data.test_split = "train[:200]", f"test[:{_IMAGES}]"
  config.preprocessing.mean = (0.485, 0.456, 0.406)  # of the pretrained weights
  config.preprocessing.std = (0.229, 0.224, 0.225)
  made = experiment.make_experiment(config_forms.parse(config))
  splits = made.dataset.test, made.dataset.train
  return [np.asarray(made.preprocess(split.images)) for split in splits]


def compare(network, images, pythons):
  """The rows of one network, by weights and client."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "network.nir"
    exact = tcljax.from_nir(on_a_grid(tcljax.to_nir(network)))
    grid = rounded_pixels(images)
    for weights, one, x in (("exact", exact, grid), ("unrounded", network, images)):
      tcljax.to_nir(one, path)
      spikes, answer = spikes_of(one, x)
      for client, python in pythons.items():
        found = measure(x, spikes, path, python, client)
        row = {"weights": weights, "client": client, **figures(answer, found)}
        say(json.dumps(row))
        yield row


def is_equal(row):
  """Whether a row is as it must be: no difference, or such as rounding makes."""
  if row["weights"] == "exact" or not row["differ"]:
    return row["differ"] == 0
  return row["first_from_threshold"] < _ROUNDING


def markdown(found):
  """The table."""
  lines = [
    "# Spikes in other simulators, by NIR",
    "",
    f"Networks of tcljax, written by `tcljax.to_nir` and run for {found['time_steps']} steps on "
    f"{found['images']} images of CIFAR-10; spikes compared neuron by neuron and step by step. "
    "`exact`: weights and pixels rounded so that all sums are exact in float32. `unrounded`: as "
    'they are; programs add in different orders. "From threshold" is how far from its threshold, '
    "as a fraction of it, a neuron of the first population that differs was at most, when it did.",
    "",
    "| network | weights | simulator | neurons | spikes | spikes that differ | counts that differ "
    "| from threshold |",
    "|---|---|---|---|---|---|---|---|",
  ]
  for row in found["rows"]:
    off = f"{row['first_from_threshold']:.1e}" if "first" in row else "-"
    cells = [row["network"], row["weights"], row["client"], f"{row['neurons']:,}"]
    cells += [f"{row[key]:,}" for key in ("spikes", "differ", "counts_differ")]
    lines.append("| " + " | ".join([*cells, off]) + " |")
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
