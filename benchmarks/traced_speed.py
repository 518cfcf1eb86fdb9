"""A traced network beside the hand-written one that it was traced from: seconds of each, by turns.

    python benchmarks/traced_speed.py

The VGG-16 for 32x32 images at random weights, batch 32, float32. `tcljax.from_flax` traces it; it
and the hand-written model, which has a field `act`, then take the same steps: calibration of two
batches, one step of tuning for T = 8, simulation for T = 8, conversion, and the converted network.
All has run once before it is timed. A ratio is that of the median times. Calibration and
conversion compile in each call; they take a quarter of --rounds.

Writes OUTPUT.json and .md.
"""

import functools
import sys

import jax
import numpy as np
from ledger import Ledger, command_of, parser
from measuring import in_turns, rounded

import tcljax

_BATCH = 32
_TIME_STEPS = 8
_COMPILING = ("calibrate", "convert")  # anew in each call, so that they take long
_OWN, _TRACED = "hand-written", "traced"
_SETTINGS = tcljax.SpikingConfig(time_steps=_TIME_STEPS)


def steps_of(model, variables, images):
  """The steps from a trained network to its answers as a spiking one.

  Args:
    model: the network.
    variables: its weights.
    images: a batch [B, H, W, C].

  Returns:
    Functions without arguments by what they do.
  """
  calibrate = functools.partial(tcljax.calibrate, model, variables, [images] * 2, _SETTINGS)
  calibrated = calibrate()
  whole = tcljax.SpikingConfig(time_steps=_TIME_STEPS, chunk=_TIME_STEPS)

  def loss(clipping, variables, images):
    return tcljax.simulate(model, {**variables, "clipping": clipping}, images, whole).logits.sum()

  tune = jax.jit(jax.grad(loss))
  simulate = jax.jit(lambda v, x: tcljax.simulate(model, v, x, _SETTINGS).logits)
  convert = functools.partial(tcljax.convert, model, calibrated, images.shape[1:], _SETTINGS)
  network = convert()
  return {
    "calibrate": calibrate,
    "gradient of thresholds": lambda: tune(calibrated["clipping"], calibrated, images),
    "simulate": lambda: simulate(calibrated, images),
    "convert": convert,
    "the converted network": lambda: network(images),
  }


def measure(model, shape, rounds):
  """Yields rows of what is done, seconds of both networks, and traced over hand-written."""
  images = np.random.default_rng(0).normal(size=(_BATCH, *shape)).astype(np.float32)
  variables = jax.jit(model.init)(jax.random.key(0), images[:1])
  traced = tcljax.from_flax(model, variables, images)
  own = steps_of(model, variables, images)
  other = steps_of(traced.model, traced.variables, images)
  for name in own:
    turns = max(1, rounds // 4) if name in _COMPILING else rounds
    seconds = in_turns({_OWN: own[name], _TRACED: other[name]}, turns)
    row = {"what": name, **seconds, "ratio": seconds[_TRACED] / seconds[_OWN]}
    yield {key: rounded(v) if isinstance(v, float) else v for key, v in row.items()}


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "traced_speed")
  flags.add_argument("--rounds", type=int, default=11)
  args = flags.parse_args(argv)
  if args.rounds < 1:
    flags.error(f"--rounds={args.rounds} must be at least 1")
  ledger = Ledger(args.output, command_of("traced_speed", flags, args), markdown)
  ledger.add(measure(tcljax.VGG16(num_classes=10), (32, 32, 3), args.rounds))
  ledger.write()
  return 0


def markdown(found):
  """The table."""
  lines = [
    "# A traced network beside the hand-written one",
    "",
    f"VGG-16, 32x32 images, batch {_BATCH}, T = {_TIME_STEPS}, float32.",
    "",
    f"| | {_OWN}, s | {_TRACED}, s | ratio |",
    "|---|---|---|---|",
  ]
  lines += [
    f"| {row['what']} | {row[_OWN]:.3f} | {row[_TRACED]:.3f} | {row['ratio']:.3f} |"
    for row in found["rows"]
  ]
  return "\n".join(lines)


if __name__ == "__main__":
  sys.exit(main())
