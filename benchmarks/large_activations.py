"""Accuracy at many steps of a SqueezeNet, whose activations reach 3,000 and have no BatchNorm.

    python benchmarks/large_activations.py --images=PATH

$TCLJAX_WEIGHTS_DIR holds squeezenet_v10.npz, the published SqueezeNet 1.0. PATH is an npz file of
images of ImageNet's classes: `jpeg`, the bytes of all images of 256x256 pixels one after the other,
`offsets` where they begin and end, and `labels`. Thresholds come from the images whose number is 0,
1 or 2 modulo 5, and accuracy is measured on the others.

The network is an ordinary Flax module, which `tcljax.from_flax` traces: 26 populations, maximum
pooling of spikes by gates. Writes OUTPUT.json and .md, which can be had in parts, by --time_steps
and --methods: figures that OUTPUT.json holds of the same images are kept, those of tuned thresholds
if --minutes is the same too. Remove the file to measure anew.
"""

import io
import itertools
import pathlib
import sys

import numpy as np
from ledger import Ledger, parser
from PIL import Image
from zoo_networks import squeezenet

import tcljax

_METHODS = ("least_squares", "delivered", "tuned")
_SIDE = 227
_MEAN = np.float32([103.94, 116.78, 123.68])  # of blue, green and red
_CALIBRATED = 32  # images
_BATCH = 4  # images at a time


def main(argv=None):
  """Runs the benchmark."""
  flags = parser(__doc__, "large_activations")
  flags.add_argument("--images", required=True, help="npz file of JPEG images")
  flags.add_argument("--time_steps", default="32,64", help="numbers of steps T")
  flags.add_argument("--methods", default=",".join(_METHODS), help="how thresholds are found")
  flags.add_argument("--minutes", type=float, default=60.0, help="of tuning, for each T")
  args = flags.parse_args(argv)
  methods = args.methods.split(",")
  if unknown := set(methods) - set(_METHODS):
    flags.error(f"--methods={args.methods}: {unknown.pop()!r} is none of {', '.join(_METHODS)}")
  if not squeezenet.are_there():
    sys.exit("large_activations: set TCLJAX_WEIGHTS_DIR to the folder of squeezenet_v10.npz")
  images, labels = _read(args.images)
  for_thresholds = np.arange(len(images)) % 5 < 3
  module, variables = squeezenet.in_linen(squeezenet.weights())
  traced = tcljax.from_flax(module, variables, _preprocessed(images[:1]))
  train, test = images[for_thresholds], (images[~for_thresholds], labels[~for_thresholds])
  ledger = Ledger(args.output, _command(args), markdown, key=_key, order=_order)
  ledger.take_known(_decides)
  for t in map(int, args.time_steps.split(",")):
    for method in methods:
      if (t, method) not in map(_key, ledger.rows):
        spiking = tcljax.SpikingConfig(time_steps=t)
        held, spiking = _thresholds(traced, train, spiking, method, args.minutes)
        found = tcljax.evaluate(
          traced.model, held, *test, spiking, batch_size=_BATCH, preprocess=_preprocessed
        )
        ledger.shared = {"ann": round(found.ann, 2), "images": len(test[0])}
        accuracy = round(float(found.snn[-1]), 2)
        row = {"T": t, "method": method, "accuracy": accuracy, "delay": spiking.delay}
        print(row, flush=True)
        ledger.add([row])
        ledger.command = _command(args, ledger.rows)
        ledger.write()
  return 0


def _command(args, rows=()):
  """The command that makes these rows, wherever the images lie."""
  parts = [f"--images={pathlib.Path(args.images).name}", f"--minutes={args.minutes:g}"]
  if rows:
    methods = {row["method"] for row in rows}
    parts += [
      f"--time_steps={','.join(str(t) for t in sorted({row['T'] for row in rows}))}",
      f"--methods={','.join(method for method in _METHODS if method in methods)}",
    ]
  return " ".join(["python benchmarks/large_activations.py", *parts])


def _decides(row, flag):
  """Whether a flag has a say in the figures of a row."""
  deciding = ("--images=", "--minutes=") if row["method"] == "tuned" else ("--images=",)
  return flag.startswith(deciding)


def _read(path):
  """The centres of the images, uint8 in the order blue, green, red, and their labels."""
  with np.load(path) as found:
    data, ends, labels = found["jpeg"].tobytes(), found["offsets"], found["labels"]
  margin = (256 - _SIDE) // 2
  inner = slice(margin, margin + _SIDE)
  pixels = [
    np.asarray(Image.open(io.BytesIO(data[a:b])).convert("RGB"))[inner, inner, ::-1]
    for a, b in itertools.pairwise(ends)
  ]
  return np.stack(pixels), labels


def _preprocessed(images, key=None):
  del key
  return images.astype(np.float32) - _MEAN


def _thresholds(traced, images, spiking, method, minutes):
  """The variables with thresholds for these settings, and the settings to read them out with."""
  chosen = np.random.default_rng(0).permutation(len(images))[:_CALIBRATED]
  batches = [_preprocessed(images[chosen[i : i + 8]]) for i in range(0, _CALIBRATED, 8)]
  if method == "least_squares":  # at its best with these potentials
    options = {"v_init": 0.5, "instalments": 1}
    held = tcljax.calibrate(traced.model, traced.variables, batches, spiking, **options)
    return held, spiking
  variables = tcljax.calibrate(traced.model, traced.variables, batches, spiking, method="delivered")
  spiking = tcljax.choose_delay(traced.model, variables, batches, spiking)
  if method == "delivered":
    return variables, spiking
  print(f"tuning with a delay of {spiking.delay}", flush=True)
  tuned = tcljax.tune(
    traced.model,
    variables,
    images,
    None,
    spiking,
    minutes=minutes,
    batch_size=_BATCH,
    preprocess=_preprocessed,
    on_metrics=_say,
  )
  return tuned, spiking


def _say(step, metrics):
  """Prints every tenth step how far tuning is, as it takes long."""
  if step % 10 == 0:
    print(f"step {step}, {', '.join(f'{k} {v:.4f}' for k, v in metrics.items())}", flush=True)


def _key(row):
  return row["T"], row["method"]


def _order(row):
  return row["T"], _METHODS.index(row["method"])


def markdown(found):
  """The table."""
  rows = found["rows"]
  steps = sorted({row["T"] for row in rows})
  lines = [
    "# SqueezeNet 1.0, activations up to 3,000",
    "",
    f"In percent of {found['images']} images of ImageNet's classes; the ANN has "
    f"{found['ann']:.2f}. Weights untouched, binary neurons, every step counted. In brackets: the "
    "steps that are read out, where these are not all.",
    "",
    "| method | " + " | ".join(f"T={t}" for t in steps) + " |",
    "|---|" + "---|" * len(steps),
  ]
  cells = {_key(row): _cell(row) for row in rows}
  for method in dict.fromkeys(row["method"] for row in rows):
    lines.append("| " + " | ".join([method, *(cells.get((t, method), "") for t in steps)]) + " |")
  return "\n".join(lines)


def _cell(row):
  last = f" (last {row['T'] - row['delay']})" if row["delay"] else ""
  return f"{row['accuracy']:.2f}{last}"


if __name__ == "__main__":
  sys.exit(main())
