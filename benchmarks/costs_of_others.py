"""Costs by tcljax beside those that NeuroBench and sinabs count of the same network in PyTorch.

    python benchmarks/costs_of_others.py

Makes an environment of its own with pip, for NeuroBench 2.3.0, sinabs 3.1.3 and PyTorch, which
tcljax itself does not need. There `benchmarks/torch_costs.py` builds each network anew from its
arrays, with the heights of spikes folded into the weights. The inputs are digits that come with
scikit-learn; weights are as they were initialized, as what is trained does not matter here.

Writes OUTPUT.json and .md, and ends with status 1 where figures differ.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import flax.linen as nn
import jax
import numpy as np
from environments import environment, last_words
from ledger import ROOT, Ledger, parser

import tcljax
from tcljax.data import load_dataset
from tcljax.graph.operations import find
from tcljax.graph.record import Kind

_COMMAND = "python benchmarks/costs_of_others.py"
_PACKAGES = ("torch>=2.10", "neurobench==2.3.0", "sinabs==3.1.3")
_COUNTER = pathlib.Path(__file__).with_name("torch_costs.py")
# What NeuroBench calls its metrics where they have names of their own.
_CLASSES = {
  "footprint": "Footprint",
  "connection_sparsity": "ConnectionSparsity",
  "activation_sparsity": "ActivationSparsity",
}
_IMAGES, _TIME_STEPS = 64, 16


class Plain(nn.Module):
  """Convolutions, one in strides, and two products."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    """Logits of images, [B, 8, 8, 1]."""
    x = self.act(name="act1")(nn.Conv(16, (3, 3), padding=1)(x))
    x = self.act(name="act2")(nn.Conv(24, (3, 3), strides=2, padding=1)(x))
    x = self.act(name="act3")(nn.Dense(32)(x.reshape(len(x), -1)))
    return nn.Dense(10)(x)


class Residual(nn.Module):
  """Blocks whose shortcut has no weights, and weights; one convolution is in groups."""

  act: object = tcljax.ReLU

  @nn.compact
  def __call__(self, x):
    """Logits of images, [B, 8, 8, 1]."""
    x = self.act(name="act1")(nn.Conv(16, (3, 3), padding=1)(x))
    y = self.act(name="act2")(nn.Conv(16, (3, 3), padding=1, feature_group_count=4)(x))
    x = self.act(name="act3")(x + nn.Conv(16, (3, 3), padding=1)(y))
    y = nn.Conv(24, (3, 3), strides=2, padding=1)(x)
    x = self.act(name="act4")(y + nn.Conv(24, (1, 1), strides=2, padding=0)(x))
    return nn.Dense(10)(x.reshape(len(x), -1))


# By name: a model, and the share of its weights that are set to 0.
NETWORKS = {
  "plain": (Plain(), 0.0),
  "residual": (Residual(), 0.0),
  "residual, pruned": (Residual(), 0.3),
}


def converted(model, pruned, images):
  """The spiking network."""
  variables = dict(model.init(jax.random.key(0), images))
  rng = np.random.default_rng(0)
  drop = lambda a: np.where((a.ndim > 1) & (rng.random(a.shape) < pruned), 0, a).astype(np.float32)
  params = jax.tree.map(drop, variables["params"])
  variables = tcljax.calibrate(
    model, {**variables, "params": params}, [images], per_channel=False, instalments=1
  )
  return tcljax.convert(
    model, variables, images.shape[1:], tcljax.SpikingConfig(time_steps=_TIME_STEPS)
  )


def export(network, images, folder):
  """Writes what `torch_costs.py` reads."""
  nodes, arrays = [], {"images": images}
  for node in network.graph.nodes:
    nodes.append(
      {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        "settings": dict(node.settings),
      }
    )
    held = dict(network.variables["params"].get(node.name, {}))
    if find(node.op).kind is Kind.NEURONS:
      own = network.variables["clipping"][node.name]
      held = {
        "threshold": tcljax.threshold_from_raw(own["raw_threshold"]),
        "v_init": own["v_init"],
      }
    arrays |= {f"{node.name}/{key}": np.asarray(a, np.float32) for key, a in held.items()}
  described = {"nodes": nodes, "time_steps": _TIME_STEPS}
  (folder / "network.json").write_text(json.dumps(described))
  np.savez(folder / "arrays.npz", **arrays)


def counted(python, network, images):
  """What `torch_costs.py` prints of a network."""
  with tempfile.TemporaryDirectory() as name:
    export(network, images, pathlib.Path(name))
    done = subprocess.run(
      [python, "-I", _COUNTER, name], check=False, capture_output=True, text=True
    )
    if done.returncode:
      raise ValueError(f"{_COUNTER.name} failed: {last_words(done.stderr)}")
  return json.loads(done.stdout.splitlines()[-1])


def rows_of(name, network, images, found):
  """A row for each figure: `network`, `figure`, `tcljax`, and what others count, None for nothing.

  sinabs counts the connections of weights that are 0 too, so that a pruned network has none of it.
  """
  ours = tcljax.costs(network, images)
  figures, theirs = ours.neurobench(), found["neurobench"]
  figures |= figures.pop("synaptic_operations")
  theirs |= theirs.pop("SynapticOperations")
  rows = [
    {
      "network": name,
      "figure": figure,
      "tcljax": float(value),
      "neurobench": theirs[_CLASSES.get(figure, figure)],
    }
    for figure, value in figures.items()
  ]
  if not ours.connection_sparsity:
    rows += [
      {
        "network": name,
        "figure": f"synaptic operations, {layer}",
        "tcljax": float(ours.layers[layer].synaptic_operations.sum()),
        "sinabs": value,
      }
      for layer, value in found["sinabs"].items()
    ]
  return rows


def differ(row):
  """Whether the figures of a row are not the same, beyond the rounding of sums in 32 bits."""
  return any(
    abs(row[who] - row["tcljax"]) > 1e-6 * abs(row["tcljax"])
    for who in ("neurobench", "sinabs")
    if who in row
  )


def main(argv=None):
  """Runs the comparison."""
  flags = parser(__doc__, "costs_of_others")
  flags.add_argument("--environment", type=pathlib.Path, default=ROOT / "runs" / "costs_of_others")
  args = flags.parse_args(argv)
  data = load_dataset("digits").test.images[:_IMAGES]
  images = (data / np.float32(255) - np.float32(0.3)) / np.float32(0.4)
  ledger = Ledger(args.output, _COMMAND, markdown)
  ledger.shared = {"images": _IMAGES, "time_steps": _TIME_STEPS, "largest_logit_error": 0.0}
  rows = []
  try:
    python = environment(args.environment.absolute(), [_PACKAGES])
    networks = {name: converted(*given, images) for name, given in NETWORKS.items()}
    counts = {name: counted(python, network, images) for name, network in networks.items()}
  except ValueError as error:
    print(f"costs_of_others: {error}", file=sys.stderr)
    return 2
  for name, network in networks.items():
    found = counts[name]
    error = float(np.abs(np.asarray(found["logits"]) - np.asarray(network(images))).max())
    ledger.shared["largest_logit_error"] = max(ledger.shared["largest_logit_error"], error)
    rows += rows_of(name, network, images, found)
  ledger.add(rows)
  ledger.write()
  if wrong := [row for row in rows if differ(row)]:
    print("\n".join(map(str, ["figures differ:", *wrong])), file=sys.stderr)
  return 1 if wrong else 0


def markdown(found):
  """The table."""
  lines = [
    "# Costs beside those of NeuroBench and sinabs",
    "",
    f"Mean of {found['images']} digits, T = {found['time_steps']}, of networks that were written "
    "again in PyTorch; the logits there differ by "
    f"{found['largest_logit_error']:.1e} at most. Figures of NeuroBench have its names; synaptic "
    "operations of a layer are sinabs'.",
    "",
    "| network | figure | tcljax | NeuroBench 2.3.0 | sinabs 3.1.3 |",
    "|---|---|---|---|---|",
  ]
  shown = lambda value: "" if value is None else f"{value:.10g}"
  lines += [
    f"| {row['network']} | {row['figure']} | "
    + " | ".join(shown(row.get(who)) for who in ("tcljax", "neurobench", "sinabs"))
    + " |"
    for row in found["rows"]
  ]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
