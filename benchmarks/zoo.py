"""Small networks in five frameworks, such as people bring, each converted or refused.

    python benchmarks/zoo.py

For each network of `zoo_networks`, in float32 on random inputs:

- `difference`: between the traced network, with thresholds that nothing reaches, and the framework
  itself, as a share of the largest output, at two numbers of examples.
- `error`: between the spiking network after 512 steps and the clipped one, as a share of the
  largest output. Thresholds are the largest activations, and potentials begin at one half.
- `bounds`: the same in units of what rounding alone may cost. A neuron's output then is within
  tau / (2 T) of the clipped one, more than its input is; weights pass on their absolute values of
  that. This holds at every step, and so for spikes that come unevenly too.

A network that is refused has what `tcljax` says of it. Those with trained weights learn
scikit-learn's digits for some seconds; SqueezeNet's come from $TCLJAX_WEIGHTS_DIR.

Rows are written one by one, and a run goes on from those that are there. Remove OUTPUT.json to
measure anew.
"""

import importlib
import os
import re
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")  # before Keras is imported

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ledger import Ledger, parser
from measuring import rounded

import tcljax
from tcljax.layers.activations import Clipped

FRAMEWORKS = {
  "linen": "Flax Linen",
  "nnx": "Flax NNX",
  "equinox": "Equinox",
  "keras": "Keras 3",
  "torch": "PyTorch",
}
_COMMAND = "python benchmarks/zoo.py"
_TIME_STEPS = 512
_EXAMPLES = (3, 4)  # of which the latter are simulated
_SCALE = 1e-30  # of bounds while they are computed: those of deep networks leave float32


class _Spread(Clipped):
  """How far spikes may be off, of how far their currents may be."""

  @nn.compact
  def __call__(self, x):
    """Bounds, [B, ...], pooled as activations are: a maximum is off by no more than all."""
    tau, _ = self.thresholds(x)
    x = self.pooled(x)
    return x + jnp.broadcast_to(tau * (_SCALE / (2 * _TIME_STEPS)), x.shape)


def entries():
  """The networks of all frameworks, by framework."""
  for framework in FRAMEWORKS:
    yield from importlib.import_module(f"zoo_networks.{framework}").NETWORKS


def inputs(shape, count):
  """Random inputs, [count, *shape]."""
  return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


def bounds_of(model, variables, x):
  """How far each output of a spiking network may be from the clipped one, [1, ...]."""
  weights = jax.tree_util.tree_map_with_path(
    lambda path, a: abs(a) if path[-1].key in ("kernel", "scale") else jnp.zeros_like(a),
    variables["params"],
  )
  spread = jax.jit(model.clone(act=_Spread).apply)
  scaled = spread({**variables, "params": weights}, jnp.zeros_like(x[:1]))
  return np.asarray(scaled, np.float64) / _SCALE


def _with_ending(traced, output):
  """A network's output with the softmax or sigmoid that was left out."""
  dropped = {fate.detail for fate in traced.operations if fate.fate == "dropped"}
  compute = {"softmax": jax.nn.softmax, "log_softmax": jax.nn.log_softmax}
  for name in dropped:
    output = compute.get(name, jax.nn.sigmoid)(output)
  return np.asarray(output)


def measure(entry):
  """The row of a network of the zoo.

  Raises:
    AssertionError: if it is converted or refused otherwise than its entry says.
  """
  row = {"network": entry.name, "framework": entry.framework, "source": entry.source}
  row |= {"trained": entry.trained}
  network = entry.make()
  try:
    traced = network.trace()
  except ValueError as error:
    told = str(error)
    assert entry.refused and re.search(entry.refused, told), f"{entry.name} is refused: {told}"
    return {**row, "refused": told}
  assert not entry.refused, f"{entry.name} is converted"
  x = inputs(network.shape, max(_EXAMPLES))
  answer = jax.jit(lambda x: traced.model.apply(traced.variables, x))
  differences = []
  for count in _EXAMPLES:
    expected = np.asarray(network.answer(x[:count]))
    found = _with_ending(traced, answer(x[:count]))
    differences.append(float(np.abs(found - expected).max() / np.abs(expected).max()))
  return {**row, "populations": len(traced.populations), "difference": max(differences)} | spiking(
    traced, x
  )


def spiking(traced, x):
  """How far the spiking network is from the clipped one on inputs [B, ...]."""
  variables = tcljax.calibrate(
    traced.model, traced.variables, [x], method="maximum", v_init=0.5, instalments=1
  )
  clipped = np.asarray(jax.jit(traced.model.clone(act=tcljax.TCL).apply)(variables, x))
  settings = tcljax.SpikingConfig(time_steps=_TIME_STEPS, chunk=1)
  run = jax.jit(lambda v, x: tcljax.simulate(traced.model, v, x, settings).logits)
  error = np.abs(np.asarray(run(variables, x)) - clipped)
  bounds = bounds_of(traced.model, variables, x)
  return {
    "error": float(error.max() / np.abs(clipped).max()),
    "bounds": float((error / bounds).max()),
  }


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "zoo")
  args = flags.parse_args(argv)
  order = list(FRAMEWORKS)
  ledger = Ledger(
    args.output,
    _COMMAND,
    markdown,
    key=lambda row: (row["framework"], row["network"]),
    order=lambda row: order.index(row["framework"]),
  )
  ledger.take_known()
  known = {(row["framework"], row["network"]) for row in ledger.rows}
  for entry in entries():
    if (entry.framework, entry.name) in known:
      continue
    row = measure(entry)
    figures = {name: rounded(v) if isinstance(v, float) else v for name, v in row.items()}
    print(figures, flush=True)
    ledger.add([figures])
    ledger.write()
  return 0


def markdown(found):
  """The table."""
  rows = found["rows"]
  accepted = [row for row in rows if "refused" not in row]
  ours = sum(not row["source"] for row in rows)
  lines = [
    "# Networks of five frameworks",
    "",
    f"{len(rows)} small networks, {len(rows) - ours} of them of kinds that their framework's own "
    f"documentation or library has. {len(accepted)} are converted, {len(rows) - len(accepted)} "
    "refused. Weights are random, and BatchNorm's statistics too, unless they are said to be "
    "trained. `difference`: from the framework itself, with thresholds that nothing reaches. "
    "`error`: of the spiking network after 512 steps, from the clipped one. Both are shares of the "
    "largest output. `bounds`: that error in units of what rounding may cost, see "
    "`benchmarks/zoo.py`.",
    "",
    "| framework | network | like | weights | populations | difference | error | bounds |",
    "|---|---|---|---|---|---|---|---|",
  ]
  lines += [
    f"| {FRAMEWORKS[row['framework']]} | {row['network']} | {row['source']} "
    f"| {'trained' if row['trained'] else 'random'} | {row['populations']} "
    f"| {row['difference']:.1e} | {row['error']:.1e} | {row['bounds']:.1e} |"
    for row in accepted
  ]
  lines += ["", "Refused:", "", "| framework | network | like | told |", "|---|---|---|---|"]
  lines += [
    f"| {FRAMEWORKS[row['framework']]} | {row['network']} | {row['source']} "
    f"| {row['refused'].replace('|', ' ')} |"
    for row in rows
    if "refused" in row
  ]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
